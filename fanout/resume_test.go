package fanout_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

// Covers C19.
func TestResumeInTheMiddleOfATransactionGetsItsRest(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(9, "ann", "0"))
	d := w.start(fanout.Config{})
	c := w.follow(d, "ann", "")
	w.publish(t.Context(), 2, put(1, "ann", "a"), put(2, "ann", "b"), put(3, "ann", "c"), put(4, "bob", "d"), put(5, "ann", "e"))
	w.write(put(1, "ann", "z"))
	c.expect("INSERT 1 a", "INSERT 2 b", "INSERT 3 c", "INSERT 5 e", "UPDATE 1 a-> z")
	want := []string{"INSERT 1 a", "INSERT 2 b", "INSERT 3 c", "INSERT 5 e", "UPDATE 1 a-> z"}
	for i, m := range c.got { // LIVE is the first
		again := w.subscribe(d, "ann", fmt.Sprintf("after: %q", *m.Cursor))
		again.expect(want[i:]...)
		again.expect("LIVE")
		w.write(put(20+i, "ann", "new"))
		news := fmt.Sprintf("INSERT %d new", 20+i)
		again.expect(news)
		want = append(want, news)
		again.sub.Close()
	}
}

// Covers C20, C21, S36.
func TestCursorThatIsNotHeldGetsOneAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{MaxBytes: 2000})
	w.write(put(1, "ann", "a"))
	d := w.start(fanout.Config{})
	old := w.follow(d, "ann", "").last
	for i := range 50 {
		w.write(put(100+i, "bob", "x"))
	}
	w.follow(d, "ann", "") // the dispatcher has come so far
	foreign := codec(t, fanout.CursorConfig{System: 8, Timeline: 1})
	future := codec(t, fanout.CursorConfig{Secret: []byte("a secret of the tests, long enough"), System: 7, Timeline: 1})
	answers := map[string]bool{}
	for name, cursor := range map[string]string{
		"too old":   old,
		"forged":    strings.Repeat("A", 32),
		"not one":   "x",
		"foreign":   foreign.Encode(cdc.Position{Commit: 1016}),
		"of future": future.Encode(cdc.Position{Commit: 1 << 40}),
	} {
		argument := fmt.Sprintf("after: %q", cursor)
		r, err := d.Subscribe(t.Context(), principal("ann", time.Time{}), request(argument))
		if err == nil {
			c := newClient(t, r.Subscription)
			_, err = c.expectEnd()
			r.Subscription.Close()
		}
		var e *schema.Error
		if !errors.As(err, &e) || e.Code != schema.ResyncRequired {
			t.Errorf("%s: %v, want RESYNC_REQUIRED", name, err)
		}
		answers[string(fanout.AppendErrors(nil, err))] = true
		w.subscribe(d, "ann", argument+", snapshot: true").expect("RESET retention", "SNAPSHOT 1 a", "LIVE")
	}
	if len(answers) != 1 {
		t.Errorf("cursors that are not held get %d different answers: %v", len(answers), answers)
	}
}

func TestCursorWithSnapshotResumesWhereItIsHeld(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"))
	d := w.start(fanout.Config{})
	c := w.subscribe(d, "ann", "snapshot: true")
	c.expect("RESET", "SNAPSHOT 1 a", "LIVE")
	w.write(put(2, "ann", "b"))
	w.subscribe(d, "ann", fmt.Sprintf("snapshot: true, after: %q", c.last)).expect("INSERT 2 b", "LIVE")
	w.subscribe(d, "ann", "snapshot: true, after: null").expect("RESET", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "LIVE")
}

// Covers C113.
func TestReplayIsJudgedByPresentClaims(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"))
	d := w.start(fanout.Config{})
	c := w.follow(d, "ann", "")
	w.write(put(2, "ann", "b"))
	w.write(put(3, "bob", "c"))
	c.expect("INSERT 2 b")
	w.subscribe(d, "bob", fmt.Sprintf("after: %q", *c.got[0].Cursor)).expect("INSERT 3 c", "LIVE")
}

func TestReplayMeetsAGapAndResyncs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"))
	d := w.start(fanout.Config{})
	cursor := w.follow(d, "ann", "").last
	w.publishEvents(cdc.Event{Op: cdc.Gap, Relation: w.relation, Reason: "transaction_size"})
	w.write(put(2, "ann", "b"))
	w.follow(d, "ann", "")
	w.subscribe(d, "ann", fmt.Sprintf("after: %q", cursor)).expectResync("transaction_size")
	w.subscribe(d, "ann", fmt.Sprintf("snapshot: true, after: %q", cursor)).
		expect("RESET transaction_size", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "LIVE")
}

// Covers C121, C103.
func TestSnapshotWaitsForWhatWasDispatchedBeforeIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "ann", "a"))
		d := w.start(fanout.Config{})
		other := w.follow(d, "ann", "")
		w.publish(t.Context(), 1, put(2, "ann", "b")) // committed, streamed, and not yet visible
		other.expect("INSERT 2 b")
		c := w.subscribe(d, "ann", "snapshot: true")
		synctest.Wait()
		w.publish(t.Context(), 1, put(3, "ann", "c")) // dispatched behind it
		synctest.Wait()
		w.mu.Lock()
		w.setVisibleLocked(2) // of the three
		w.mu.Unlock()
		c.expect("RESET", "SNAPSHOT 1 a", "SNAPSHOT 2 b", "LIVE", "INSERT 3 c")
		c.sub.Close()
		other.sub.Close()
		w.stop()
		_ = w.bus.Close()
	})
}

// Covers C105, C121.
func TestSnapshotThatCannotBeReadIsTriedAgainAndThenGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "ann", "a"))
		d := w.start(fanout.Config{})
		failures := 2
		w.atRow = func(int) error {
			if failures--; failures >= 0 {
				return errors.New("connection lost")
			}
			return nil
		}
		c := w.subscribe(d, "ann", "snapshot: true")
		c.expect("RESET", "RESET policy_unavailable", "RESET policy_unavailable", "SNAPSHOT 1 a", "LIVE")
		w.mu.Lock()
		w.atRow = func(int) error { return errors.New("connection lost") }
		w.mu.Unlock()
		w.subscribe(d, "ann", "snapshot: true").expectResync("policy_unavailable")
		c.sub.Close()
		w.stop()
		_ = w.bus.Close()
	})
}

func TestSnapshotOfTooManyRowsIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"), put(2, "ann", "b"), put(3, "ann", "c"), put(4, "bob", "d"))
	d := w.start(fanout.Config{Limits: fanout.Limits{SnapshotRows: 2}})
	_, err := w.subscribe(d, "ann", "snapshot: true").expectEnd()
	if f := fanout.Explain(err); f.Code != schema.LimitExceeded {
		t.Errorf("ended with %v", err)
	}
	w.subscribe(d, "ann", `snapshot: true, where: {note: {ne: "a"}}`).expect("RESET", "SNAPSHOT 2 b", "SNAPSHOT 3 c", "LIVE")
}

// A reader who is slow in a snapshot holds up its own snapshot, not the dispatcher, and is not
// cut off for it.
//
// Covers S13.
func TestSnapshotGoesAtItsReadersPace(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	var rows []write
	for i := range 100 {
		rows = append(rows, put(i, "ann", "a"))
	}
	w.write(rows...)
	d := w.start(fanout.Config{Limits: fanout.Limits{QueueBytes: 4000, HeldBytes: 1500}})
	read := make(chan int, 100)
	w.mu.Lock()
	w.atRow = func(n int) error {
		select {
		case read <- n:
		default:
		}
		return nil
	}
	w.mu.Unlock()
	slow := w.subscribe(d, "ann", "snapshot: true")
	quick := w.follow(d, "ann", "")
	for i := range 50 { // far more than is held for the slow one
		w.write(put(200+i, "ann", "b"))
		quick.expect(fmt.Sprintf("INSERT %d b", 200+i))
	}
	if n := len(read); n > 20 {
		t.Errorf("%d rows were read for a reader who takes none", n)
	}
	slow.expect("RESET")
	for range 100 {
		m, err := slow.read(t.Context())
		if err != nil || m.Kind != "SNAPSHOT" {
			t.Fatalf("got %s, %v", m, err)
		}
	}
	for len(slow.rows) < 150 {
		if _, err := slow.read(t.Context()); err != nil {
			t.Fatalf("read: %v", err)
		}
	}
	live := 0
	for _, m := range slow.got {
		if m.Kind == "LIVE" {
			live++
		}
	}
	if live != 1 {
		t.Errorf("LIVE came %d times", live)
	}
}

func TestClosingASubscriptionEndsItsSnapshot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"), put(2, "ann", "a"), put(3, "ann", "a"))
	d := w.start(fanout.Config{Limits: fanout.Limits{QueueBytes: 600, Snapshots: 1}})
	blocked := w.subscribe(d, "ann", "snapshot: true")
	blocked.expect("RESET")
	waiting := w.subscribe(d, "bob", "snapshot: true") // there is one place for a snapshot
	blocked.sub.Close()
	waiting.expect("RESET", "LIVE")
	if _, err := blocked.sub.Next(context.Background()); !errors.Is(err, fanout.ErrClosed) {
		t.Errorf("read a closed subscription: %v", err)
	}
	if n := d.Subscriptions(); n != 1 {
		t.Errorf("%d subscriptions", n)
	}
}
