// Package bustest is the suite that every bus passes. Each test names the guarantee of package
// bus, or the duty of its users, that it proves.
package bustest

import (
	"context"
	"testing"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

// Config says how to make the bus under test and what it can do.
type Config struct {
	// New makes an empty bus that holds about maxBytes; 0 means at least 64 MiB. The suite
	// closes it.
	New func(t testing.TB, maxBytes int) bus.Bus
	// Follows tells that Publish waits for Follow streams.
	Follows bool
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	t.Helper()
	for _, tt := range []struct {
		name string
		run  func(*testing.T, Config)
	}{
		{"streams give everything in order, whole and once", testOrder},
		{"a new stream starts behind what was published", testFromNow},
		{"a stream resumes at any position", testResume},
		{"the ends of the window can be opened", testWindow},
		{"a position before the window is not held", testTooOld},
		{"a position beyond the newest is not held", testTooNew},
		{"a stream that fell off the window never skips", testFellOff},
		{"publishing again changes nothing", testAgain},
		{"a batch out of order is refused", testDisorder},
		{"a gap of everything ends an unfinished transaction", testStartAnew},
		{"waiting ends with its context", testCancel},
		{"a bus that began anew holds nothing from before", testRestart},
		{"positions stay good where nothing but promises followed", testPromises},
		{"closing ends everything", testClose},
		{"a follower is never lost", testFollow},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, c)
		})
	}
}

// timeout bounds every wait of the suite.
const timeout = 20 * time.Second

func setup(t *testing.T, c Config, maxBytes int) (context.Context, bus.Bus) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	t.Cleanup(cancel)
	b := c.New(t, maxBytes)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close bus: %v", err)
		}
	})
	return ctx, b
}

func publish(ctx context.Context, t fataler, b bus.Bus, batches ...*cdc.Batch) {
	t.Helper()
	for _, batch := range batches {
		if err := b.Publish(ctx, batch); err != nil {
			t.Fatalf("publish %v: %v", batch.Position(), err)
		}
	}
}

func open(ctx context.Context, t fataler, b bus.Bus, after cdc.Position) bus.Stream {
	t.Helper()
	s, err := b.Stream(ctx, after)
	if err != nil {
		t.Fatalf("open stream after %v: %v", after, err)
	}
	return s
}

// fataler is what *testing.T and *rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// read reads batches until the position end.
func read(ctx context.Context, t fataler, s bus.Stream, end cdc.Position) []*cdc.Batch {
	t.Helper()
	var out []*cdc.Batch
	for {
		b, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("read behind %d batches: %v", len(out), err)
		}
		out = append(out, b)
		if b.Position().Compare(end) >= 0 {
			return out
		}
	}
}
