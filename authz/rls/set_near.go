package rls

import (
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A near is where the rows are that a change of membership may have uncovered or hidden: those with
// some values in a column, and others by other columns.
type near struct {
	// all tells that it may be any.
	all     bool
	columns map[int]*nearColumn
	size    int
}

type nearColumn struct {
	values map[string]struct{}
	null   bool // and those where it is NULL
}

// maxNear bounds the values that rows are looked for by.
const maxNear = 1000

func (n *near) empty() bool { return !n.all && len(n.columns) == 0 }

func (n *near) column(i int) *nearColumn {
	c := n.columns[i]
	if c == nil {
		if n.columns == nil {
			n.columns = map[int]*nearColumn{}
		}
		c = &nearColumn{values: map[string]struct{}{}}
		n.columns[i] = c
	}
	return c
}

func (n *near) add(column int, value string, null bool) {
	c := n.column(column)
	c.null = c.null || null
	if _, ok := c.values[value]; !ok {
		c.values[value] = struct{}{}
		if n.size++; n.size > maxNear {
			n.all = true
		}
	}
}

// An anchor is an equality that ties the rows of a sub-select to a column of the image: rows with
// other values there do not concern the image.
type anchor struct {
	column formula
	value  formula
	// orNull tells that images with NULL there are concerned by any row, and all images by a row
	// with NULL: what NULL is compared with is neither TRUE nor FALSE.
	orNull bool
}

// tie notes an equality that is an anchor. Those that NULL passes by are the better ones.
func (s *setQuery) tie(column, value formula, orNull bool) {
	if column.column == 0 || !printsAlike(column.typ) || value.reads&^(s.own|readsPrincipal) != 0 {
		return
	}
	if s.anchor == nil || s.anchor.orNull && !orNull {
		s.anchor = &anchor{column, value, orNull}
	}
}

// Affected implements fanout.Follower.
func (g *Postgres) Affected(t *schema.Table, commit cdc.LSN, principals []*authz.Principal) []authz.Effect {
	out := make([]authz.Effect, len(principals))
	for i, principal := range principals {
		if p := g.keptBy(t, principal.Role); p != nil {
			b := g.bounds.of(p, principal)
			g.keeps.mu.RLock()
			switch {
			case p.turned(commit):
				out[i] = authz.Unknown
			case !p.near(b, principal, commit, &near{}).empty():
				out[i] = authz.RowsMoved
			}
			g.keeps.mu.RUnlock()
		}
	}
	return out
}

// turned tells whether a table that the predicate asks began or ceased to be kept at a transaction.
// The caller holds the lock of what is kept.
func (p *predicate) turned(commit cdc.LSN) bool {
	return slices.ContainsFunc(p.kept, func(k *kept) bool { return k.turned == commit })
}

// near adds where the rows are of which the predicate may say something else behind a transaction
// than before it. The caller holds the lock of what is kept.
func (p *predicate) near(b *bound, principal *authz.Principal, commit cdc.LSN, n *near) *near {
	if b.refused || !p.stands() {
		return n // Postgres is asked
	}
	e := p.evaluation(principal, b)
	for _, q := range p.queries {
		for _, t := range q.tables {
			for _, row := range t.kept.rows.changed(commit) {
				if q.near(&e, t.slot, row, commit, n); n.all {
					return n
				}
			}
		}
	}
	return n
}

// near adds where the images are that a row concerns, before or behind the transaction that brought
// or took it: where it joins with others under the conditions that do not depend on the image.
func (s *setQuery) near(e *evaluation, slot int, row cdc.Row, commit cdc.LSN, n *near) {
	j := s.changed[slot]
	for _, e.at = range []cdc.LSN{commit - 1, commit} {
		e.refused, e.work = false, 0
		e.rows[slot] = row
		s.each(e, &j, func() bool {
			s.concern(e, n)
			return !n.all
		})
		n.all = n.all || e.refused
	}
}

// concern adds the images that rows concern, by the anchor.
func (s *setQuery) concern(e *evaluation, n *near) {
	if s.anchor == nil {
		n.all = true
		return
	}
	d := s.anchor.value.eval(e)
	switch {
	case e.refused, d.null && s.anchor.orNull:
		n.all = true
	case !d.null:
		n.add(s.anchor.column.column-1, printed(s.anchor.column.typ, d), s.anchor.orNull)
	}
}
