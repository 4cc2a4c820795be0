package fold

import (
	"slices"

	"github.com/rowtide/rowtide/cdc"
)

// An ahead gathers the events of the relations that are asked about the rows of others.
type ahead struct {
	relations []uint32
	most      int // bytes of events
	// spilled are the events of what was on disk, and full are relations of which there are too
	// many.
	spilled []cdc.Event
	bytes   int
	full    []*cdc.Relation
}

// ask finds out which relations to tell of, at the end of a transaction.
func (f *Folder) ask() {
	if f.cfg.Ahead != nil {
		f.ahead.relations, f.ahead.most = f.cfg.Ahead(), f.cfg.MaxBytes
	}
}

// note takes a change that was on disk.
func (a *ahead) note(t *table, e *entry) {
	if slices.Contains(a.relations, t.rel.OID) {
		a.spilled = a.add(a.spilled, e.event(t.rel))
	}
}

// add appends an event, as long as there is room.
func (a *ahead) add(to []cdc.Event, ev cdc.Event) []cdc.Event {
	if slices.Contains(a.full, ev.Relation) {
		return to
	}
	size := ev.Size()
	if a.bytes+size > a.most {
		a.full = append(a.full, ev.Relation)
		return to
	}
	a.bytes += size
	return append(to, ev)
}

// tell gives what is told with the first batch, of the events that were in memory: some are made,
// the others are refs.
func (a *ahead) tell(first []cdc.Event, refs []ref, gapAll string) *cdc.Ahead {
	if len(a.relations) == 0 {
		return nil
	}
	var found []cdc.Event
	take := func(ev cdc.Event) {
		if ev.Relation != nil && slices.Contains(a.relations, ev.Relation.OID) {
			ev.Seq = 0
			found = a.add(found, ev)
		}
	}
	for i := range first {
		take(first[i])
	}
	for i := range refs {
		take(refs[i].event(gapAll))
	}
	found = append(found, a.spilled...)
	out := &cdc.Ahead{Relations: a.relations}
	for _, rel := range a.full {
		out.Events = append(out.Events, cdc.Event{Op: cdc.Gap, Relation: rel, Reason: reasonSize})
	}
	for i := range found {
		if !slices.Contains(a.full, found[i].Relation) {
			out.Events = append(out.Events, found[i])
		}
	}
	return out
}
