package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/fanout/bus/membus"
)

// rewind puts the world back to before everything that committed, with positions that come again.
func (w *world) rewind() {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	if err := w.bus.Restart("timeline"); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commit -= 64
}

// A server that goes on from an earlier place of its history is told as what it is: everybody
// starts over, in band where they can, and a change at a position that was there before arrives.
//
// Covers C33, C34, C36.
func TestHistoryThatBeginsAnewIsToldToEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"))
	w.write(put(2, "ann", "b"))
	cursors := codec(t, fanout.CursorConfig{Secret: []byte("a secret of the tests, long enough"), System: 7, Timeline: 1})
	d := w.start(fanout.Config{Cursors: cursors, OnRestart: func() {
		if err := cursors.Switch(fanout.CursorConfig{Secret: []byte("a secret of the tests, long enough"), System: 7, Timeline: 2, Forks: map[uint32]cdc.LSN{1: 1000}}); err != nil {
			t.Error(err)
		}
	}})
	heals := w.subscribe(d, "ann", "snapshot: true")
	heals.expect("RESET", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "LIVE")
	ends := w.follow(d, "ann", "")
	w.write(put(3, "ann", "c"))
	heals.expect("INSERT 3 c")
	ends.expect("INSERT 3 c")
	old := ends.last

	w.rewind()
	heals.expect("RESET timeline", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "SNAPSHOT 3 c", "LIVE")
	ends.expectResync("timeline")
	w.write(put(4, "ann", "d"))
	heals.expect("INSERT 4 d")
	w.write(put(5, "ann", "e"))
	w.write(put(6, "ann", "f"), put(7, "ann", "g"))
	w.write(put(8, "ann", "h"))
	w.write(put(9, "ann", "i"))
	w.write(put(10, "ann", "j"))
	heals.expect("INSERT 5 e", "INSERT 6 f", "INSERT 7 g", "INSERT 8 h", "INSERT 9 i", "INSERT 10 j")

	// The old cursor's position lies in the window again.
	w.subscribe(d, "ann", fmt.Sprintf("after: %q, snapshot: true", old)).expect("RESET retention")
	if _, err := cursors.Decode(old); !errors.Is(err, fanout.ErrCursor) {
		t.Errorf("the old cursor gives %v", err)
	}
	w.subscribe(d, "ann", fmt.Sprintf("after: %q", heals.last)).expect("LIVE")
}

// A breaker is a bus that begins anew when a replay has read all that it wanted, and lets the
// replay have that only when the dispatcher has gone on.
type breaker struct {
	bus.Bus
	at    cdc.Position
	begin func()
}

func (b *breaker) Stream(ctx context.Context, after cdc.Position) (bus.Stream, error) {
	s, err := b.Bus.Stream(ctx, after)
	return &breakerStream{s, b}, err
}

type breakerStream struct {
	bus.Stream
	b *breaker
}

func (s *breakerStream) Next(ctx context.Context) (*cdc.Batch, error) {
	batch, err := s.Stream.Next(ctx)
	if err == nil && batch.Position() == s.b.at {
		s.b.begin()
	}
	return batch, err
}

// A replay that has read up to where the old history ended does not go on there: behind that
// position nothing would come for long.
func TestReplayThatMeetsANewHistoryStartsOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "ann", "a"))
		b := &breaker{Bus: w.bus}
		d := w.start(fanout.Config{Bus: b})
		c := w.follow(d, "ann", "")
		for i := range 10 {
			w.write(put(100+i, "ann", "x"))
		}
		synctest.Wait()
		_, b.at = w.bus.Window()
		b.begin = sync.OnceFunc(func() { w.rewind(); synctest.Wait() })
		again := w.subscribe(d, "ann", fmt.Sprintf("after: %q, snapshot: true", *c.got[0].Cursor))
		for m := (message{}); m.Kind != "LIVE"; again.apply(m) {
			var err error
			if m, err = again.read(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.write(put(3, "ann", "new"))
		again.expect("INSERT 3 new")
	})
}
