package fold

import (
	"cmp"
	"context"
	"slices"

	"github.com/rowtide/rowtide/cdc"
)

// spareRefs is how many refs a Folder keeps for the next transaction.
const spareRefs = 16384

// A ref names an event to come: a Gap or Truncate of a table, or one of its entries.
type ref struct {
	last  uint64
	t     *table
	entry int32
	op    cdc.Op // Gap, Truncate, or 0 for an entry
}

// Finish gives the net effect of the transaction, in batches of bounded size, the last of which
// has Last set: at least one. It stops at the first error, of emit, of the spill, or that ctx has
// ended, and returns it. Either way the transaction is over.
func (f *Folder) Finish(ctx context.Context, tx cdc.Transaction, emit func(*cdc.Batch) error) error {
	defer f.Begin()
	f.ask()
	onDisk, err := f.settle(ctx)
	if err != nil {
		return err
	}
	refs := f.order()
	defer f.keep(refs)
	b := &batcher{cfg: &f.cfg, events: f.scratch, emit: emit, next: cdc.Batch{Transaction: tx, Messages: f.messages}}
	defer func() { f.scratch = b.events[:0] }()
	done := 0
	b.ahead = func() *cdc.Ahead { return f.ahead.tell(b.events[:done], refs[done:], f.gapAll) }
	for i := range refs {
		done = i
		if err := b.add(refs[i].event(f.gapAll)); err != nil {
			return err
		}
		refs[i].forget()
	}
	done = len(refs)
	if onDisk && f.gapAll == "" {
		if err := f.disk.replay(ctx, f.seen, b.add); err != nil {
			return err
		}
	}
	return b.flush(true)
}

// order gives the events to come of what is in memory: Gaps, Truncates, then changes by the time
// of the last one.
func (f *Folder) order() []ref {
	refs := f.refs[:0]
	if f.gapAll != "" {
		return append(refs, ref{op: cdc.Gap})
	}
	for _, t := range f.seen {
		if t.gap != "" {
			refs = append(refs, ref{op: cdc.Gap, t: t})
		}
	}
	for _, t := range f.seen {
		if t.gap == "" && t.truncated {
			refs = append(refs, ref{op: cdc.Truncate, t: t})
		}
	}
	changes := len(refs)
	for _, t := range f.seen {
		for i := range t.entries {
			if e := &t.entries[i]; e.used && !e.none() {
				refs = append(refs, ref{last: e.last, t: t, entry: int32(i)})
			}
		}
	}
	slices.SortFunc(refs[changes:], func(a, b ref) int { return inTime(&a.t.entries[a.entry], &b.t.entries[b.entry]) })
	return refs
}

// inTime orders changes by their time. A changed key is two changes at one time: the row goes
// before it comes.
func inTime(a, b *entry) int {
	if c := cmp.Compare(a.last, b.last); c != 0 {
		return c
	}
	return cmp.Compare(a.comes(), b.comes())
}

// keep holds on to the memory of the refs, but not to what they refer to.
func (f *Folder) keep(refs []ref) {
	clear(refs)
	f.refs = nil
	if cap(refs) <= spareRefs {
		f.refs = refs[:0]
	}
}

// forget lets go of the images: the batch has them, and emit may block for long.
func (r *ref) forget() {
	if r.op == 0 {
		r.t.entries[r.entry] = entry{}
	}
}

// event gives the event, but for its Seq.
func (r *ref) event(gapAll string) cdc.Event {
	switch {
	case r.t == nil:
		return cdc.Event{Op: cdc.Gap, Reason: gapAll}
	case r.op == cdc.Gap:
		return cdc.Event{Op: cdc.Gap, Relation: r.t.rel, Reason: r.t.gap}
	case r.op == cdc.Truncate:
		return cdc.Event{Op: cdc.Truncate, Relation: r.t.rel}
	}
	return r.t.entries[r.entry].event(r.t.rel)
}

// A batcher makes batches of events, and knows the last one only when it is told of the end.
type batcher struct {
	cfg    *Config
	events []cdc.Event // memory of the next batch, used again
	size   int
	seq    uint32
	next   cdc.Batch // what the next batch has besides events
	emit   func(*cdc.Batch) error
	// ahead tells what comes with the first of several batches; it is nil behind that.
	ahead func() *cdc.Ahead
}

// add takes the next event and numbers it.
func (b *batcher) add(ev cdc.Event) error {
	size := ev.Size()
	if n := len(b.events); n == b.cfg.BatchEvents || (n > 0 && b.size+size > b.cfg.BatchBytes) {
		if err := b.flush(false); err != nil {
			return err
		}
	}
	ev.Seq = b.seq
	b.seq++
	b.size += size
	b.events = append(b.events, ev)
	return nil
}

func (b *batcher) flush(last bool) error {
	batch := b.next
	batch.Last = last
	if !last && b.ahead != nil {
		batch.Ahead = b.ahead()
	}
	b.ahead = nil
	if len(b.events) > 0 {
		batch.Events = slices.Clone(b.events)
	}
	clear(b.events)
	b.events, b.size, b.next.Messages = b.events[:0], 0, nil
	return b.emit(&batch)
}
