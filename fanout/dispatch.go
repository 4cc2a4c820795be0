package fanout

import (
	"context"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// dispatch gives a batch to the subscriptions concerned. Its error is that ctx has ended.
func (d *Dispatcher) dispatch(ctx context.Context, b *cdc.Batch) error {
	if err := acquire(ctx, d.dispatching); err != nil {
		return err
	}
	defer func() { <-d.dispatching }()
	// Once entered, the transaction is behind everyone who attaches: their snapshots see it,
	// and the policies that it may have made.
	d.registry.enter(b.Commit, b.XID)
	if !b.Time.IsZero() {
		d.tally.delay.Store(int64(time.Since(b.Time)))
	}
	if d.cfg.OnMessages != nil && len(b.Messages) > 0 {
		d.cfg.OnMessages(ctx, b.Transaction, b.Messages)
	}
	if !d.inside {
		d.renew()
		d.registry.settle()
	}
	d.inside = !b.Last
	d.w.turn(b)
	d.followBatch(b)
	events, everyone := split(b)
	if everyone != "" {
		d.resyncEveryone(b, everyone)
		d.regrouped = false
		return nil
	}
	if err := d.fit(ctx, events); err != nil {
		return err
	}
	d.regroup(b)
	for oid, of := range events {
		if err := d.table(ctx, b, oid, of); err != nil {
			return err
		}
	}
	if b.Last {
		d.finish(b)
		d.shift(b)
	}
	return nil
}

// split sorts a batch's events by table. everyone is the reason of a gap that may concern every
// table, or "".
func split(b *cdc.Batch) (events map[uint32][]*cdc.Event, everyone string) {
	if len(b.Events) == 0 {
		return nil, ""
	}
	events = make(map[uint32][]*cdc.Event, 1)
	for i := range b.Events {
		e := &b.Events[i]
		if e.Relation == nil {
			return nil, e.Reason
		}
		events[e.Relation.OID] = append(events[e.Relation.OID], e)
	}
	return events, ""
}

func (d *Dispatcher) resyncEveryone(b *cdc.Batch, reason string) {
	if reason == reasonTimeline {
		d.registry.settled.clear() // transactions of another history may never be visible here
	}
	for _, s := range d.registry.all() {
		if s.concerned(&b.Transaction) {
			d.resync(s, reason)
		}
	}
	d.dropTails()
}

// chunkEvents is how many events are matched at once: with as many images, and their principals,
// the verdicts stay few.
const chunkEvents = 512

// table matches and delivers a batch's events of one table.
func (d *Dispatcher) table(ctx context.Context, b *cdc.Batch, oid uint32, events []*cdc.Event) error {
	t, kinds, ok := d.registry.table(oid)
	if !ok {
		return nil
	}
	for len(events) > 0 {
		n := min(len(events), chunkEvents)
		last := b.Last && n == len(events)
		if err := d.events(ctx, b, t, kinds, events[:n], last); err != nil {
			return err
		}
		events = events[n:]
	}
	return nil
}

// events matches and delivers events of one table; last tells that they are the last of their
// transaction there.
func (d *Dispatcher) events(ctx context.Context, b *cdc.Batch, t *table, kinds schema.KindSet, events []*cdc.Event, last bool) error {
	subjects, reason := d.matcher.bind(t.schema, kinds, events)
	if reason != "" {
		d.resyncTable(b, t, reason)
		return nil
	}
	lanes := d.registry.find(t, d.lanes[:0], &b.Transaction, subjects)
	d.lanes = lanes
	if err := d.matcher.match(ctx, d.w, subjects, lanes); err != nil {
		return err
	}
	for _, l := range lanes {
		d.deliver(b, l, last)
		l.end()
	}
	clear(lanes)
	return nil
}

// resyncTable has everybody resync who follows a table, of which something cannot be told.
func (d *Dispatcher) resyncTable(b *cdc.Batch, t *table, reason string) {
	for _, c := range d.registry.classes(t) {
		d.resyncClass(b, &c.lane, reason)
	}
}

func (d *Dispatcher) resyncClass(b *cdc.Batch, l *lane, reason string) {
	l.tail = nil
	delete(d.tailed, l)
	for _, s := range l.class.concernedMembers(&b.Transaction) {
		delete(d.carried, s)
		d.resync(s, reason)
	}
}

// deliver hands a lane's frames on, or has its subscriptions resync: then none of those.
func (d *Dispatcher) deliver(b *cdc.Batch, l *lane, last bool) {
	if sl := d.moved.lanes[l.class]; last && sl != nil {
		sl.tail, l.tail = l.tail, nil // what follows in the transaction is not known yet
	} else if last && l.resync == "" {
		l.finish(d.w)
	}
	if l.resync != "" {
		d.resyncClass(b, l, l.resync)
		return
	}
	if l.tail != nil {
		d.tailed[l] = struct{}{}
	} else {
		delete(d.tailed, l)
	}
	if len(d.carried) > 0 && (l.tail != nil || len(l.frames) > 0) {
		for _, s := range l.class.concernedMembers(&b.Transaction) {
			d.handOn(b, s, false)
		}
	}
	l.class.deliver(&b.Transaction, l.frames)
}

// finish writes the frames that were held back until the end of the transaction, on the
// lanes that its last batch had nothing for.
func (d *Dispatcher) finish(b *cdc.Batch) {
	for l := range d.tailed {
		l.begin(l.view, &b.Transaction)
		d.deliver(b, l, true)
		l.end()
	}
	for s := range d.carried {
		d.handOn(b, s, true)
	}
	d.dropTails()
}

// carry keeps the frames that are held back for the members of classes, who are about to become
// members of others in the middle of a transaction.
func (d *Dispatcher) carry() {
	for l := range d.tailed {
		for _, s := range l.class.appendMembers(nil) {
			d.carried[s] = l.tail
		}
		l.tail = nil
	}
	clear(d.tailed)
}

// handOn gives a subscription the frame that was carried for it, if any.
func (d *Dispatcher) handOn(b *cdc.Batch, s *Subscription, last bool) {
	h := d.carried[s]
	if h == nil {
		return
	}
	delete(d.carried, s)
	l := lane{}
	l.write(d.w, h, last)
	switch {
	case !s.concerned(&b.Transaction):
	case l.resync != "":
		d.resync(s, l.resync)
	default:
		s.deliver(&b.Transaction, l.frames, newRun(l.frames))
	}
}

func (d *Dispatcher) dropTails() {
	for l := range d.tailed {
		l.tail = nil
	}
	clear(d.tailed)
	clear(d.carried)
}
