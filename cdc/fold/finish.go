package fold

import (
	"cmp"
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
// has Last set: at least one. It stops at the first error of emit and returns it. Either way the
// transaction is over.
func (f *Folder) Finish(tx cdc.Transaction, emit func(*cdc.Batch) error) error {
	defer f.Begin()
	refs := f.order()
	defer f.keep(refs)
	seq := uint32(0)
	for first := true; first || len(refs) > 0; first = false {
		b := &cdc.Batch{Transaction: tx}
		if first {
			b.Messages = f.messages
		}
		n := f.take(refs)
		if n > 0 {
			b.Events = make([]cdc.Event, n)
		}
		for i := range b.Events {
			b.Events[i] = refs[i].event(f.gapAll)
			b.Events[i].Seq = seq
			seq++
			refs[i].forget()
		}
		refs = refs[n:]
		b.Last = len(refs) == 0
		if err := emit(b); err != nil {
			return err
		}
	}
	return nil
}

// order gives the events to come: Gaps, Truncates, then changes by the time of the last one.
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
	// A changed key is two changes at one time: the row goes before it comes.
	slices.SortFunc(refs[changes:], func(a, b ref) int {
		if c := cmp.Compare(a.last, b.last); c != 0 {
			return c
		}
		return cmp.Compare(a.comes(), b.comes())
	})
	return refs
}

// take gives how many of the refs go into the next batch.
func (f *Folder) take(refs []ref) int {
	size := 0
	for i := range refs {
		ev := refs[i].event("")
		size += ev.Size()
		if i == f.cfg.BatchEvents || (i > 0 && size > f.cfg.BatchBytes) {
			return i
		}
	}
	return len(refs)
}

// keep holds on to the memory of the refs, but not to what they refer to.
func (f *Folder) keep(refs []ref) {
	clear(refs)
	f.refs = nil
	if cap(refs) <= spareRefs {
		f.refs = refs[:0]
	}
}

func (r *ref) comes() int {
	if r.t.entries[r.entry].new != nil {
		return 1
	}
	return 0
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
	e := &r.t.entries[r.entry]
	ev := cdc.Event{Op: e.op, Relation: r.t.rel, Old: e.old, New: e.new}
	if e.op != 0 {
		return ev
	}
	switch {
	case !e.existed:
		ev.Op = cdc.Insert
	case e.new == nil:
		ev.Op = cdc.Delete
	default:
		ev.Op = cdc.Update
	}
	return ev
}
