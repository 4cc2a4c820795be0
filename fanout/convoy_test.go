package fanout_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

// TestAStormOfReplaysSharesItsReaders has many clients resume at once, each from somewhere in the
// window, also from the middle of a transaction: everyone gets its rest, once and in order, and the
// bus is read, and rows judged, a few times and not once for each. With small queues most are slower
// than the convoy, are left behind and go on with a later one.
//
// Covers C112, S38.
func TestAStormOfReplaysSharesItsReaders(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ queue, clients, streams int }{
		"at once":     {16 << 20, 400, 200},
		"left behind": {16 << 10, 40, 1000},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dice := rand.New(rand.NewPCG(1, uint64(tt.queue))) //nolint:gosec // a test's dice
			w := newWorld(t, membus.Config{})
			w.write(put(9, "ann", "0"))
			counting := &countingBus{Bus: w.bus}
			d := w.start(fanout.Config{Bus: counting, Limits: fanout.Limits{QueueBytes: tt.queue}})
			c := w.follow(d, "ann", "")
			filler := strings.Repeat("x", 2000)
			const transactions = 60
			for i := range transactions {
				base := 100 + 10*i
				w.publish(t.Context(), 2, put(base, "ann", filler), put(base+1, "bob", "b"), put(base+2, "ann", "c"), put(base+3, "ann", filler), put(base+4, "ann", "e"))
				for range 4 {
					if _, err := c.read(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
			}
			var all sync.WaitGroup
			for range tt.clients {
				from := dice.IntN(len(c.got))
				all.Go(func() {
					again := w.subscribe(d, "ann", fmt.Sprintf("after: %q", *c.got[from].Cursor))
					defer again.sub.Close()
					for n := from + 1; n < len(c.got); n++ {
						m, err := again.read(t.Context())
						if err != nil {
							t.Errorf("behind %d: read: %v", from, err)
							return
						}
						want := c.got[n]
						if m.String() != want.String() || *m.Cursor != *want.Cursor || *m.Transaction.Last != *want.Transaction.Last {
							t.Errorf("behind %d: frame %d is %.60s last %v, want %.60s last %v", from, n, m, *m.Transaction.Last, want, *want.Transaction.Last)
							return
						}
					}
					if m, err := again.read(t.Context()); err != nil || m.Kind != "LIVE" {
						t.Errorf("behind %d: %v, %v, want LIVE", from, m, err)
					}
				})
			}
			all.Wait()
			n := int(counting.streams.Load())
			t.Logf("%d clients read the bus %d times", tt.clients, n)
			if n > tt.streams {
				t.Errorf("%d clients read the bus %d times", tt.clients, n)
			}
			w.write(put(1, "ann", "live"))
			c.expect("INSERT 1 live")
		})
	}
}

// TestASlowReplayKeepsNobodyElseWaiting resumes and reads nothing, so that the only convoy waits for it,
// until another client needs one.
//
// Covers C112, S38.
func TestASlowReplayKeepsNobodyElseWaiting(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{Limits: fanout.Limits{QueueBytes: 16 << 10, Replays: 1}})
	w.write(put(9, "ann", "0"))
	c := w.follow(d, "ann", "")
	filler := strings.Repeat("x", 2000)
	for i := range 200 {
		w.write(put(100+i, "ann", filler))
		c.expect(fmt.Sprintf("INSERT %d %s", 100+i, filler))
	}
	after := fmt.Sprintf("after: %q", *c.got[0].Cursor)
	stuck := w.subscribe(d, "ann", after)
	if _, err := stuck.read(t.Context()); err != nil {
		t.Fatal(err)
	}
	other := w.subscribe(d, "ann", after)
	for range 200 {
		if _, err := other.read(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	other.expect("LIVE")
}

// TestReplaysHaveABudget resumes until its principal has had more than its share: then it has to come
// back later, and nobody else has.
//
// Covers S38.
func TestReplaysHaveABudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	limits, err := authz.ParseLimits([]string{"none", "replayed.principal=100"}) // 12,000 at once
	if err != nil {
		t.Fatal(err)
	}
	limiter := authz.NewLimiter(limits)
	resume := func(user, cursor string) (*client, error) {
		c, err := limiter.Connect("203.0.113.1", "websocket")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		s, err := d.OpenFor(c, principal(user, time.Time{}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		r, err := s.Subscribe(t.Context(), request(fmt.Sprintf("after: %q", cursor)))
		if err != nil {
			return nil, err
		}
		return newClient(t, r.Subscription), nil
	}
	w.write(put(1, "ann", "0"), put(2, "bob", "0"))
	live := w.follow(d, "ann", "")
	bob := w.follow(d, "bob", "")
	from, bobs := *live.got[0].Cursor, *bob.got[0].Cursor
	text := strings.Repeat("x", 20_000)
	w.write(put(3, "ann", text), put(4, "bob", text))
	live.expect("INSERT 3 " + text)
	for range 2 { // what is left is paid, and then more than that
		c, err := resume("ann", from)
		if err != nil {
			t.Fatal(err)
		}
		c.expect("INSERT 3 " + text)
	}
	var e *schema.Error
	for late := time.Now().Add(30 * time.Second); time.Now().Before(late); { // the second is about to be counted
		if _, err = resume("ann", from); err != nil {
			break
		}
	}
	if !errors.As(err, &e) || e.Code != schema.RateLimited || e.RetryAfter < time.Minute {
		t.Errorf("got %v, want to be told to come back", err)
	}
	again, err := resume("bob", bobs)
	if err != nil {
		t.Fatal(err)
	}
	again.expect("INSERT 4 "+text, "LIVE")
	w.write(put(5, "ann", "live"))
	live.expect("INSERT 5 live")
}
