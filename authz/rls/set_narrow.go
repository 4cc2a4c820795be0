package rls

import (
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// A tie is an equality of a column of the image and a value that a row of a sub-select gives.
type tie struct {
	column int // from 0
	typ    string
	value  formula
}

// tied gives the tie of an equality, if it is one.
func tied(column, value formula, own reads) (tie, bool) {
	if column.column == 0 || value.reads&own == 0 || value.reads&^(own|readsPrincipal) != 0 || !printsAlike(column.typ) || !printsAlike(value.typ) {
		return tie{}, false
	}
	return tie{column.column - 1, column.typ, value}, true
}

// maxTied bounds the rows that are read to narrow by a sub-select: with more, an index of
// subscriptions has no place for all the values.
// narrowWork bounds the rows that are looked at for that.
const (
	maxTied    = 4096
	narrowWork = 20_000
)

// narrow narrows by there being a row of the sub-select, at the end of the transaction at hand or of the one before,
// that also meets the equalities with what is looked for. What is kept may be another behind every
// transaction; who holds on to the answer asks again when Affected says so. It reads conditions
// that the image has no part in, as Affected does, so whatever changes the answer is told there.
func (s *setQuery) narrow(equals []formula) narrow {
	var ties []tie
	var free []formula
	for _, f := range s.conds {
		if f.reads&^(s.own|readsPrincipal) == 0 {
			free = append(free, f)
		}
	}
	for _, f := range slices.Concat(s.conds, equals) {
		if f.equal == nil {
			continue
		}
		if t, ok := tied(f.equal[0], f.equal[1], s.own); ok {
			ties = append(ties, t)
		} else if t, ok := tied(f.equal[1], f.equal[0], s.own); ok {
			ties = append(ties, t)
		}
	}
	j := joinAll(s.tables, free, s.own, 0)
	return func(e *evaluation) []authz.Equality {
		if !e.kept {
			return nil
		}
		out := make([]authz.Equality, len(ties))
		seen := make([]map[string]bool, len(ties))
		for i, t := range ties {
			out[i].Column, seen[i] = t.column, map[string]bool{}
		}
		rows := 0
		e.work = maxWork - narrowWork
		for _, e.at = range []cdc.LSN{e.now - 1, e.now} {
			s.each(e, &j, func() bool {
				rows++
				for i, t := range ties {
					if d := t.value.eval(e); !d.null {
						if text := printed(t.typ, d); !seen[i][text] {
							seen[i][text] = true
							out[i].Values = append(out[i].Values, text)
						}
					}
				}
				return len(ties) > 0 && rows <= maxTied
			})
		}
		switch {
		case e.refused:
			return nil
		case rows == 0:
			return never()
		case rows > maxTied || len(ties) == 0:
			return nil
		}
		return out
	}
}

// narrowAny narrows by there being a row of any of several sub-selects.
func narrowAny(queries []*setQuery, equals func(i int) []formula) narrow {
	kids := make([]formula, len(queries))
	for i, s := range queries {
		kids[i].narrow = s.narrow(equals(i))
	}
	return narrowSome(kids)
}

// lend opens what is kept to an evaluation, until the function that it gives is called.
func (s *keeps) lend(p *predicate, e *evaluation) (back func()) {
	if s == nil || len(p.kept) == 0 {
		return func() {}
	}
	s.mu.RLock()
	e.now = s.now
	e.kept = p.stands()
	return s.mu.RUnlock
}
