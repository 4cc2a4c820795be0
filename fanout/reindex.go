package fanout

import (
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// reindex puts the classes into the index anew whose conditions of equality a transaction may have
// changed, as far as it has been followed, before its events are looked up: by then the conditions
// are those of before the transaction and of behind it, since images of both are found by them.
//
// Who is placed for the first time meanwhile is so either before this, and is among those that it goes
// through, or by what has been followed: both take the registry's lock.
func (d *Dispatcher) reindex(commit cdc.LSN) {
	d.registry.reindex(func(t *schema.Table, principals []*authz.Principal) []authz.Effect {
		return d.follower.Affected(t, commit, principals)
	})
}

// reindex puts the classes anew into the index whose principals an effect is told of, in their order.
func (r *registry) reindex(changed func(*schema.Table, []*authz.Principal) []authz.Effect) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for of, t := range r.tables {
		var principals []*authz.Principal
		index := map[authz.Key][]*class{}
		for _, c := range t.classes {
			p := c.view.principal
			if !of.Def.Access[p.Role].RowSecurity {
				continue
			}
			if index[p.Key()] == nil {
				principals = append(principals, p)
			}
			index[p.Key()] = append(index[p.Key()], c)
		}
		if len(principals) == 0 {
			continue
		}
		for i, effect := range changed(of, principals) {
			if effect != authz.NoEffect {
				for _, c := range index[principals[i].Key()] {
					t.unplace(c)
					t.place(c, equalities(c.view, r.narrower))
				}
			}
		}
	}
}

// everybody is what changes where nothing is known any more.
func everybody(_ *schema.Table, principals []*authz.Principal) []authz.Effect {
	return slices.Repeat([]authz.Effect{authz.Unknown}, len(principals))
}
