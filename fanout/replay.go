package fanout

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

// replay reads the bus from pos until it meets the dispatcher, at the client's pace. What is
// replayed is judged by the present claims and policies. The bus is read in convoys: whoever
// waits for a replay shares a reader with all others who do.
func (c *chase) replay(ctx context.Context) error {
	if c.pos.IsZero() { // to the bus that would mean from now on
		return errResync{reasonRetention}
	}
	for {
		if c.d.registry.broken(c.s.oid, c.pos) {
			return errResync{reasonRewritten}
		}
		arrived, err := c.ride(ctx)
		if err != nil {
			return err
		}
		if !arrived {
			continue // the client was slower than the others: it goes on with the next convoy
		}
		if done, err := c.handOver(ctx); done || err != nil {
			return err
		}
	}
}

// ride takes a seat in the next convoy and sends what that gives, until the convoy has met the
// dispatcher or goes on without it.
func (c *chase) ride(ctx context.Context) (arrived bool, err error) {
	s := c.d.depot.board(c)
	defer s.leave()
	for {
		gifts, over := s.take()
		for _, g := range gifts {
			if err := c.take(ctx, &g); err != nil {
				return false, err
			}
			s.sent(g)
			// Whoever has had more than its share waits; the convoy leaves it behind.
			if wait := c.s.session.client.Wait(authz.Replayed, g.bytes); wait > 0 {
				if err := pause(ctx, wait); err != nil {
					return false, err
				}
			}
		}
		if over && len(gifts) == 0 {
			c.pos = s.pos
			return s.arrived, s.err
		}
		if len(gifts) > 0 {
			continue
		}
		select {
		case <-s.news:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// take sends what is in a gift.
func (c *chase) take(ctx context.Context, g *gift) error {
	frames, n := g.frames, len(g.frames)
	if n > 0 && frames[n-1].shift != nil {
		n--
	}
	out, reason := c.s.unseen(&g.tx, frames[:n])
	if reason != "" {
		return errResync{reason}
	}
	for i := range out {
		if err := c.s.push(ctx, out[i].payload); err != nil {
			return err
		}
	}
	if n < len(frames) {
		return c.give(ctx, &frames[n])
	}
	c.pos = g.pos
	return nil
}

// unseen gives the frames of a transaction that the snapshot does not have.
func (s *Subscription) unseen(tx *cdc.Transaction, frames []frame) (out []frame, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, _, reason = s.unseenLocked(tx, frames, run{})
	return out, reason
}

// A gift is what a convoy has of one batch for one subscription.
type gift struct {
	tx     cdc.Transaction
	frames []frame
	pos    cdc.Position
	bytes  int
}

// seatBytes bounds what waits on a seat; whoever is further behind is left behind.
const seatBytes = 128 << 10

// A seat is a subscription's place in a convoy.
type seat struct {
	c *chase
	// Of the convoy: start is the position from which it needs everything, given that of the last
	// frame it got, and until where it meets the dispatcher; zero before that is known.
	start, given, until cdc.Position
	news, room          chan struct{} // have a token

	mu    sync.Mutex
	gifts []gift
	bytes int
	// over tells that nothing more comes: it has everything up to pos, and has arrived or has
	// not, or err is why it cannot go on. gone tells that the subscription has left.
	over, arrived, gone bool
	pos                 cdc.Position
	err                 error
}

func (s *seat) take() ([]gift, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	gifts := s.gifts
	s.gifts = nil
	return gifts, s.over
}

func (s *seat) sent(g gift) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes -= g.bytes
	signal(s.room)
}

func (s *seat) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gone = true
	signal(s.room)
}

// give is false where there is no room.
func (s *seat) give(g gift) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bytes > 0 && s.bytes+g.bytes > seatBytes {
		return s.gone
	}
	s.gifts = append(s.gifts, g)
	s.bytes += g.bytes
	signal(s.news)
	return true
}

func (s *seat) end(pos cdc.Position, arrived bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over, s.arrived, s.pos, s.err = true, arrived, pos, err
	signal(s.news)
}

func (s *seat) left() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gone
}

// A depot is where subscriptions wait for a convoy.
type depot struct {
	mu      sync.Mutex
	waiting []*seat
	riding  int
	come    chan struct{} // has a token when one waits
}

func (d *depot) board(c *chase) *seat {
	s := &seat{c: c, start: c.pos, news: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	d.mu.Lock()
	d.waiting = append(d.waiting, s)
	d.mu.Unlock()
	signal(d.come)
	return s
}

// count is how many wait or ride.
func (d *depot) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting) + d.riding
}

// crowded tells whether anybody waits.
func (d *depot) crowded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.waiting) > 0
}

// depart gives those who wait, and takes them off the count when they have arrived.
func (d *depot) depart() []*seat {
	d.mu.Lock()
	defer d.mu.Unlock()
	seats := d.waiting
	d.waiting = nil
	d.riding += len(seats)
	return seats
}

func (d *depot) arrived(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.riding -= n
}

// drive leads convoys until ctx ends. Those who come while all are under way share the next.
func (d *Dispatcher) drive(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.depot.come:
		}
		if seats := d.depot.depart(); len(seats) > 0 {
			d.convoy(ctx, seats)
			d.depot.arrived(len(seats))
		}
	}
}

func lostOr(err error) error {
	var broken *bus.Break
	if errors.As(err, &broken) {
		return errResync{broken.Reason}
	}
	if errors.Is(err, bus.ErrNotHeld) {
		return errResync{reasonRetention}
	}
	return err
}

// held keeps the seats whose positions the bus can be read behind, and ends the others.
func held(b bus.Bus, seats []*seat) []*seat {
	oldest, newest := b.Window()
	return slices.DeleteFunc(slices.Clone(seats), func(s *seat) bool {
		lost := s.start.Compare(oldest) < 0 || s.start.Compare(newest) > 0
		if lost {
			s.end(s.start, false, errResync{reasonRetention})
		}
		return lost
	})
}
