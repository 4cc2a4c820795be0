package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/testcontainers"
)

// LatencyConfig sets up Latency.
type LatencyConfig struct {
	// Rounds is how many commits are measured. Defaults to 2,000.
	Rounds int
}

// latencySchema has one table without policies and one whose policy has to be judged.
const latencySchema = `
CREATE ROLE bench_user NOLOGIN;
CREATE TABLE plain (id bigint PRIMARY KEY, owner text NOT NULL, payload text NOT NULL);
CREATE TABLE owned (LIKE plain INCLUDING ALL);
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON owned FOR SELECT TO bench_user
  USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT ON plain, owned TO bench_user;
COMMENT ON TABLE plain IS '@subscribe(rowSecurity: NOT_REQUIRED)';
COMMENT ON TABLE owned IS '@subscribe';`

// benchSecret signs the tokens of a server that lives for one run on loopback.
const benchSecret = "a secret for one benchmark run only"

// Latency measures, one commit at a time, how long a change takes from the moment its INSERT is
// sent, and from the moment its commit is answered, to a raw consumer of the WAL and to a frame
// on a WebSocket, with and without a policy. Both consumers follow the same commits.
func Latency(ctx context.Context, cfg LatencyConfig) (*Result, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 2000
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	bed, err := newLatencyBed(ctx)
	if err != nil {
		return nil, err
	}
	defer bed.close(ctx)

	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return bed.serve(gctx) })
	var result *Result
	g.Go(func() error {
		defer cancel()
		var err error
		result, err = bed.measure(gctx, cfg.Rounds)
		return err
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return result, nil
}

// A latencyBed is a private server with the sample loaded, and the service on it.
type latencyBed struct {
	cluster  *testcontainers.Cluster
	url      string
	listener net.Listener
	server   *rowtide.Server
}

func newLatencyBed(ctx context.Context) (*latencyBed, error) {
	cluster, err := testcontainers.Start(ctx, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
	if err != nil {
		return nil, err
	}
	b := &latencyBed{cluster: cluster, url: cluster.URL("postgres", "postgres")}
	if err := b.load(ctx); err != nil {
		b.close(ctx)
		return nil, err
	}
	return b, nil
}

func (b *latencyBed) load(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, latencySchema); err != nil {
		return fmt.Errorf("load benchmark schema: %w", err)
	}
	if b.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return err
	}
	b.server, err = rowtide.New(rowtide.Config{
		DatabaseURL: b.url, Dev: true, Roles: []string{"bench_user"}, JWTSecret: benchSecret,
		Logger: slog.New(slog.DiscardHandler),
	})
	return err
}

func (b *latencyBed) serve(ctx context.Context) error { return b.server.Serve(ctx, b.listener) }

func (b *latencyBed) close(ctx context.Context) {
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	_ = b.cluster.Stop(stop)
}

func (b *latencyBed) measure(ctx context.Context, rounds int) (*Result, error) {
	if err := b.server.WaitReady(ctx); err != nil {
		return nil, err
	}
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var version string
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&version); err != nil {
		return nil, err
	}
	raw, err := newRawConsumer(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer raw.close(ctx)
	version, _, _ = strings.Cut(version, " ")
	result := &Result{Scenario: "latency", Postgres: version, Rounds: rounds, Ratios: map[string]float64{}}
	for _, table := range []string{"plain", "owned"} {
		if err := b.measureTable(ctx, conn, raw, table, rounds, result); err != nil {
			return nil, fmt.Errorf("measure table %s: %w", table, err)
		}
	}
	return result, nil
}

// A sample is one commit: how long after its sending each thing came.
type sample struct{ answered, raw, frame time.Duration }

func (b *latencyBed) measureTable(ctx context.Context, conn *pgx.Conn, raw *rawConsumer, table string, rounds int, result *Result) error {
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
	series := func(name string, of func(sample) time.Duration) Series {
		d := make([]time.Duration, len(samples))
		for i := range samples {
			d[i] = of(samples[i])
		}
		s := newSeries(table+": "+name, d)
		result.Series = append(result.Series, s)
		return s
	}
	series("sent to answered", func(s sample) time.Duration { return s.answered })
	base := series("sent to raw consumer", func(s sample) time.Duration { return s.raw })
	frame := series("sent to frame", func(s sample) time.Duration { return s.frame })
	series("answered to raw consumer", func(s sample) time.Duration { return s.raw - s.answered })
	series("answered to frame", func(s sample) time.Duration { return s.frame - s.answered })
	result.Ratios[table+": sent to frame / sent to raw consumer"] = frame.P50 / base.P50
	return nil
}

// follow opens a subscription and waits until it is live.
func (b *latencyBed) follow(ctx context.Context, table string) (*client.Client, error) {
	token, err := rowtide.Token(rowtide.Config{JWTSecret: benchSecret}, "bench_user", json.RawMessage(`{"sub":"me"}`), time.Hour)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, "ws://"+b.listener.Addr().String()+"/graphql", token)
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
		_, err := conn.Exec(gctx, "INSERT INTO "+table+" VALUES ($1, 'me', 'a payload of ordinary length')", id)
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
