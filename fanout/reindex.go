package fanout

import (
	"maps"
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// hold notes what changes of membership reach a class by.
func (t *table) hold(c *class, f Follower) {
	if f == nil || !t.schema.Def.Access[c.view.principal.Role].RowSecurity {
		return
	}
	c.handles = f.Handles(t.schema, c.view.principal)
	for _, h := range c.handles {
		t.handles[h] = append(t.handles[h], c)
	}
}

// release forgets that.
func (t *table) release(c *class) {
	for _, h := range c.handles {
		if left := without(t.handles[h], c); len(left) > 0 {
			t.handles[h] = left
		} else {
			delete(t.handles, h)
		}
	}
	c.handles = nil
}

// reached gives the classes that a transaction's change of membership may concern.
func (r *registry) reached(t *table, commit cdc.LSN) []*class {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reachedLocked(t, commit)
}

func (r *registry) reachedLocked(t *table, commit cdc.LSN) []*class {
	handles, all := r.follower.Reached(t.schema, commit)
	if all {
		return slices.Collect(maps.Values(t.classes))
	}
	var out []*class
	met := map[*class]bool{}
	for _, h := range handles {
		for _, c := range t.handles[h] {
			if !met[c] {
				met[c] = true
				out = append(out, c)
			}
		}
	}
	return out
}

// reindex puts the classes into the index anew whose conditions of equality a transaction may have
// changed, as far as it has been followed, before its events are looked up: by then the conditions
// are those of before the transaction and of behind it, since images of both are found by them.
//
// Who is placed for the first time meanwhile is so either before this, and is among those that it goes
// through, or by what has been followed: both take the registry's lock.
func (r *registry) reindex(commit cdc.LSN) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for of, t := range r.tables {
		var principals []*authz.Principal
		index := map[authz.Key][]*class{}
		for _, c := range r.reachedLocked(t, commit) {
			p := c.view.principal
			if index[p.Key()] == nil {
				principals = append(principals, p)
			}
			index[p.Key()] = append(index[p.Key()], c)
		}
		if len(principals) == 0 {
			continue
		}
		for i, effect := range r.follower.Affected(of, commit, principals) {
			if effect != authz.NoEffect {
				r.replaceLocked(t, index[principals[i].Key()])
			}
		}
	}
}

// reindexAll does so where nothing is known any more.
func (r *registry) reindexAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.tables {
		r.replaceLocked(t, slices.Collect(maps.Values(t.classes)))
	}
}

func (r *registry) replaceLocked(t *table, classes []*class) {
	for _, c := range classes {
		t.unplace(c)
		t.place(c, equalities(c.view, r.narrower))
	}
}
