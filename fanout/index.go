package fanout

import (
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A table is the classes of subscriptions to one table of a catalog, and the index that finds
// those whose conditions of equality an image meets. The registry's lock guards it.
//
// The index leaves nobody out: a class that it does not find sees neither image of the event,
// whatever else its policies and where ask. Where an image does not tell a value, all classes
// that ask for that value are found.
type table struct {
	schema  *schema.Table
	classes map[classKey]*class
	rest    []*class // those that each event has to be held against
	shapes  []*shape
	handles map[string][]*class // what changes of membership reach them by
	// kinds counts the classes that want each kind, and size all subscriptions.
	kinds [schema.KindProgress + 1]int
	size  int

	key, other []byte // memory of find
}

// A shape is the columns that some classes have conditions of equality on: these are found by a
// single look into a map.
type shape struct {
	terms   []term
	classes map[string][]*class
}

// A term is a column as policies compare it, by its text, or as filters do, by its value.
type term struct {
	column int
	value  bool
}

// An equality is what a class asks of one term.
type equality struct {
	term
	keys []string
}

// Bounds on the index: how many terms a shape has, in how many places of it a class stands, and
// how many shapes of several terms a table has, since each costs a look at every image.
const (
	maxTerms  = 3
	maxPlaces = 1024
	maxShapes = 32
)

func newTable(t *schema.Table) *table {
	return &table{schema: t, classes: map[classKey]*class{}, handles: map[string][]*class{}}
}

// class gives the class of a view, a new one where it is the first of its kind.
func (t *table) class(v view, narrower Narrower, follower Follower) *class {
	key := v.class()
	if c := t.classes[key]; c != nil {
		return c
	}
	c := &class{table: t, key: key, view: v}
	c.lane.class = c
	t.classes[key] = c
	for k := range t.kinds {
		if v.op.Kinds.Has(schema.ChangeKind(k)) { //nolint:gosec // there are few
			t.kinds[k]++
		}
	}
	t.place(c, equalities(v, narrower))
	t.hold(c, follower)
	return c
}

// forget takes a class without members out.
func (t *table) forget(c *class) {
	delete(t.classes, c.key)
	for k := range t.kinds {
		if c.view.op.Kinds.Has(schema.ChangeKind(k)) { //nolint:gosec // there are few
			t.kinds[k]--
		}
	}
	t.unplace(c)
	t.release(c)
}

// unplace takes a class out of the index.
func (t *table) unplace(c *class) {
	if c.shape == nil {
		t.rest = without(t.rest, c)
		c.never = false
		return
	}
	for _, k := range c.keys {
		if left := without(c.shape.classes[k], c); len(left) > 0 {
			c.shape.classes[k] = left
		} else {
			delete(c.shape.classes, k)
		}
	}
	if len(c.shape.classes) == 0 {
		t.shapes = slices.DeleteFunc(t.shapes, func(s *shape) bool { return s == c.shape })
	}
	c.shape, c.keys = nil, nil
}

// without takes a class out of a list, whose order does not matter.
func without(list []*class, c *class) []*class {
	i := slices.Index(list, c)
	if i < 0 {
		return list
	}
	last := len(list) - 1
	list[i], list[last] = list[last], nil
	return list[:last]
}

// equalities gives what images must have for a view, the most selective first.
func equalities(v view, narrower Narrower) []equality {
	var out []equality
	if narrower != nil && v.op.Table.Def.Access[v.principal.Role].RowSecurity {
		for _, e := range narrower.Narrow(v.op.Table, v.principal) {
			out = append(out, equality{term{e.Column, false}, e.Values})
		}
	}
	if v.op.Where != nil {
		for _, e := range v.op.Where.Equalities() {
			out = append(out, equality{term{e.Column, true}, e.Keys})
		}
	}
	slices.SortStableFunc(out, func(a, b equality) int { return cmp.Compare(len(a.keys), len(b.keys)) })
	var distinct []equality
	for _, e := range out {
		if !slices.ContainsFunc(distinct, func(o equality) bool { return o.term == e.term }) {
			distinct = append(distinct, e)
		}
	}
	return distinct
}

// chosen gives the equalities that the index takes, and in how many places a class then stands.
func chosen(eq []equality) ([]equality, int) {
	places, n := 1, 0
	for n < len(eq) && n < maxTerms && places*len(eq[n].keys) <= maxPlaces {
		places *= len(eq[n].keys)
		n++
	}
	return eq[:n], places
}

// place puts a class into the index.
func (t *table) place(c *class, eq []equality) {
	eq, places := chosen(eq)
	switch {
	case len(eq) == 0:
		t.rest = append(t.rest, c)
		return
	case places == 0:
		c.never = true
		return
	}
	slices.SortFunc(eq, func(a, b equality) int {
		return cmp.Or(cmp.Compare(a.column, b.column), compareBool(a.value, b.value))
	})
	c.shape = t.shape(eq)
	if c.shape == nil { // there are too many: one term of it will do
		eq = []equality{slices.MinFunc(eq, func(a, b equality) int { return cmp.Compare(len(a.keys), len(b.keys)) })}
		c.shape = t.shape(eq)
	}
	c.keys = combine(eq)
	for _, k := range c.keys {
		c.shape.classes[k] = append(c.shape.classes[k], c)
	}
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// shape gives the shape of the terms, or nil where there are too many. Those of one term are as
// many at most as the table has columns, twice.
func (t *table) shape(eq []equality) *shape {
	terms := make([]term, len(eq))
	for i := range eq {
		terms[i] = eq[i].term
	}
	for _, s := range t.shapes {
		if slices.Equal(s.terms, terms) {
			return s
		}
	}
	if len(terms) > 1 && len(t.shapes) >= maxShapes {
		return nil
	}
	s := &shape{terms: terms, classes: map[string][]*class{}}
	t.shapes = append(t.shapes, s)
	return s
}

// combine gives the keys of all combinations.
func combine(eq []equality) []string {
	out := []string{""}
	for _, e := range eq {
		var longer []string
		for _, front := range out {
			for _, k := range e.keys {
				longer = append(longer, front+string(binary.AppendUvarint(nil, uint64(len(k))))+k)
			}
		}
		out = longer
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A reach tells what an image has in a shape.
type reach uint8

const (
	nothing    reach = iota + 1 // no class: a value is NULL, or there is no image
	byKey                       // those under the key
	everything                  // all: a value is not known
)

// look writes an image's key in a shape.
func (t *table) look(dst []byte, s *shape, image cdc.Row) ([]byte, reach) {
	if image == nil {
		return dst, nothing
	}
	found := byKey
	for _, m := range s.terms {
		v := image[m.column]
		if v.IsNull() {
			return dst, nothing
		}
		start := len(dst)
		if !m.value && v.Known() {
			dst = append(binary.AppendUvarint(dst, uint64(len(v.Text()))), v.Text()...)
			continue
		}
		var ok bool
		if dst, ok = t.schema.AppendKey(append(dst, 0), m.column, v); !ok || !m.value {
			found = everything
			continue
		}
		dst = counted(dst, start)
	}
	return dst, found
}

// counted writes the length of what stands behind the byte at start, which was left for it, before
// it.
func counted(dst []byte, start int) []byte {
	n := len(dst) - start - 1
	if n < 1<<7 {
		dst[start] = byte(n)
		return dst
	}
	value := string(dst[start+1:])
	return append(binary.AppendUvarint(dst[:start], uint64(n)), value...) //nolint:gosec // a length
}

// find calls hit for each class that an event may concern, some perhaps twice.
func (t *table) find(s *subject, hit func(*class)) {
	switch {
	case s.event.Op == cdc.Truncate || s.event.Op == cdc.Gap || s.broken:
		for _, c := range t.classes {
			hit(c)
		}
		return
	}
	for _, c := range t.rest {
		hit(c)
	}
	for _, h := range t.shapes {
		old, before := t.look(t.key[:0], h, s.old)
		now, after := t.look(t.other[:0], h, s.new)
		t.key, t.other = old, now
		if before == everything || after == everything {
			for _, list := range h.classes {
				for _, c := range list {
					hit(c)
				}
			}
			continue
		}
		if before == byKey {
			for _, c := range h.classes[string(old)] {
				hit(c)
			}
		}
		if after == byKey && (before != byKey || string(old) != string(now)) {
			for _, c := range h.classes[string(now)] {
				hit(c)
			}
		}
	}
}

// wanted is the set of kinds that any class wants.
func (t *table) wanted() schema.KindSet {
	var out schema.KindSet
	for k, n := range t.kinds {
		if n > 0 {
			out = out.With(schema.ChangeKind(k)) //nolint:gosec // there are few
		}
	}
	return out
}
