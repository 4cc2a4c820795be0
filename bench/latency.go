package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
)

// schema has one table without policies and one whose policy has to be judged.
const schema = `
CREATE TABLE feed (id bigint PRIMARY KEY, owner text NOT NULL, topic int NOT NULL, sent bigint NOT NULL, payload text NOT NULL);
CREATE TABLE owned (LIKE feed INCLUDING ALL);
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON owned FOR SELECT TO %s
  USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT ON feed, owned TO %s;
COMMENT ON TABLE feed IS '@subscribe(rowSecurity: NOT_REQUIRED)';
COMMENT ON TABLE owned IS '@subscribe';`

// Latency measures, one commit at a time, how long a change takes from the moment its INSERT is
// sent, and from the moment its commit is answered, to a raw consumer of the WAL and to a frame
// on a WebSocket, with and without a policy. Both consumers follow the same commits. Then it
// measures when the last of many sockets has a change.
type Latency struct {
	Rounds      int `help:"Commits measured, after a tenth as many to warm up." default:"2000"`
	Subscribers int `help:"Sockets that get each commit in the last part." default:"100"`
}

func (*Latency) needs() bedConfig { return bedConfig{schema: schema, clients: true} }

func (s *Latency) measure(ctx context.Context, b *bed) (*Result, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	raw, err := newRawConsumer(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer raw.close(ctx)
	r := newResult("latency", b.version, s.Rounds, "p50 µs", "p90 µs", "p99 µs", "max µs")
	_, err = b.measured("latency", func() error {
		for _, table := range []string{"feed", "owned"} {
			if err := b.measureTable(ctx, conn, raw, table, s.Rounds, r); err != nil {
				return fmt.Errorf("measure table %s: %w", table, err)
			}
		}
		if err := s.many(ctx, b, conn, raw, r); err != nil {
			return fmt.Errorf("measure %d subscribers: %w", s.Subscribers, err)
		}
		return nil
	})
	return r, err
}

// A sample is one commit: how long after its sending each thing came.
type sample struct{ answered, raw, frame time.Duration }

func (b *bed) measureTable(ctx context.Context, conn *pgx.Conn, raw *rawConsumer, table string, rounds int, result *Result) error {
	frames, err := b.follow(ctx, table)
	if err != nil {
		return err
	}
	defer frames.CloseNow() //nolint:errcheck // it was read, and is of no more use
	warmup := rounds / 10
	samples := make([]sample, 0, rounds)
	for i := range rounds + warmup {
		s, err := oneCommit(ctx, conn, raw, frames, table, i)
		if err != nil {
			return err
		}
		if i >= warmup {
			samples = append(samples, s)
		}
	}
	base := result.durations(table+": sent to raw consumer", samples, func(s sample) time.Duration { return s.raw })
	frame := result.durations(table+": sent to frame", samples, func(s sample) time.Duration { return s.frame })
	result.durations(table+": sent to answered", samples, func(s sample) time.Duration { return s.answered })
	result.durations(table+": answered to raw consumer", samples, func(s sample) time.Duration { return s.raw - s.answered })
	late := result.durations(table+": answered to frame", samples, func(s sample) time.Duration { return s.frame - s.answered })
	result.ratio(table+": sent to frame / sent to raw consumer, p50", frame/base, "at most 1.3")
	result.ratio(table+": answered to frame, p50, in ms", late/1e3, "at most 0.25")
	return nil
}

// durations adds a series and gives its median.
func (r *Result) durations(name string, samples []sample, of func(sample) time.Duration) float64 {
	d := make([]time.Duration, len(samples))
	for i := range samples {
		d[i] = of(samples[i])
	}
	p := percentiles(d)
	r.add(name, p...)
	return p[0]
}

// follow opens a subscription and waits until it is live.
func (b *bed) follow(ctx context.Context, table string) (*client.Client, error) {
	token, err := rowtide.Token(rowtide.Config{JWTSecret: benchSecret}, role, json.RawMessage(`{"sub":"me"}`), time.Hour)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, "ws://"+b.address()+"/graphql", token)
	if err != nil {
		return nil, err
	}
	if err := c.Subscribe(ctx, "1", "subscription { "+table+" { kind row { id payload } cursor } }", nil); err != nil {
		return nil, err
	}
	m, err := c.Next(ctx)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(string(m.Payload), `"LIVE"`) {
		return nil, fmt.Errorf("want LIVE, got %s %s", m.Type, m.Payload)
	}
	return c, nil
}

const insertOne = " VALUES ($1, 'me', 1, 0, 'a payload of ordinary length')"

func oneCommit(ctx context.Context, conn *pgx.Conn, raw *rawConsumer, frames *client.Client, table string, id int) (sample, error) {
	var s sample
	start := time.Now()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		at, err := raw.wait(gctx, id)
		s.raw = at.Sub(start)
		return err
	})
	g.Go(func() error {
		m, err := frames.Next(gctx)
		s.frame = time.Since(start)
		if err != nil {
			return err
		}
		return wantRow(m.Payload, table, id)
	})
	g.Go(func() error {
		_, err := conn.Exec(gctx, "INSERT INTO "+table+insertOne, id)
		s.answered = time.Since(start)
		return err
	})
	return s, g.Wait()
}

// wantRow makes sure that what was timed is what was written.
func wantRow(payload json.RawMessage, table string, id int) error {
	var r struct {
		Data map[string]struct {
			Kind string
			Row  struct{ ID string }
		}
	}
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	if c := r.Data[table]; c.Kind != "INSERT" || c.Row.ID != strconv.Itoa(id) {
		return fmt.Errorf("want the insert of row %d, got %s", id, payload)
	}
	return nil
}

// feedQuery asks for what the clients of the load process check.
const feedQuery = "subscription { feed { row { id sent } } }"

// many measures when the last of many sockets has a row, against the raw consumer.
func (s *Latency) many(ctx context.Context, b *bed, conn *pgx.Conn, raw *rawConsumer, result *Result) error {
	if err := b.subscribers(s.Subscribers, 1); err != nil {
		return err
	}
	const firstID = 1 << 40 // apart from those of the first part
	samples := make([]sample, 0, s.Rounds)
	for i := range s.Rounds/4 + 1 {
		if err := b.load.expect(s.Subscribers); err != nil {
			return err
		}
		start := time.Now()
		if _, err := conn.Exec(ctx, "INSERT INTO feed"+insertOne, firstID+i); err != nil {
			return err
		}
		at, err := raw.wait(ctx, firstID+i)
		if err != nil {
			return err
		}
		r, err := b.load.await()
		if err != nil {
			return err
		}
		samples = append(samples, sample{raw: at.Sub(start), frame: time.Unix(0, r.Last).Sub(start)})
	}
	name := fmt.Sprintf("%d subscribers", s.Subscribers)
	result.durations(name+": sent to raw consumer", samples, func(s sample) time.Duration { return s.raw })
	result.durations(name+": sent to the last frame", samples, func(s sample) time.Duration { return s.frame })
	late := result.durations(name+": raw consumer to the last frame", samples, func(s sample) time.Duration { return s.frame - s.raw })
	result.ratio(name+": raw consumer to the last frame, p50, in ms", late/1e3, "at most 1.0")
	return nil
}
