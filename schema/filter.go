package schema

import (
	"errors"
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
	table     *Table
	root      *condition
	signature string
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
//
// Some comparisons of text only PostgreSQL can make. Where one decides that facts does not know,
// the error is ErrUnasked, and facts wants all that it takes: learn them and match again. Facts may
// be nil where Asks is false.
func (f *Filter) Match(image cdc.Row, facts *Facts) (bool, error) {
	e := evaluation{image: image, columns: f.table.Columns, facts: facts, unknown: -1}
	switch e.of(f.root) {
	case isTrue:
		return true, nil
	case undecided:
		if e.open {
			return false, ErrUnasked
		}
		return false, &UnknownValueError{Table: f.table.Def.SQLName(), Column: f.table.Columns[e.unknown].Def.Name}
	case isFalse, isNull:
	}
	return false, nil
}

// ErrUnasked says that a filter cannot be told before PostgreSQL has answered what Facts wants.
var ErrUnasked = errors.New("match: PostgreSQL has to be asked first")

// Asks tells whether the filter may want Facts.
func (f *Filter) Asks() bool { return f.root.asks() }

func (c *condition) asks() bool {
	if c.compare != nil && c.compare.collation != nil {
		l := c.compare.collation
		switch c.op { //nolint:exhaustive // the others are of bytes, or of no text
		case opLt, opLte, opGt, opGte:
			return c.compare.order == nil
		case opEq, opNe, opIn, opNotIn:
			return l.loose
		case opLike, opILike:
			return (c.op == opILike || l.folded) && !l.foldsBytes
		}
	}
	return slices.ContainsFunc(c.kids, (*condition).asks)
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
	opILike
	opPrefix
	opContains
)

// A condition is a node of a filter: and, or, not over others, or an operator on a column.
type condition struct {
	op      operator
	kids    []*condition
	column  int
	compare *comparison
	operand value
	set     map[value]struct{} // of in and notIn
	// loosely tells that values which are not in set may equal one that is.
	loosely bool
	yes     bool                               // of isNull
	pattern *pattern                           // of like, and of ilike in lower case
	ascii   bool                               // the pattern is
	holder  func(text string) (holds, ok bool) // of contains
}

type evaluation struct {
	image   cdc.Row
	columns []*Column
	facts   *Facts
	unknown int  // a column that the image does not know
	open    bool // a fact that only PostgreSQL knows might decide
}

func (e *evaluation) of(c *condition) truth {
	switch c.op {
	case opAnd:
		return e.all(c.kids)
	case opOr:
		return e.some(c.kids)
	case opNot:
		return not(e.of(c.kids[0]))
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
	}
	return e.operator(c, v.Text())
}

// operator judges a value that is known and not NULL.
func (e *evaluation) operator(c *condition, text string) truth {
	switch c.op { //nolint:exhaustive // the others compare values
	case opLike, opILike:
		if c.op == opILike || c.compare.collation.folded {
			return e.ilike(c, c.compare.like(text))
		}
		return truthOf(c.pattern.match(c.compare.like(text)))
	case opPrefix:
		return truthOf(strings.HasPrefix(c.compare.prefix(text), c.operand.s))
	case opContains:
		holds, ok := c.holder(text)
		return e.known(c, truthOf(holds), ok)
	}
	have, ok := c.compare.parse(text)
	if !ok {
		return e.known(c, isFalse, false)
	}
	return e.holds(c, have)
}

// known is the answer where the value could be read.
func (e *evaluation) known(c *condition, t truth, ok bool) truth {
	if !ok {
		e.unknown = c.column
		return undecided
	}
	return t
}

func (e *evaluation) holds(c *condition, have value) truth {
	switch c.op {
	case opEq:
		return e.equal(c.compare, have, c.operand)
	case opNe:
		return not(e.equal(c.compare, have, c.operand))
	case opIn:
		return e.in(c, have)
	case opNotIn:
		return not(e.in(c, have))
	case opLt:
		return e.ordered(c.compare, have, c.operand, func(sign int) bool { return sign < 0 })
	case opLte:
		return e.ordered(c.compare, have, c.operand, func(sign int) bool { return sign <= 0 })
	case opGt:
		return e.ordered(c.compare, have, c.operand, func(sign int) bool { return sign > 0 })
	case opGte:
		return e.ordered(c.compare, have, c.operand, func(sign int) bool { return sign >= 0 })
	default:
		return isFalse
	}
}

func (e *evaluation) in(c *condition, have value) truth {
	if _, in := c.set[have]; in || !c.loosely {
		return truthOf(in)
	}
	out := isFalse
	for operand := range c.set {
		switch e.equal(c.compare, have, operand) {
		case isTrue:
			return isTrue
		case undecided:
			out = undecided
		case isFalse, isNull:
		}
	}
	return out
}

func not(t truth) truth {
	switch t {
	case isTrue:
		return isFalse
	case isFalse:
		return isTrue
	case isNull, undecided:
	}
	return t
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
