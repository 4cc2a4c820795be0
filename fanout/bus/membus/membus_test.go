package membus_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/fanout/bus/bustest"
	"github.com/rowtide/rowtide/fanout/bus/membus"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// Covers C04, C17, C19, C20, C21.
func TestMemoryBusPassesTheSuite(t *testing.T) {
	t.Parallel()
	bustest.Run(t, bustest.Config{
		Follows: true,
		New: func(t testing.TB, maxBytes int) bus.Bus {
			t.Helper()
			return newBus(t, membus.Config{MaxBytes: maxBytes})
		},
	})
}

func newBus(t testing.TB, c membus.Config) *membus.Bus {
	t.Helper()
	b, err := membus.New(c)
	if err != nil {
		t.Fatalf("make bus: %v", err)
	}
	return b
}

func batch(commit cdc.LSN, size int) *cdc.Batch {
	return &cdc.Batch{
		Transaction: cdc.Transaction{Commit: commit},
		Events:      []cdc.Event{{Op: cdc.Insert, New: cdc.Row{cdc.TextValue(strings.Repeat("x", size))}}},
		Last:        true,
	}
}

func TestBatchesAreHeldForMaxAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, membus.Config{MaxAge: time.Minute})
		first := batch(10, 1)
		publish(t, b, first)
		<-time.After(50 * time.Second) // the test's own clock
		publish(t, b, batch(20, 1))
		if _, err := b.Stream(t.Context(), first.Position()); err != nil {
			t.Errorf("stream within the age: %v", err)
		}
		<-time.After(50 * time.Second)
		publish(t, b, batch(30, 1))
		if oldest, _ := b.Window(); oldest != first.Position() {
			t.Errorf("the window starts at %v, want %v", oldest, first.Position())
		}
		<-time.After(time.Hour)
		if _, err := b.Stream(t.Context(), first.Position()); !errors.Is(err, bus.ErrNotHeld) {
			t.Errorf("stream beyond the age: %v, want ErrNotHeld", err)
		}
	})
}

func TestWhatAFollowerHasNotReadIsHeldHoweverOld(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, membus.Config{MaxAge: time.Minute})
		s, err := b.Follow(t.Context(), cdc.Position{})
		if err != nil {
			t.Fatalf("follow: %v", err)
		}
		for i := range cdc.LSN(3) {
			publish(t, b, batch(10+i, 1))
			<-time.After(time.Hour)
		}
		for i := range cdc.LSN(3) {
			if x, err := s.Next(t.Context()); err != nil || x.Commit != 10+i {
				t.Fatalf("read %v, %v, want %s", x, err, 10+i)
			}
		}
	})
}

func TestPublishWaitsForTheSlowestFollower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, membus.Config{MaxBytes: 100_000, MaxLag: 10_000})
		slow, err := b.Follow(t.Context(), cdc.Position{})
		if err != nil {
			t.Fatalf("follow: %v", err)
		}
		published := 0
		go func() {
			for i := range cdc.LSN(100) {
				if err := b.Publish(t.Context(), batch(10+i, 1000)); err != nil {
					return
				}
				published++
			}
		}()
		synctest.Wait()
		if published < 5 || published > 11 {
			t.Errorf("%d batches of 1,000 bytes went past a follower that may be 10,000 behind", published)
		}
		before := published
		for range 4 {
			if _, err := slow.Next(t.Context()); err != nil {
				t.Fatalf("read: %v", err)
			}
		}
		synctest.Wait()
		if got := published - before; got != 3 {
			t.Errorf("a follower that has read 3 batches and works on the fourth let %d more in, want 3", got)
		}
		if err := slow.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		synctest.Wait()
		if published != 100 {
			t.Errorf("%d batches published when nobody follows, want 100", published)
		}
	})
}

func TestPublishGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	b := newBus(t, membus.Config{MaxLag: 1})
	if _, err := b.Follow(t.Context(), cdc.Position{}); err != nil {
		t.Fatalf("follow: %v", err)
	}
	publish(t, b, batch(10, 1000))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Publish(ctx, batch(20, 1000)); !errors.Is(err, context.Canceled) {
		t.Errorf("publish: %v, want context.Canceled", err)
	}
	if _, newest := b.Window(); newest.Commit != 10 {
		t.Errorf("newest is %v, so the batch was published all the same", newest)
	}
}

func publish(t *testing.T, b bus.Bus, batches ...*cdc.Batch) {
	t.Helper()
	for _, x := range batches {
		if err := b.Publish(t.Context(), x); err != nil {
			t.Fatalf("publish %s: %v", x.Commit, err)
		}
	}
}

// A publisher that is cut off while it waits does not know how much of its transactions is held: it publishes them again
// from the beginning, divided as it comes, as often as it takes. A follower gets each event once and in order.
//
// Covers C15.
func TestWhatIsPublishedAgainAfterBeingCutOffIsHeldOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const transactions, events = 20, 12
		b := newBus(t, membus.Config{MaxLag: 400})
		s, err := b.Follow(t.Context(), cdc.Position{})
		if err != nil {
			t.Fatal(err)
		}
		tries, divided := 0, 0
		go func() {
			for n := range cdc.LSN(transactions) {
				for done := false; !done; tries++ {
					ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond) // the test's own clock
					size := 1 + tries%5
					done = true
					for from := 0; from < events && done; from += size {
						part := numbered(10+10*n, from, min(from+size, events), events)
						if done = b.Publish(ctx, part) == nil; !done && from > 0 {
							divided++
						}
					}
					cancel()
				}
			}
		}()
		for n := range cdc.LSN(transactions) {
			for seq := uint32(0); seq < events; {
				<-time.After(200 * time.Millisecond)
				x, err := s.Next(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for i := range x.Events {
					if x.Commit != 10+10*n || x.Events[i].Seq != seq {
						t.Fatalf("read event %d of %s, want %d of %s", x.Events[i].Seq, x.Commit, seq, 10+10*n)
					}
					seq++
				}
			}
		}
		synctest.Wait()
		if divided < 5 {
			t.Errorf("of %d tries %d ended within a transaction: that says little", tries, divided)
		}
	})
}

// numbered is a part of a transaction of so many events.
func numbered(commit cdc.LSN, from, to, all int) *cdc.Batch {
	b := &cdc.Batch{Transaction: cdc.Transaction{Commit: commit}, Last: to == all}
	for i := from; i < to; i++ {
		b.Events = append(b.Events, cdc.Event{Op: cdc.Insert, New: cdc.Row{cdc.TextValue(strings.Repeat("x", 100))}, Seq: uint32(i)}) //nolint:gosec // small
	}
	return b
}
