package bustest

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

func testRestart(t *testing.T, c Config) {
	ctx, b := setup(t, c, 0)
	publish(ctx, t, b, transaction(1000, 3, 2)...)
	behind := open(ctx, t, b, cdc.Position{})
	reading := open(ctx, t, b, cdc.Position{Commit: 1000})
	if err := b.Restart("timeline"); err != nil {
		t.Fatalf("restart: %v", err)
	}
	if oldest, newest := b.Window(); !oldest.IsZero() || !newest.IsZero() {
		t.Errorf("the window is %v to %v", oldest, newest)
	}
	if _, err := b.Stream(ctx, cdc.Position{Commit: 1000}); !errors.Is(err, bus.ErrNotHeld) {
		t.Errorf("a position from before: %v", err)
	}
	log := transaction(500, 2, 1)
	now := open(ctx, t, b, cdc.Position{})
	publish(ctx, t, b, log...)
	if d := cmp.Diff(flatten(log), flatten(read(ctx, t, now, log[len(log)-1].Position()))); d != "" {
		t.Errorf("(-published +read):\n%s", d)
	}
	for range 2 { // it stays there
		for _, s := range []bus.Stream{behind, reading} {
			_, err := s.Next(ctx)
			var broken *bus.Break
			if !errors.As(err, &broken) || broken.Reason != "timeline" || !errors.Is(err, bus.ErrNotHeld) {
				t.Errorf("a stream from before: %v", err)
			}
		}
	}
}

func testPromises(t *testing.T, c Config) {
	ctx, b := setup(t, c, 4<<10)
	log := transaction(10, 2)
	publish(ctx, t, b, log...)
	after := log[len(log)-1].Position()
	for i := range cdc.LSN(200) { // far more than it holds
		publish(ctx, t, b, &cdc.Batch{Transaction: cdc.Transaction{Commit: 100 + i}, Last: true})
	}
	s := open(ctx, t, b, after)
	next := transaction(1000, 1)
	publish(ctx, t, b, next...)
	want, got := flatten(next), flatten(read(ctx, t, s, next[0].Position()))
	if d := cmp.Diff(want, got[max(len(got)-len(want), 0):]); d != "" {
		t.Errorf("behind the promises (-want +got):\n%s", d)
	}
}
