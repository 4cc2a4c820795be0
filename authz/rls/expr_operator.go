package rls

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// binaryFunc is a function of two values that are not NULL.
type binaryFunc func(e *evaluation, a, b datum) datum

// pair compiles two operands. A literal takes the type of the other one.
func (c *compiler) pair(left, right *node) (l, r formula, err error) {
	if l, err = c.compile(left); err != nil {
		return l, r, err
	}
	if r, err = c.compile(right); err != nil {
		return l, r, err
	}
	switch {
	case l.typ == "" && r.typ == "":
		l, err = c.to(l, "text")
		if err == nil {
			r, err = c.to(r, "text")
		}
	case l.typ == "":
		l, err = c.to(l, r.typ)
	case r.typ == "":
		r, err = c.to(r, l.typ)
	}
	return l, r, err
}

func isInt(typ string) bool { return typ == "int2" || typ == "int4" || typ == "int8" }

// comparison gives the operator on two types. Strings are equal where their bytes are: columns
// whose collation is not deterministic are not compiled, and the order of text is that of its
// collation, which is not known here.
func (c *compiler) comparison(op, l, r string) (binaryFunc, error) {
	equality := op == "=" || op == "<>"
	order := c.order(l, r)
	if equality && l == r && (l == "jsonb" || isArray(l)) {
		order = c.difference(l)
	}
	if order == nil || !equality && (l == "text" || l == "name" || r == "name") {
		return nil, fmt.Errorf("it uses %s %s %s", l, op, r)
	}
	var holds func(int) bool
	switch op {
	case "=":
		holds = func(n int) bool { return n == 0 }
	case "<>":
		holds = func(n int) bool { return n != 0 }
	case "<":
		holds = func(n int) bool { return n < 0 }
	case "<=":
		holds = func(n int) bool { return n <= 0 }
	case ">":
		holds = func(n int) bool { return n > 0 }
	case ">=":
		holds = func(n int) bool { return n >= 0 }
	default:
		return nil, fmt.Errorf("it uses the operator %s on %s", op, l)
	}
	return func(e *evaluation, a, b datum) datum { return boolean(holds(order(e, a, b))) }, nil
}

// order compares two values of types that have an operator of pg_catalog.
func (c *compiler) order(l, r string) func(e *evaluation, a, b datum) int {
	switch {
	case isInt(l) && isInt(r), l == "bool" && r == "bool":
		return func(_ *evaluation, a, b datum) int {
			switch {
			case a.i < b.i:
				return -1
			case a.i > b.i:
				return 1
			}
			return 0
		}
	case (l == "text" || l == "name") && (r == "text" || r == "name"), l == "uuid" && r == "uuid":
		return func(_ *evaluation, a, b datum) int { return strings.Compare(a.s, b.s) }
	case l != r:
		return nil
	case l == "numeric" || l == "date" || l == "timestamp" || l == "timestamptz":
		return func(e *evaluation, a, b datum) int {
			n, ok := schema.CompareValues(l, a.s, b.s)
			if !ok {
				e.refuse()
			}
			return n
		}
	}
	if t := c.enums[l]; t != nil {
		return func(_ *evaluation, a, b datum) int { return slices.Index(t.Labels, a.s) - slices.Index(t.Labels, b.s) }
	}
	return nil
}

func (c *compiler) operator(n *node) (formula, error) {
	switch n.text {
	case "->", "->>", "#>", "#>>", "?", "?|", "?&":
		return c.lookInto(n)
	case "=", "<>", "<", "<=", ">", ">=":
		l, r, err := c.pair(n.kids[0], n.kids[1])
		if err != nil {
			return l, err
		}
		f, err := c.comparison(n.text, l.typ, r.typ)
		if err != nil {
			return l, err
		}
		out := formula{typ: "bool", eval: strict(l, r, f)}
		if n.text == "=" {
			out.equal = &[2]formula{l, r}
			if out.narrow = equalTo(l, r); out.narrow == nil {
				out.narrow = equalTo(r, l)
			}
		}
		return out, nil
	}
	l, r, err := c.pair(n.kids[0], n.kids[1])
	if err != nil {
		return l, err
	}
	c.risk(l, r)
	switch {
	case n.text == "~" || n.text == "!~":
		return matching(n.text, l, n.kids[1])
	case n.text == "||" && l.typ == "text" && r.typ == "text":
		return formula{typ: "text", eval: strict(l, r, concat)}, nil
	case n.text == "~~" && l.typ == "text" && r.typ == "text":
		return formula{typ: "bool", eval: strict(l, r, like)}, nil
	case n.text == "!~~" && l.typ == "text" && r.typ == "text":
		return formula{typ: "bool", eval: negate(formula{eval: strict(l, r, like)})}, nil
	case n.text == "@>" && l.typ == "jsonb" && r.typ == "jsonb":
		return formula{typ: "bool", eval: strict(l, r, contains)}, nil
	case n.text == "<@" && l.typ == "jsonb" && r.typ == "jsonb":
		return formula{typ: "bool", eval: strict(r, l, contains)}, nil
	case isArray(l.typ) || isArray(r.typ):
		return c.arrays(n.text, l, r)
	case isInt(l.typ) && isInt(r.typ):
		return arithmetic(n.text, l, r)
	}
	return formula{}, fmt.Errorf("it uses the operator %s on %s and %s", n.text, l.typ, r.typ)
}

// maxText bounds what concatenation makes: each level of it could double a text.
const maxText = 1 << 20

func concat(e *evaluation, a, b datum) datum {
	if len(a.s)+len(b.s) > maxText {
		return e.refuse()
	}
	return datum{s: a.s + b.s}
}

// arithmetic is that of integers, of the wider type. What leaves its range raises an error.
func arithmetic(op string, l, r formula) (formula, error) {
	typ := max(l.typ, r.typ) // by their names' last digit
	var least, most int64 = math.MinInt32, math.MaxInt32
	switch typ {
	case "int2":
		least, most = math.MinInt16, math.MaxInt16
	case "int8":
		// A little less than the range, so that nothing overflows unseen.
		least, most = math.MinInt64/4, math.MaxInt64/4
	}
	small := func(a int64) bool { return a >= -1<<30 && a <= 1<<30 }
	var f func(a, b int64) (int64, bool)
	switch op {
	case "+":
		f = func(a, b int64) (int64, bool) { return a + b, a >= least && b >= least && a <= most && b <= most }
	case "-":
		f = func(a, b int64) (int64, bool) { return a - b, a >= least && b >= least && a <= most && b <= most }
	case "*":
		f = func(a, b int64) (int64, bool) { return a * b, small(a) && small(b) }
	case "/":
		f = func(a, b int64) (int64, bool) {
			if b == 0 {
				return 0, false
			}
			return a / b, a >= least
		}
	case "%":
		f = func(a, b int64) (int64, bool) {
			if b == 0 {
				return 0, false
			}
			return a % b, a >= least
		}
	case "&", "|":
		if l.typ != r.typ {
			return formula{}, errors.New("it joins the bits of two types")
		}
		f = func(a, b int64) (int64, bool) { return a & b, true }
		if op == "|" {
			f = func(a, b int64) (int64, bool) { return a | b, true }
		}
		least, most = math.MinInt64, math.MaxInt64
	default:
		return formula{}, fmt.Errorf("it uses the operator %s on %s", op, l.typ)
	}
	return formula{typ: typ, eval: strict(l, r, func(e *evaluation, a, b datum) datum {
		out, ok := f(a.i, b.i)
		if !ok || out < least || out > most {
			return e.refuse()
		}
		return datum{i: out}
	})}, nil
}
