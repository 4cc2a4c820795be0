package rls

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// maxRecent bounds the transactions that are remembered as followed but not yet seen: see settled
// in package fanout.
const maxRecent = 1 << 16

// Follow implements fanout.Follower.
func (g *Postgres) Follow(b *cdc.Batch) bool {
	s := g.keeps
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Commit != s.now && b.XID != 0 {
		if len(s.recent) >= maxRecent {
			s.recent = slices.Clone(s.recent[maxRecent/2:])
		}
		s.recent = append(s.recent, followed{b.XID, b.Commit})
	}
	changed := s.ahead(b)
	for i := range b.Events {
		e := &b.Events[i]
		if e.Relation == nil {
			changed = s.loseAll(b.Commit) || changed
		} else if k := s.tables[e.Relation.OID]; k != nil && !slices.Contains(s.told, k.def.OID) {
			changed = s.event(k, b, e) || changed
		}
	}
	if !b.Last {
		return changed
	}
	s.end = b.Commit
	for _, k := range s.tables {
		if k.phase == phaseRead && k.barrier == b.XID {
			k.phase, k.turned = phaseKept, b.Commit
			s.g.cfg.Logger.Info("a table that policies ask is kept", "table", k.def.Schema+"."+k.def.Name, "rows", len(k.rows.entries), "bytes", k.size())
			changed = true
		}
	}
	s.age(time.Now())
	changed = s.shrink() || changed
	s.moveLocked()
	return changed
}

// ahead takes what the first of several batches tells of the whole transaction: so all its images are
// judged by what is kept as of its end.
func (s *keeps) ahead(b *cdc.Batch) (changed bool) {
	if b.Commit == s.now {
		return false
	}
	s.now, s.told = b.Commit, nil
	if b.Last {
		return false
	}
	if b.Ahead != nil {
		s.told = b.Ahead.Relations
		for i := range b.Ahead.Events {
			e := &b.Ahead.Events[i]
			if k := s.tables[e.Relation.OID]; k != nil {
				changed = s.event(k, b, e) || changed
			}
		}
	}
	for oid, k := range s.tables {
		if k.phase == phaseKept && !slices.Contains(s.told, oid) {
			s.lose(k, b.Commit)
			changed = true
		}
	}
	s.end = b.Commit
	s.moveLocked()
	return changed
}

// Asked gives the tables that are kept for policies of others, or are on their way to be: what
// fold.Config.Ahead wants.
func (g *Postgres) Asked() []uint32 {
	s := g.keeps
	if s == nil {
		return nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Keys(s.tables))
}

// age forgets the history that nobody resumes from any more.
func (s *keeps) age(now time.Time) {
	if n := len(s.marks); n == 0 || now.Sub(s.marks[n-1].at) >= time.Second {
		s.marks = append(s.marks, timeMark{now, s.end})
	}
	n := 0
	for n < len(s.marks) && now.Sub(s.marks[n].at) > s.g.cfg.SetHistory {
		n++
	}
	if n > 0 {
		s.trim(s.marks[n-1].commit)
		s.marks = slices.Clone(s.marks[n:])
	}
}

// trim forgets the history up to a transaction.
func (s *keeps) trim(commit cdc.LSN) {
	for _, k := range s.tables {
		if k.phase == phaseKept && commit > k.floor {
			before := k.rows.bytes
			k.rows.trim(commit)
			s.bytes += k.rows.bytes - before
			k.floor = commit
		}
	}
}

// shrink keeps within the bound: without the history first, and then without the largest table. It
// tells whether one was given up.
func (s *keeps) shrink() bool {
	if s.bytes <= s.bound {
		return false
	}
	// What the transaction at hand changed is still asked for.
	s.trim(s.end - 1)
	given := false
	for s.bytes > s.bound {
		var largest *kept
		for _, k := range s.tables {
			if k.phase != phaseRefused && (largest == nil || k.size() > largest.size()) {
				largest = k
			}
		}
		if largest == nil || largest.size() == 0 {
			break
		}
		largest.cancel()
		s.forget(largest)
		largest.phase, largest.turned = phaseRefused, s.end
		largest.why = fmt.Sprintf("what is kept takes more than %d bytes", s.bound)
		s.g.cfg.Logger.Warn("what policies ask of a table is not kept any more: Postgres is asked", "table", largest.def.Schema+"."+largest.def.Name, "why", largest.why)
		given = true
	}
	return given
}

// Lost implements fanout.Follower.
func (g *Postgres) Lost() {
	if s := g.keeps; s != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.loseAll(s.now)
		s.moveLocked()
	}
}

func (s *keeps) loseAll(commit cdc.LSN) bool {
	for _, k := range s.tables {
		s.lose(k, commit)
	}
	return len(s.tables) > 0
}

// lose has a table read anew: what is known of it counts no more.
func (s *keeps) lose(k *kept, commit cdc.LSN) {
	if k.phase == phaseRefused {
		return
	}
	k.cancel()
	s.forget(k)
	turned := k.turned
	if k.phase == phaseKept {
		turned = commit
	}
	*k.keeping = keeping{turned: turned}
	s.load(k)
}

// event takes a change of a table that is kept, or being read.
func (s *keeps) event(k *kept, b *cdc.Batch, e *cdc.Event) bool {
	if k.phase == phaseRefused || !k.recording || b.Commit <= k.floor {
		return false
	}
	old, err := k.image(e.Relation, e.Old, nil)
	if err == nil {
		var row cdc.Row
		if row, err = k.image(e.Relation, e.New, e.Old); err == nil {
			switch {
			case e.Op == cdc.Truncate && k.phase == phaseKept:
				s.truncate(k, b)
				return true
			case e.Op == cdc.Update && row != nil && old != nil && slices.Equal(old, row):
				return false // nobody asks for the columns that changed
			case e.Op == cdc.Insert && row != nil, e.Op == cdc.Delete && old != nil, e.Op == cdc.Update && row != nil && old != nil:
				s.change(k, b, old, -1)
				s.change(k, b, row, 1)
				return true
			}
		}
	}
	s.lose(k, b.Commit)
	return true
}

// image gives the kept columns of a row of the stream. Of a value that an update left alone the
// old image tells.
func (k *kept) image(rel *cdc.Relation, row, old cdc.Row) (cdc.Row, error) {
	if row == nil {
		return nil, nil
	}
	from, err := k.bind(rel)
	if err != nil {
		return nil, err
	}
	out := make(cdc.Row, len(from))
	for i, at := range from {
		out[i] = row[at]
		if !out[i].Known() && old != nil {
			out[i] = old[at]
		}
		if !out[i].Known() {
			return nil, fmt.Errorf("bind relation %s: a value is unknown", rel)
		}
	}
	return out, nil
}

// bind finds the kept columns in a relation of the stream.
func (k *kept) bind(rel *cdc.Relation) ([]int, error) {
	if from, ok := k.bindings[rel]; ok {
		return from, nil
	}
	if rel.Identity != cdc.IdentityFull {
		return nil, fmt.Errorf("bind relation %s: its replica identity is not full", rel)
	}
	from := make([]int, len(k.columns))
	for i, c := range k.columns {
		def := &k.def.Columns[c]
		at := rel.Column(def.Name)
		if at < 0 || rel.Columns[at].Type != def.Type.OID {
			return nil, fmt.Errorf("bind relation %s: column %q is another one", rel, def.Name)
		}
		from[i] = at
	}
	if k.bindings == nil || len(k.bindings) > 16 {
		k.bindings = map[*cdc.Relation][]int{}
	}
	k.bindings[rel] = from
	return from, nil
}

func (s *keeps) change(k *kept, b *cdc.Batch, row cdc.Row, n int) {
	if row == nil {
		return
	}
	if k.phase == phaseLoading {
		k.recorded = append(k.recorded, recordedChange{slices.Clone(row), b.Commit, b.XID, n})
		s.bytes += row.Size() + changeBytes
		return
	}
	before := k.rows.bytes
	k.rows.note(row, b.Commit, n, k.phase == phaseRead && k.seen.Sees(b.XID))
	s.bytes += k.rows.bytes - before
}

// truncate empties a table.
func (s *keeps) truncate(k *kept, b *cdc.Batch) {
	for _, e := range k.rows.entries {
		if e.count > 0 {
			s.change(k, b, e.row, -e.count)
		}
	}
}
