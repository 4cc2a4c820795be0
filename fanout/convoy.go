package fanout

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/schema"
)

// A convoy replays the bus for many subscriptions at once: each batch is read once, judged once for
// each principal, and written once for each selection, as the dispatcher does. A subscription that
// takes its frames more slowly than the convoy goes is left behind, and waits for the next.
type convoy struct {
	d     *Dispatcher
	w     *writer
	seats []*seat
	// pos is the position up to which all seats that started before it have everything, but what
	// lanes hold back; base is the end of the transaction before, behind which nothing is held back.
	pos, base cdc.Position
	// lanes are the seats by what they get, of the catalog.
	lanes   map[convoyKey]*convoyLane
	catalog *schema.Catalog
	// leaves is until when those who are slower are waited for.
	leaves time.Time
}

// convoyWait is how long a convoy waits at each batch for those who have no room for it.
const convoyWait = 20 * time.Millisecond

type convoyKey struct {
	table *schema.Table
	class classKey
}

type convoyLane struct {
	lane
	seats []*seat
	// effect is what the transaction of the present batch means besides what it wrote.
	effect authz.Effect
}

// convoy takes seats to the dispatcher's position.
func (d *Dispatcher) convoy(ctx context.Context, seats []*seat) {
	history := d.registry.histories()
	v := &convoy{d: d, w: newWriter(d.cfg.Cursors.frozen())}
	stream := v.open(ctx, seats)
	if stream == nil {
		return
	}
	defer stream.Close()
	_, target := d.cfg.Bus.Window()
	for attached := false; ; {
		if !attached && v.pos.Seq == cdc.EndOfTransaction && v.pos.Compare(target) >= 0 {
			attached = true
			v.meet(history)
		}
		if v.arrive(); len(v.seats) == 0 {
			return
		}
		b, err := stream.Next(ctx)
		if err == nil {
			err = v.batch(ctx, b)
		}
		if err != nil {
			v.drop(v.seats, lostOr(err))
			return
		}
		if v.pos = b.Position(); b.Last {
			v.base = v.pos
		}
	}
}

// meet has the dispatcher hold frames for the seats from where it is.
func (v *convoy) meet(history int) {
	for _, s := range slices.Clone(v.seats) {
		var err error
		if s.until, err = v.d.registry.meet(s.c.s, v.pos, history); err != nil {
			v.drop([]*seat{s}, err)
		}
	}
}

// open opens the bus behind the oldest of the positions that it holds; nil where it holds none.
func (v *convoy) open(ctx context.Context, seats []*seat) bus.Stream {
	for {
		if seats = held(v.d.cfg.Bus, seats); len(seats) == 0 {
			return nil
		}
		oldest := slices.MinFunc(seats, func(a, b *seat) int { return a.start.Compare(b.start) })
		stream, err := v.d.cfg.Bus.Stream(ctx, oldest.start)
		if err == nil {
			v.seats, v.pos, v.base = seats, oldest.start, oldest.start
			v.group()
			return stream
		}
		if !errors.Is(err, bus.ErrNotHeld) { // else the window has moved in between
			for _, s := range seats {
				s.end(s.start, false, err)
			}
			return nil
		}
	}
}

// arrive lets those go who have met the dispatcher, or have left.
func (v *convoy) arrive() {
	off := map[*seat]bool{}
	for _, s := range v.seats {
		met := !s.until.IsZero() && v.pos.Seq == cdc.EndOfTransaction && v.pos.Compare(s.until) >= 0
		if met {
			s.end(s.until, true, nil)
		}
		if met || s.left() {
			off[s] = true
		}
	}
	v.remove(off)
}

// drop ends some seats. Those that may come back do so behind what they were given.
func (v *convoy) drop(some []*seat, err error) {
	off := map[*seat]bool{}
	for _, s := range some {
		s.end(later(later(s.start, s.given), v.base), false, err)
		off[s] = true
	}
	v.remove(off)
}

// remove takes seats out of their lanes, which go on with what they hold back for the others.
func (v *convoy) remove(off map[*seat]bool) {
	if len(off) == 0 {
		return
	}
	isOff := func(s *seat) bool { return off[s] }
	v.seats = slices.DeleteFunc(v.seats, isOff)
	for key, l := range v.lanes {
		if l.seats = slices.DeleteFunc(l.seats, isOff); len(l.seats) == 0 {
			delete(v.lanes, key)
		}
	}
}

func later(a, b cdc.Position) cdc.Position {
	if a.Compare(b) > 0 {
		return a
	}
	return b
}

// group sorts the seats into lanes by what they get.
func (v *convoy) group() {
	catalog := v.d.registry.present()
	if v.lanes != nil && catalog == v.catalog {
		return
	}
	lanes := map[convoyKey]*convoyLane{}
	for _, s := range v.seats {
		view := s.c.s.present()
		key := convoyKey{view.op.Table, view.class()}
		l := lanes[key]
		if l == nil {
			l = &convoyLane{lane: lane{view: view}}
			lanes[key] = l
		}
		l.seats = append(l.seats, s)
	}
	v.lanes, v.catalog = lanes, catalog
}

// batch gives each seat what a batch has for it. Its error is that ctx has ended.
func (v *convoy) batch(ctx context.Context, b *cdc.Batch) error {
	events, everyone := split(b)
	if everyone != "" {
		v.drop(before(v.seats, b), errResync{everyone})
		return nil
	}
	if v.pos.Seq == cdc.EndOfTransaction { // else lanes may hold something back
		v.group()
	}
	v.w.turn(b)
	byTable := map[*schema.Table][]*convoyLane{}
	for key, l := range v.lanes {
		l.begin(l.view, &b.Transaction)
		var err error
		if l.effect, err = v.d.covered(ctx, &l.view, b); err != nil {
			return err
		}
		if l.effect == authz.Unknown {
			l.resync = reasonMembership
			continue
		}
		byTable[key.table] = append(byTable[key.table], l)
	}
	for t, lanes := range byTable {
		if err := v.match(ctx, t, events[t.Def.OID], lanes); err != nil {
			return err
		}
	}
	v.deliver(b)
	return nil
}

// before gives the seats that need a batch.
func before(seats []*seat, b *cdc.Batch) []*seat {
	return slices.DeleteFunc(slices.Clone(seats), func(s *seat) bool { return s.start.Compare(b.Position()) >= 0 })
}

// match makes the frames of a table's events.
func (v *convoy) match(ctx context.Context, t *schema.Table, events []*cdc.Event, of []*convoyLane) error {
	var kinds schema.KindSet
	for _, l := range of {
		kinds |= l.view.op.Kinds
	}
	m := &v.d.matcher
	subjects, reason := m.bind(t, kinds, events)
	if reason != "" {
		for _, l := range of {
			l.resync = reason
		}
		return nil
	}
	if len(subjects) == 0 {
		return nil
	}
	lanes := make([]*lane, len(of))
	for n, l := range of {
		lanes[n] = &l.lane
		for i := range subjects {
			if wants(l.view.op.Kinds, subjects[i].event.Op) {
				l.subjects = append(l.subjects, int32(i)) //nolint:gosec // there are few
			}
		}
	}
	return m.match(ctx, v.w, subjects, lanes)
}

// deliver puts what was made of a batch on the seats. Whoever has no room for it for too long is
// left behind.
func (v *convoy) deliver(b *cdc.Batch) {
	type end struct {
		seats []*seat
		err   error
	}
	var ends []end
	v.leaves = time.Now().Add(convoyWait)
	var m moved
	defer func() { m.start(v.d) }()
	for _, l := range v.lanes {
		if b.Last && l.resync == "" {
			v.finish(&m, l, b)
		}
		if l.resync != "" {
			ends = append(ends, end{before(l.seats, b), errResync{l.resync}})
			continue
		}
		var behind []*seat
		for _, s := range l.seats {
			if !v.give(s, b, l.frames) {
				behind = append(behind, s)
			}
		}
		if len(behind) > 0 {
			ends = append(ends, end{behind, nil})
		}
	}
	for _, e := range ends {
		v.drop(e.seats, e.err)
	}
}

// finish writes what was held back until the end of the transaction, or leaves it to the shift that
// follows.
func (v *convoy) finish(m *moved, l *convoyLane, b *cdc.Batch) {
	if l.effect != authz.RowsMoved {
		l.finish(v.w)
		return
	}
	sl := m.add(l.view, v.w.cursors, b)
	sl.tail, l.tail = l.tail, nil
	l.frames = append(l.frames, frame{shift: sl, pos: b.Position(), xid: b.XID})
}

func (v *convoy) give(s *seat, b *cdc.Batch, frames []frame) bool {
	if !s.until.IsZero() && b.Commit > s.until.Commit {
		return true // it is the dispatcher's
	}
	g := gift{tx: b.Transaction, pos: b.Position()}
	for i := range frames {
		if frames[i].pos.Compare(s.start) > 0 {
			g.frames = append(g.frames, frames[i])
			g.bytes += len(frames[i].payload)
		}
	}
	if len(g.frames) == 0 {
		return true
	}
	g.pos = g.frames[len(g.frames)-1].pos
	for !s.give(g) {
		if !v.wait(s) {
			return false
		}
	}
	s.given = g.pos
	return true
}

// wait waits until a seat has taken what it has, or has left: for one that is alone as long as nobody
// else needs a convoy; of others for those who need little more time than the rest.
func (v *convoy) wait(s *seat) bool {
	late := time.NewTimer(time.Until(v.leaves))
	defer late.Stop()
	for {
		select {
		case <-s.room:
			return true
		case <-late.C:
		}
		if len(v.seats) > 1 || v.d.depot.crowded() {
			return false
		}
		late.Reset(convoyWait)
	}
}
