package rls

import (
	"maps"
	"slices"
	"strconv"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A grip is an equality of what rows of a sub-select give and what a principal has: rows with other
// values do not concern him, whatever else is asked of them.
type grip struct{ rows, principal formula }

// findGrip finds one among the conditions of a sub-select, nil where there is none.
func findGrip(conds []formula, own reads) *grip {
	for _, f := range conds {
		if f.equal == nil || !indexable(f.equal[0].typ) || !indexable(f.equal[1].typ) {
			continue
		}
		for i, rows := range f.equal {
			principal := f.equal[1-i]
			if rows.reads != 0 && rows.reads&^own == 0 && principal.reads == readsPrincipal {
				return &grip{rows, principal}
			}
		}
	}
	return nil
}

// handle is what a query of a role's policies has in common with the principals whom a row of it may
// concern: the value of the grip, or "" for all of them.
func handle(role string, query int, value string) string {
	return strconv.Itoa(query) + " " + value + " " + role
}

// Handles implements fanout.Follower.
func (g *Postgres) Handles(t *schema.Table, principal *authz.Principal) []string {
	p := g.keptBy(t, principal.Role)
	if p == nil {
		return nil
	}
	b := g.bounds.of(p, principal)
	if b.refused {
		return nil // Postgres is asked
	}
	e := p.evaluation(principal, b)
	var out []string
	for i, q := range p.queries {
		value := ""
		if q.grip != nil {
			d := q.grip.principal.eval(&e)
			switch {
			case e.refused:
			case d.null:
				continue // nothing equals NULL
			default:
				value = appendKey("", q.grip.principal.typ, d)
			}
			e.refused = false
		}
		out = append(out, handle(principal.Role, i, value))
	}
	return out
}

// Reached implements fanout.Follower.
func (g *Postgres) Reached(t *schema.Table, commit cdc.LSN) (handles []string, all bool) {
	found := map[string]bool{}
	for role := range t.Def.Access {
		p := g.keptBy(t, role)
		if p == nil {
			continue
		}
		g.keeps.mu.RLock()
		known := p.reached(role, commit, found)
		g.keeps.mu.RUnlock()
		if !known {
			return nil, true
		}
	}
	return slices.Collect(maps.Keys(found)), false
}

// reached adds the handles of those whom the transaction at commit may concern. It is false where that
// is anybody. The caller holds the lock of what is kept.
func (p *predicate) reached(role string, commit cdc.LSN, found map[string]bool) bool {
	if p.turned(commit) {
		return false
	}
	if !p.stands() {
		return true // Postgres is asked
	}
	e := evaluation{role: role, rows: make([]cdc.Row, p.slots), cells: make([]datum, p.cells)}
	for i, q := range p.queries {
		for _, t := range q.tables {
			for _, row := range t.kept.rows.changed(commit) {
				found[handle(role, i, "")] = true
				if q.grip != nil && !q.reached(&e, t.slot, row, commit, func(value string) { found[handle(role, i, value)] = true }) {
					return false
				}
			}
		}
	}
	return true
}

// reached gives the values of the grip of what a row joins with, before or behind the transaction that
// brought or took it, regardless of the image and of principals.
func (s *setQuery) reached(e *evaluation, slot int, row cdc.Row, commit cdc.LSN, value func(string)) bool {
	j := s.gripped[slot]
	for _, e.at = range []cdc.LSN{commit - 1, commit} {
		e.refused, e.work = false, maxWork-narrowWork
		e.rows[slot] = row
		s.each(e, &j, func() bool {
			if d := s.grip.rows.eval(e); !d.null {
				value(appendKey("", s.grip.rows.typ, d))
			}
			return true
		})
		if e.refused {
			return false
		}
	}
	return true
}

// stands tells whether all that the predicate asks is kept.
func (p *predicate) stands() bool {
	return !slices.ContainsFunc(p.kept, func(k *kept) bool { return k.phase != phaseKept })
}
