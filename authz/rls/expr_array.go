package rls

import (
	"fmt"
	"slices"
	"strings"
)

func isArray(typ string) bool { return strings.HasSuffix(typ, "[]") }

// arrays compiles the operators of arrays that have one dimension: no others are read.
func (c *compiler) arrays(op string, l, r formula) (formula, error) {
	elem := strings.TrimSuffix(l.typ, "[]")
	switch {
	case op == "||" && l.typ == r.typ:
		return formula{typ: l.typ, eval: joined(l, r, datum.items, datum.items)}, nil
	case op == "||" && l.typ == r.typ+"[]":
		return formula{typ: l.typ, eval: joined(l, r, datum.items, datum.alone)}, nil
	case op == "||" && l.typ+"[]" == r.typ:
		return formula{typ: r.typ, eval: joined(l, r, datum.alone, datum.items)}, nil
	}
	order := c.order(elem, elem)
	if l.typ != r.typ || order == nil {
		return formula{}, fmt.Errorf("it uses the operator %s on %s and %s", op, l.typ, r.typ)
	}
	switch op {
	case "@>":
	case "<@":
		l, r = r, l
	case "&&":
		return formula{typ: "bool", eval: strict(l, r, func(e *evaluation, a, b datum) datum {
			return boolean(slices.ContainsFunc(b.list, func(d datum) bool { return among(e, order, a.list, d) }))
		})}, nil
	default:
		return formula{}, fmt.Errorf("it uses the operator %s on %s", op, l.typ)
	}
	return formula{typ: "bool", eval: strict(l, r, func(e *evaluation, a, b datum) datum {
		return boolean(!slices.ContainsFunc(b.list, func(d datum) bool { return !among(e, order, a.list, d) }))
	})}, nil
}

// among tells whether a value is one of a list; NULL is not (array_contain_compare).
func among(e *evaluation, order func(*evaluation, datum, datum) int, list []datum, d datum) bool {
	return !d.null && slices.ContainsFunc(list, func(o datum) bool { return !o.null && order(e, o, d) == 0 })
}

// items are an array's elements, none where there is no array; alone is an element by itself.
func (d datum) items() []datum { return d.list }
func (d datum) alone() []datum { return []datum{d} }

// joined is ||, to which an array that is NULL is nothing. Two of those are NULL.
func joined(l, r formula, left, right func(datum) []datum) func(*evaluation) datum {
	return func(e *evaluation) datum {
		a, b := l.eval(e), r.eval(e)
		if a.null && b.null && l.typ == r.typ {
			return null
		}
		return datum{list: slices.Concat(left(a), right(b))}
	}
}

// difference gives 0 for equal values of jsonb or of an array type, and 1 for others.
func (c *compiler) difference(typ string) func(*evaluation, datum, datum) int {
	if typ == "jsonb" {
		return func(e *evaluation, a, b datum) int { return int(boolean(!same(e, a.doc, b.doc)).i) }
	}
	elem := strings.TrimSuffix(typ, "[]")
	order := c.order(elem, elem)
	if order == nil {
		return nil
	}
	return func(e *evaluation, a, b datum) int {
		// To array_eq NULLs are equal.
		return int(boolean(!slices.EqualFunc(a.list, b.list, func(x, y datum) bool {
			return x.null == y.null && (x.null || order(e, x, y) == 0)
		})).i)
	}
}
