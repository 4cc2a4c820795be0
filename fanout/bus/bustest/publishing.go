package bustest

import (
	"context"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

// testAgain publishes a prefix of a log, then again from an earlier transaction on, divided
// differently: what a crash of the publisher before its acknowledgement does.
func testAgain(t *testing.T, c Config) {
	rapid.Check(t, func(rt *rapid.T) {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		b := c.New(t, 0)
		defer b.Close()
		s := open(ctx, rt, b, cdc.Position{})
		log := drawLog(rt)
		n := rapid.IntRange(0, len(log)).Draw(rt, "published")
		publish(ctx, rt, b, log[:n]...)
		from := rapid.IntRange(0, n).Draw(rt, "again from")
		for from > 0 && !log[from-1].Last { // a replay starts with a transaction
			from--
		}
		publish(ctx, rt, b, rebatch(rt, log[from:])...)
		end := log[len(log)-1].Position()
		if d := cmp.Diff(flatten(log), flatten(read(ctx, rt, s, end))); d != "" {
			rt.Fatalf("(-want +got):\n%s", d)
		}
		if _, newest := b.Window(); newest != end {
			rt.Fatalf("newest is %v, want %v", newest, end)
		}
	})
}

func testDisorder(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	publish(ctx, t, b, transaction(100, 2, 2)[0])
	for name, batch := range map[string]*cdc.Batch{
		"another transaction inside one": transaction(200, 1)[0],
		"an empty batch in the middle":   {Transaction: cdc.Transaction{Commit: 100}},
		"no commit LSN":                  {Last: true},
	} {
		if err := b.Publish(ctx, batch); !errors.Is(err, bus.ErrOrder) {
			t.Errorf("%s: %v, want ErrOrder", name, err)
		}
	}
	if _, newest := b.Window(); newest != (cdc.Position{Commit: 100, Seq: 1}) {
		t.Errorf("newest is %v, so something was published", newest)
	}
}

func testStartAnew(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	s := open(ctx, t, b, cdc.Position{})
	publish(ctx, t, b, transaction(100, 2, 2)[0])
	gap := &cdc.Batch{
		Transaction: cdc.Transaction{Commit: 200},
		Events:      []cdc.Event{{Op: cdc.Gap, Reason: "slot_lost"}},
		Last:        true,
	}
	publish(ctx, t, b, gap)
	got := read(ctx, t, s, gap.Position())
	if last := got[len(got)-1]; last.Commit != 200 || last.Events[0].Op != cdc.Gap || last.Events[0].Reason != "slot_lost" {
		t.Errorf("read %+v, want the gap", last)
	}
}

func testCancel(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	s := open(ctx, t, b, cdc.Position{})
	short, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() {
		_, err := s.Next(short)
		done <- err
	}()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v, want context.Canceled", err)
	}
	want := transaction(10, 1)
	publish(ctx, t, b, want...)
	if d := cmp.Diff(flatten(want), flatten(read(ctx, t, s, want[0].Position()))); d != "" {
		t.Errorf("after a cancelled wait (-want +got):\n%s", d)
	}
}

func testClose(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	publish(ctx, t, b, transaction(10, 1)...)
	closed := open(ctx, t, b, cdc.Position{})
	for range 2 {
		if err := closed.Close(); err != nil {
			t.Errorf("close stream: %v", err)
		}
	}
	if _, err := closed.Next(ctx); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("read a closed stream: %v, want ErrClosed", err)
	}
	s := open(ctx, t, b, cdc.Position{})
	done := make(chan error, 1)
	go func() {
		_, err := s.Next(ctx)
		done <- err
	}()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Errorf("close bus: %v", err)
		}
	}
	if err := <-done; !errors.Is(err, bus.ErrClosed) {
		t.Errorf("read a closed bus: %v, want ErrClosed", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close stream of a closed bus: %v", err)
	}
	if err := b.Publish(ctx, transaction(20, 1)[0]); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("publish to a closed bus: %v, want ErrClosed", err)
	}
	if _, err := b.Stream(ctx, cdc.Position{}); !errors.Is(err, bus.ErrClosed) {
		t.Errorf("open a stream of a closed bus: %v, want ErrClosed", err)
	}
}

// testFollow lets a follower read behind a publisher that fills the window many times over.
func testFollow(t *testing.T, c Config) {
	ctx, b := setup(t, c, 32<<10)
	s, err := b.Follow(ctx, cdc.Position{})
	if err != nil {
		t.Fatalf("follow: %v", err)
	}
	if !c.Follows {
		if err := s.Close(); err != nil {
			t.Errorf("close stream: %v", err)
		}
		return
	}
	const n = 512
	done := make(chan error, 1)
	go func() {
		for i := range cdc.LSN(n) {
			if err := b.Publish(ctx, heavy(100+i, 1<<10)); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for i := range cdc.LSN(n) {
		batch, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("read behind %d batches: %v", i, err)
		}
		if batch.Commit != 100+i {
			t.Fatalf("read %s, want %s", batch.Commit, 100+i)
		}
	}
	if err := <-done; err != nil {
		t.Errorf("publish: %v", err)
	}
}
