package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
)

// Load is the load process: it reads orders from in, and reports to out, until in ends.
func Load(ctx context.Context, in io.Reader, out io.Writer) error {
	dec, enc := json.NewDecoder(in), json.NewEncoder(out)
	c := &clients{failed: make(chan error, 1)}
	defer c.hangUp()
	for {
		var o order
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read order: %w", err)
		}
		r, err := c.obey(ctx, o)
		if r == nil {
			r = &report{}
		}
		if err != nil {
			r.Error = err.Error()
		}
		if err := enc.Encode(r); err != nil {
			return fmt.Errorf("report: %w", err)
		}
	}
}

// clients are all sockets of the load process.
type clients struct {
	sockets []*socket
	// live counts the subscriptions that have got LIVE; frames the rows that have come, and
	// due is how many of them there should be in the end.
	live, frames, due atomic.Int64
	first, last       atomic.Int64
	failed            chan error
}

func (c *clients) obey(ctx context.Context, o order) (*report, error) {
	switch o.Do {
	case doOpen:
		return nil, c.open(ctx, o)
	case doExpect:
		c.expect(o.Frames)
		return nil, nil //nolint:nilnil // there is nothing to report
	case doAwait:
		return c.await(ctx)
	case doWrite:
		return c.write(ctx, o)
	case doChurn:
		return nil, c.churn(ctx, o.Frames)
	case doFlood:
		return c.flood(ctx, o)
	case doHangUp:
		c.hangUp()
		return nil, nil //nolint:nilnil // there is nothing to report
	}
	return nil, fmt.Errorf("unknown order %q", o.Do)
}

// connecting is how many sockets are opened at once.
const connecting = 16

// patience is how long the clients wait for anything while nothing comes.
const patience = time.Minute

func (c *clients) open(ctx context.Context, o order) error {
	before := len(c.sockets)
	for n := range o.Sockets {
		c.sockets = append(c.sockets, &socket{c: c, number: before + n, sparse: o.Sparse})
	}
	want := c.live.Load() + int64(o.Sockets*o.PerSocket)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(connecting)
	for _, s := range c.sockets[before:] {
		g.Go(func() error { return s.open(gctx, o) })
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("open sockets: %w", err)
	}
	return c.until(ctx, func() int64 { return c.live.Load() }, want)
}

// until waits until a count is reached, as long as it rises.
func (c *clients) until(ctx context.Context, count func() int64, want int64) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	at, seen := time.Now(), count()
	for {
		n := count()
		switch {
		case n >= want:
			return nil
		case n != seen:
			at, seen = time.Now(), n
		case time.Since(at) > patience:
			return fmt.Errorf("%d of %d have come, and nothing more for %s", n, want, patience)
		}
		select {
		case err := <-c.failed:
			return err
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// fail keeps the first thing that was wrong.
func (c *clients) fail(err error) {
	select {
	case c.failed <- err:
	default:
	}
}

func (c *clients) expect(frames int) {
	c.first.Store(0)
	c.due.Store(c.frames.Load() + int64(frames))
}

func (c *clients) await(ctx context.Context) (*report, error) {
	if err := c.until(ctx, c.frames.Load, c.due.Load()); err != nil {
		return nil, err
	}
	if n := c.frames.Load(); n > c.due.Load() {
		return nil, fmt.Errorf("%d frames more than were written", n-c.due.Load())
	}
	r := &report{First: c.first.Load(), Last: c.last.Load(), Frames: int(c.frames.Load())}
	var all histogram
	for _, s := range c.sockets {
		all.take(&s.latency)
	}
	r.P50, r.P90, r.P99, r.Max = all.at(0.5), all.at(0.9), all.at(0.99), all.at(1)
	return r, nil
}

// came counts rows that have come by a time.
func (c *clients) came(rows int, now time.Time) {
	if c.first.Load() == 0 {
		c.first.CompareAndSwap(0, now.UnixNano())
	}
	c.last.Store(now.UnixNano())
	c.frames.Add(int64(rows))
}

// write writes at a steady rate and waits for the frames. Where the server cannot keep up it
// writes as fast as it can.
func (c *clients) write(ctx context.Context, o order) (*report, error) {
	conn, err := pgx.Connect(ctx, o.URL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	total := o.Rate * o.Seconds
	c.expect(total * o.Subscriptions)
	start := time.Now()
	for n := 0; n < total; n += o.PerTransaction {
		due := start.Add(time.Duration(float64(n) / float64(o.Rate) * float64(time.Second)))
		if err := pause(ctx, time.Until(due)); err != nil {
			return nil, err
		}
		rows := min(o.PerTransaction, total-n)
		_, err := conn.Exec(ctx, "INSERT INTO feed SELECT n, 'someone', 1, $3, 'a payload of ordinary length' FROM generate_series($1::bigint, $2::bigint) n",
			o.First+n, o.First+n+rows-1, time.Now().UnixMicro())
		if err != nil {
			return nil, fmt.Errorf("write rows: %w", err)
		}
	}
	wrote := time.Since(start)
	r, err := c.await(ctx)
	if err != nil {
		return nil, err
	}
	r.First, r.Frames = start.UnixNano(), total*o.Subscriptions
	r.Written, r.Wrote = total, wrote
	return r, nil
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// churn subscribes and completes on every socket, over and over: a number of times in all.
func (c *clients) churn(ctx context.Context, times int) error {
	want := c.live.Load() + int64(times)
	each := times / len(c.sockets)
	for i, s := range c.sockets {
		n := each
		if i == 0 {
			n = times - each*(len(c.sockets)-1)
		}
		if err := s.churn(n); err != nil {
			return err
		}
	}
	return c.until(ctx, c.live.Load, want)
}

func (c *clients) hangUp() {
	for _, s := range c.sockets {
		s.close()
	}
	c.sockets = nil
	c.live.Store(0)
}

// token signs the token of a socket's user.
func token(subject string, number int) (string, error) {
	claims, err := json.Marshal(map[string]string{"sub": numbered(subject, "{socket}", number)})
	if err != nil {
		return "", err
	}
	return rowtide.Token(rowtide.Config{JWTSecret: benchSecret}, role, claims, time.Hour)
}

func numbered(s, mark string, n int) string { return strings.ReplaceAll(s, mark, strconv.Itoa(n)) }
