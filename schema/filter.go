package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/cdc"
)

// A Filter is a where argument. Images are in the order of Table.Columns.
//
// It answers as PostgreSQL would answer the same condition in SQL, NULL included, or says that
// it cannot.
type Filter struct {
	table *Table
	root  *condition
}

// An UnknownValueError says that an image does not know a value that is needed: it is not in the
// stream (Unchanged, Absent), or it is of a newer state of the table than the catalog.
type UnknownValueError struct{ Table, Column string }

// Error names the column.
func (e *UnknownValueError) Error() string {
	return fmt.Sprintf("read column %q of %s: the image does not hold its value, or not in a form that its type has", e.Column, e.Table)
}

// Match tells whether the filter is true of the image: not false and not NULL. It is an error
// where the image does not know a column that decides (Unchanged, Absent).
func (f *Filter) Match(image cdc.Row) (bool, error) {
	e := evaluation{image: image, columns: f.table.Columns, unknown: -1}
	switch e.of(f.root) {
	case isTrue:
		return true, nil
	case undecided:
		return false, &UnknownValueError{Table: f.table.Def.SQLName(), Column: f.table.Columns[e.unknown].Def.Name}
	case isFalse, isNull:
	}
	return false, nil
}

// truth is SQL's three-valued logic, and undecided where the image does not tell.
type truth uint8

const (
	isFalse truth = iota
	isNull
	isTrue
	undecided
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

type operator uint8

const (
	opAnd operator = iota + 1
	opOr
	opNot
	opEq
	opNe
	opLt
	opLte
	opGt
	opGte
	opIn
	opNotIn
	opIsNull
	opLike
	opPrefix
)

// A condition is a node of a filter: and, or, not over others, or an operator on a column.
type condition struct {
	op      operator
	kids    []*condition
	column  int
	compare *comparison
	operand value
	set     map[value]struct{} // of in and notIn
	yes     bool               // of isNull
	pattern *pattern           // of like
}

type evaluation struct {
	image   cdc.Row
	columns []*Column
	unknown int // a column that the image does not know
}

func (e *evaluation) of(c *condition) truth {
	switch c.op {
	case opAnd:
		return e.all(c.kids)
	case opOr:
		return e.some(c.kids)
	case opNot:
		switch t := e.of(c.kids[0]); t {
		case isTrue:
			return isFalse
		case isFalse:
			return isTrue
		case isNull, undecided:
			return t
		}
	default:
	}
	return e.column(c)
}

// all is AND: false decides, even beside what is not known.
func (e *evaluation) all(kids []*condition) truth {
	out := isTrue
	for _, k := range kids {
		switch e.of(k) {
		case isFalse:
			return isFalse
		case undecided:
			out = undecided
		case isNull:
			if out == isTrue {
				out = isNull
			}
		case isTrue:
		}
	}
	return out
}

// some is OR: true decides.
func (e *evaluation) some(kids []*condition) truth {
	out := isFalse
	for _, k := range kids {
		switch e.of(k) {
		case isTrue:
			return isTrue
		case undecided:
			out = undecided
		case isNull:
			if out == isFalse {
				out = isNull
			}
		case isFalse:
		}
	}
	return out
}

func (e *evaluation) column(c *condition) truth {
	v := e.image[c.column]
	switch {
	case !v.Known():
		e.unknown = c.column
		return undecided
	case c.op == opIsNull:
		return truthOf(v.IsNull() == c.yes)
	case (c.op == opIn || c.op == opNotIn) && len(c.set) == 0:
		// = ANY of an empty array is false, and <> ALL true, of NULL as well.
		return truthOf(c.op == opNotIn)
	case v.IsNull():
		return isNull
	case c.op == opLike:
		return truthOf(c.pattern.match(c.compare.like(v.Text())))
	case c.op == opPrefix:
		return truthOf(strings.HasPrefix(c.compare.prefix(v.Text()), c.operand.s))
	}
	have, ok := c.compare.parse(v.Text())
	if !ok {
		e.unknown = c.column
		return undecided
	}
	return truthOf(c.holds(have))
}

func (c *condition) holds(have value) bool {
	switch c.op {
	case opEq:
		return have == c.operand
	case opNe:
		return have != c.operand
	case opIn, opNotIn:
		_, in := c.set[have]
		return in == (c.op == opIn)
	case opLt:
		return c.compare.order(have, c.operand) < 0
	case opLte:
		return c.compare.order(have, c.operand) <= 0
	case opGt:
		return c.compare.order(have, c.operand) > 0
	case opGte:
		return c.compare.order(have, c.operand) >= 0
	default:
		return false
	}
}

// Columns are the indexes of the columns that the filter reads, ascending.
func (f *Filter) Columns() []int {
	var out []int
	var walk func(c *condition)
	walk = func(c *condition) {
		if c.op > opNot {
			out = append(out, c.column)
		}
		for _, k := range c.kids {
			walk(k)
		}
	}
	walk(f.root)
	slices.Sort(out)
	return slices.Compact(out)
}
