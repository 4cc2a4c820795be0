package fanout

import (
	"context"
	"errors"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

// replay reads the bus from pos until it meets the dispatcher, at the client's pace. What is
// replayed is judged by the present claims and policies.
func (c *chase) replay(ctx context.Context) error {
	if err := acquire(ctx, c.d.replays); err != nil {
		return err
	}
	defer func() { <-c.d.replays }()
	for {
		if done, err := c.meet(ctx); done || err != nil {
			return err
		}
	}
}

// meet reads to the newest position, has the dispatcher hold frames from where that then is,
// reads up to there, and hands over. It is false where too much was held meanwhile.
func (c *chase) meet(ctx context.Context) (bool, error) {
	if c.pos.IsZero() { // to the bus that would mean from now on
		return false, errResync{reasonRetention}
	}
	if c.d.registry.broken(c.s.oid, c.pos) {
		return false, errResync{reasonRewritten}
	}
	history, frozen := c.d.registry.histories(), c.d.cfg.Cursors.frozen()
	stream, err := c.d.cfg.Bus.Stream(ctx, c.pos)
	if err != nil {
		return false, lostOr(err)
	}
	defer stream.Close()
	_, target := c.d.cfg.Bus.Window()
	r := reader{c: c, w: newWriter(frozen)}
	for attached := false; ; attached = true {
		for c.pos.Seq != cdc.EndOfTransaction || c.pos.Compare(target) < 0 {
			b, err := stream.Next(ctx)
			if err != nil {
				return false, lostOr(err)
			}
			if err := r.batch(ctx, b); err != nil {
				return false, err
			}
			c.pos = b.Position()
		}
		if attached {
			return c.handOver(ctx)
		}
		if target, err = c.d.registry.meet(c.s, c.pos, history); err != nil {
			return false, err
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

// A reader makes one subscription's frames of the batches of a replay.
type reader struct {
	c    *chase
	w    *writer
	lane lane
}

func (r *reader) batch(ctx context.Context, b *cdc.Batch) error {
	if r.c.s.saw(b.XID) {
		return nil
	}
	var events []*cdc.Event
	for i := range b.Events {
		e := &b.Events[i]
		if e.Relation == nil {
			return errResync{e.Reason}
		}
		if e.Relation.OID == r.c.s.oid {
			events = append(events, e)
		}
	}
	if err := r.c.d.covered(ctx, r.c.s.present(), b); err != nil {
		return err
	}
	r.w.turn(b)
	l := &r.lane
	l.begin(r.c.s.present(), &b.Transaction)
	if err := r.match(ctx, events); err != nil {
		return err
	}
	if l.resync != "" {
		return errResync{l.resync}
	}
	if b.Last {
		l.finish(r.w)
	}
	frames, _, reason := r.c.s.unseen(&b.Transaction, l.frames)
	if reason != "" {
		return errResync{reason}
	}
	for _, f := range frames {
		if err := r.c.s.push(ctx, f.payload); err != nil {
			return err
		}
	}
	return nil
}

// unseen gives the frames of a transaction that the snapshot does not have.
func (s *Subscription) unseen(tx *cdc.Transaction, frames []frame) ([]frame, run, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unseenLocked(tx, frames, run{})
}

// match makes the frames of a table's events on the reader's lane.
func (r *reader) match(ctx context.Context, events []*cdc.Event) error {
	m, l := &r.c.d.matcher, &r.lane
	var subjects []subject
	if subjects, l.resync = m.bind(l.view.op.Table, l.view.op.Kinds, events); l.resync != "" {
		return nil
	}
	for i := range subjects {
		l.subjects = append(l.subjects, int32(i)) //nolint:gosec // there are few
	}
	return m.match(ctx, r.w, subjects, []*lane{l})
}
