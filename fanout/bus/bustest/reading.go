package bustest

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

func testOrder(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	const streams, transactions = 8, 200
	var log []*cdc.Batch
	for i := range transactions {
		log = append(log, transaction(cdc.LSN(100+10*i), 3, 2, i%3)...)
	}
	end := log[len(log)-1].Position()
	got := make([][]*cdc.Batch, streams)
	var wg sync.WaitGroup
	for i := range streams {
		s := open(ctx, t, b, cdc.Position{})
		wg.Go(func() {
			defer s.Close()
			for {
				batch, err := s.Next(ctx)
				if err != nil {
					t.Errorf("stream %d: %v", i, err)
					return
				}
				got[i] = append(got[i], batch)
				if batch.Position() == end {
					return
				}
			}
		})
	}
	publish(ctx, t, b, log...)
	wg.Wait()
	for i := range got {
		if d := cmp.Diff(flatten(log), flatten(got[i])); d != "" {
			t.Errorf("stream %d (-published +read):\n%s", i, d)
		}
	}
}

func testFromNow(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	publish(ctx, t, b, transaction(10, 1)...)
	s := open(ctx, t, b, cdc.Position{})
	next := transaction(20, 1)
	publish(ctx, t, b, next...)
	if d := cmp.Diff(flatten(next), flatten(read(ctx, t, s, next[0].Position()))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func testResume(t *testing.T, c Config) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		b := c.New(t, 0)
		defer b.Close()
		log := drawLog(rt)
		publish(ctx, rt, b, log...)
		end := log[len(log)-1].Position()
		for _, p := range positions(log) {
			s := open(ctx, rt, b, p)
			want := behind(log, p)
			if len(want) == 0 {
				continue
			}
			if d := cmp.Diff(want, flatten(read(ctx, rt, s, end))); d != "" {
				rt.Fatalf("after %v (-want +got):\n%s", p, d)
			}
		}
	})
}

func testWindow(t *testing.T, c Config) {
	ctx, b := setup(t, c, 32<<10)
	if oldest, newest := b.Window(); !oldest.IsZero() || !newest.IsZero() {
		t.Errorf("window of an empty bus is %v to %v", oldest, newest)
	}
	first := transaction(100, 2)
	publish(ctx, t, b, first...)
	oldest, newest := b.Window()
	if newest != first[0].Position() {
		t.Errorf("newest is %v, want %v", newest, first[0].Position())
	}
	if d := cmp.Diff(flatten(first), flatten(read(ctx, t, open(ctx, t, b, oldest), newest))); d != "" {
		t.Errorf("from the oldest (-published +read):\n%s", d)
	}
	fill(ctx, t, b, 200)
	if oldest, newest = b.Window(); oldest.Compare(first[0].Position()) < 0 {
		t.Fatalf("the window still starts at %v", oldest)
	}
	for _, p := range []cdc.Position{oldest, newest} {
		if err := open(ctx, t, b, p).Close(); err != nil {
			t.Errorf("close stream: %v", err)
		}
	}
}

// fill publishes far more than a window of 32 KiB holds.
func fill(ctx context.Context, t *testing.T, b bus.Bus, from cdc.LSN) {
	t.Helper()
	for i := range cdc.LSN(256) {
		publish(ctx, t, b, heavy(from+i, 1<<10))
	}
}

func testTooOld(t *testing.T, c Config) {
	ctx, b := setup(t, c, 32<<10)
	first := transaction(100, 2)
	publish(ctx, t, b, first...)
	fill(ctx, t, b, 200)
	for _, p := range []cdc.Position{{Commit: 1}, {Commit: 100, Seq: 1}, first[0].Position()} {
		if _, err := b.Stream(ctx, p); !errors.Is(err, bus.ErrNotHeld) {
			t.Errorf("stream after %v: %v, want ErrNotHeld", p, err)
		}
	}
}

func testTooNew(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	if _, err := b.Stream(ctx, cdc.Position{Commit: 5}); !errors.Is(err, bus.ErrNotHeld) {
		t.Errorf("stream of an empty bus after a position: %v, want ErrNotHeld", err)
	}
	publish(ctx, t, b, transaction(100, 2, 2)[0])
	for _, p := range []cdc.Position{{Commit: 100, Seq: 2}, {Commit: 100, Seq: cdc.EndOfTransaction}, {Commit: 101}, {Commit: 1 << 63}} {
		if _, err := b.Stream(ctx, p); !errors.Is(err, bus.ErrNotHeld) {
			t.Errorf("stream after %v: %v, want ErrNotHeld", p, err)
		}
	}
}

func testFellOff(t *testing.T, c Config) {
	ctx, b := setup(t, c, 32<<10)
	s := open(ctx, t, b, cdc.Position{})
	fill(ctx, t, b, 200)
	next := cdc.LSN(200)
	for {
		batch, err := s.Next(ctx)
		if errors.Is(err, bus.ErrNotHeld) {
			break
		}
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if batch.Commit != next {
			t.Fatalf("read %s behind %s: a batch was skipped", batch.Commit, next-1)
		}
		next++
	}
	publish(ctx, t, b, transaction(1000, 1)...)
	if _, err := s.Next(ctx); !errors.Is(err, bus.ErrNotHeld) {
		t.Errorf("read after ErrNotHeld: %v, want ErrNotHeld again", err)
	}
}
