package fanout_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/fanout/bus/membus"
)

// The ways in which a snapshot and the stream can miss each other, one by one. The property tests
// find them too, given time.

// Covers C103.
func TestTransactionBeingJudgedWhileASnapshotSeesItIsNotToldTwice(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "ann", "a"))
		snapshot, judge := make(chan struct{}), make(chan struct{})
		w.atSnapshot = func() { <-snapshot }
		w.verdict = func(p *authz.Principal, image cdc.Row) authz.Verdict {
			<-judge
			return policy(p, image)
		}
		d := w.start(fanout.Config{})
		c := w.subscribe(d, "ann", "snapshot: true")
		synctest.Wait() // it is attached
		w.write(put(2, "ann", "b"))
		synctest.Wait() // the Judge has it
		close(snapshot)
		c.expect("RESET", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "LIVE")
		synctest.Wait()
		close(judge)
		w.write(put(3, "ann", "c"))
		c.expect("INSERT 3 c")
		w.end(c)
	})
}

// parts gives a transaction of two batches, and makes it visible to snapshots.
func (w *world) parts(first, second write) (*cdc.Batch, *cdc.Batch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.commit += 16
	tx := cdc.Transaction{XID: uint32(5000 + len(w.xids) ^ 1), Commit: w.commit}
	state := map[int]cdc.Row{}
	for id, r := range w.states[len(w.states)-1] {
		state[id] = r
	}
	state[first.id], state[second.id] = first.row, second.row
	w.states, w.xids, w.touched = append(w.states, state), append(w.xids, tx.XID), append(w.touched, []int{first.id, second.id})
	w.setVisibleLocked(len(w.xids))
	insert := func(seq uint32, r cdc.Row) []cdc.Event {
		return []cdc.Event{{Op: cdc.Insert, Seq: seq, Relation: w.relation, New: r}}
	}
	return &cdc.Batch{Transaction: tx, Events: insert(0, first.row)}, &cdc.Batch{Transaction: tx, Events: insert(1, second.row), Last: true}
}

func (w *world) send(b *cdc.Batch) {
	w.t.Helper()
	if err := w.bus.Publish(w.t.Context(), b); err != nil {
		w.t.Fatalf("publish: %v", err)
	}
}

// end closes what a bubble of synctest must not leave behind.
func (w *world) end(clients ...*client) {
	for _, c := range clients {
		c.sub.Close()
	}
	w.stop()
	_ = w.bus.Close()
}

// Covers C103.
func TestSnapshotInTheMiddleOfATransactionDropsItsHeldBackFrame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "ann", "a"))
		snapshot := make(chan struct{})
		w.atSnapshot = func() { <-snapshot }
		d := w.start(fanout.Config{})
		c := w.subscribe(d, "ann", "snapshot: true")
		synctest.Wait() // it is attached
		first, second := w.parts(put(2, "ann", "b"), put(3, "ann", "c"))
		w.send(first)
		synctest.Wait() // row 2 is held back: it may be its transaction's last
		close(snapshot)
		c.expect("RESET", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "SNAPSHOT 3 c", "LIVE")
		synctest.Wait()
		w.send(second)
		w.write(put(4, "ann", "d"))
		c.expect("INSERT 4 d")
		w.end(c)
	})
}

// Covers C108.
func TestSubscriptionNeverStartsInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "ann", "a"))
		d := w.start(fanout.Config{})
		first, second := w.parts(put(2, "ann", "b"), put(3, "ann", "c"))
		w.send(first)
		synctest.Wait()
		c := w.follow(d, "ann", "")
		w.send(second)
		w.write(put(4, "ann", "d"))
		c.expect("INSERT 4 d")
		w.end(c)
	})
}

// A countingBus counts the streams that replays open.
type countingBus struct {
	bus.Bus
	streams atomic.Int32
}

func (b *countingBus) Stream(ctx context.Context, after cdc.Position) (bus.Stream, error) {
	b.streams.Add(1)
	return b.Bus.Stream(ctx, after)
}

// Covers S13.
func TestFramesHeldForASnapshotAreBoundedAndReadAgainFromTheBus(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ held, replays int }{{1 << 20, 0}, {1000, 1}} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, membus.Config{})
			w.write(put(1, "ann", "a"))
			snapshot := make(chan struct{})
			w.atSnapshot = func() { <-snapshot }
			counting := &countingBus{Bus: w.bus}
			d := w.start(fanout.Config{Bus: counting, Limits: fanout.Limits{HeldBytes: tt.held}})
			c := w.subscribe(d, "ann", "snapshot: true")
			synctest.Wait() // it is attached
			for i := range 10 {
				w.publish(t.Context(), 1, put(10+i, "ann", "b")) // the snapshot does not see them
			}
			synctest.Wait()
			close(snapshot)
			c.expect("RESET", "SNAPSHOT 1 a", "LIVE")
			for len(c.rows) < 11 {
				if _, err := c.read(t.Context()); err != nil {
					t.Fatalf("read: %v", err)
				}
			}
			if n := int(counting.streams.Load()); n != tt.replays {
				t.Errorf("with %d bytes held, the bus was read %d times, want %d", tt.held, n, tt.replays)
			}
			w.end(c)
		})
	}
}
