package rls

import (
	"slices"

	"github.com/rowtide/rowtide/schema"
)

// maxPairs bounds the comparisons of two arrays' items.
const maxPairs = 1 << 20

// contains is @> of jsonb (JsonbDeepContains in src/backend/utils/adt/jsonb_util.c).
func contains(e *evaluation, a, b datum) datum { return boolean(holds(e, a.doc, b.doc, true)) }

// holds tells whether a document contains another. At the root an array also contains what is
// one of its elements.
func holds(e *evaluation, d, part *document, root bool) bool {
	switch {
	case root && d.kind == 'a' && isScalar(part):
		return slices.ContainsFunc(d.items, func(i *document) bool { return same(e, i, part) })
	case d.kind != part.kind:
		return false
	case d.kind == 'o':
		for key, want := range part.fields {
			if have := d.fields[key]; have == nil || !holds(e, have, want, false) {
				return false
			}
		}
		return true
	case d.kind == 'a' && len(d.items)*len(part.items) > maxPairs:
		return e.refuse().isTrue()
	case d.kind == 'a':
		return !slices.ContainsFunc(part.items, func(want *document) bool {
			return !slices.ContainsFunc(d.items, func(have *document) bool { return holds(e, have, want, false) })
		})
	}
	return same(e, d, part)
}

func isScalar(d *document) bool { return d.kind != 'a' && d.kind != 'o' }

// same is = of jsonb: numbers are compared by value.
func same(e *evaluation, a, b *document) bool {
	switch {
	case a.kind != b.kind:
		return false
	case a.kind == 'd':
		n, ok := schema.CompareValues("numeric", a.text, b.text)
		if !ok {
			e.refuse()
		}
		return n == 0
	case a.kind == 'a':
		return slices.EqualFunc(a.items, b.items, func(x, y *document) bool { return same(e, x, y) })
	case a.kind == 'o':
		if len(a.fields) != len(b.fields) {
			return false
		}
		for key, x := range a.fields {
			if y := b.fields[key]; y == nil || !same(e, x, y) {
				return false
			}
		}
		return true
	}
	return a.text == b.text
}
