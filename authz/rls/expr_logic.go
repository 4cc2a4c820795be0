package rls

import (
	"errors"
	"strings"
)

// common compiles expressions that must be of one type, as in CASE, COALESCE and ARRAY. All
// literals make text. Where types differ Postgres casts; that is deparsed, or not compiled.
func (c *compiler) common(nodes []*node) ([]formula, string, error) {
	kids, err := c.kids(nodes)
	if err != nil {
		return nil, "", err
	}
	typ := ""
	for _, k := range kids {
		if k.typ != "" {
			typ = k.typ
			break
		}
	}
	if typ == "" {
		typ = "text"
	}
	for i := range kids {
		if kids[i], err = c.to(kids[i], typ); err != nil {
			return nil, "", err
		}
	}
	return kids, typ, nil
}

func (c *compiler) logic(n *node) (formula, error) {
	kids := make([]formula, len(n.kids))
	for i, k := range n.kids {
		f, err := c.condition(k)
		if err != nil {
			return f, err
		}
		kids[i] = f
	}
	switch n.kind {
	case nodeAnd:
		return formula{typ: "bool", eval: all(kids), narrow: narrowAll(kids)}, nil
	case nodeOr:
		return formula{typ: "bool", eval: some(kids), narrow: narrowSome(kids)}, nil
	default:
		return formula{typ: "bool", eval: negate(kids[0])}, nil
	}
}

func (c *compiler) test(n *node) (formula, error) {
	if n.text == "distinct" {
		return c.distinct(n)
	}
	if n.text == "null" {
		f, err := c.compile(n.kids[0])
		if err == nil && f.typ == "" {
			f, err = c.to(f, "text")
		}
		if err != nil {
			return f, err
		}
		return formula{typ: "bool", eval: func(e *evaluation) datum { return boolean(f.eval(e).null) }}, nil
	}
	f, err := c.condition(n.kids[0])
	if err != nil {
		return f, err
	}
	word := n.text
	return formula{typ: "bool", eval: func(e *evaluation) datum {
		d := f.eval(e)
		switch word {
		case "true":
			return boolean(d.isTrue())
		case "false":
			return boolean(!d.null && d.i == 0)
		}
		return boolean(d.null)
	}}, nil
}

func (c *compiler) distinct(n *node) (formula, error) {
	l, r, err := c.pair(n.kids[0], n.kids[1])
	if err != nil {
		return l, err
	}
	equal, err := c.comparison("=", l.typ, r.typ)
	if err != nil {
		return l, err
	}
	return formula{typ: "bool", eval: func(e *evaluation) datum {
		a, b := l.eval(e), r.eval(e)
		if a.null || b.null {
			return boolean(a.null != b.null)
		}
		return boolean(equal(e, a, b).i == 0)
	}}, nil
}

func (c *compiler) nullIf(n *node) (formula, error) {
	l, r, err := c.pair(n.kids[0], n.kids[1])
	if err != nil {
		return l, err
	}
	equal, err := c.comparison("=", l.typ, r.typ)
	if err != nil {
		return l, err
	}
	if l.typ != r.typ {
		return l, errors.New("it compares values of two types in NULLIF")
	}
	return formula{typ: l.typ, eval: func(e *evaluation) datum {
		a, b := l.eval(e), r.eval(e)
		if !a.null && !b.null && equal(e, a, b).i != 0 {
			return null
		}
		return a
	}}, nil
}

func (c *compiler) caseOf(n *node) (formula, error) {
	pairs, values := n.kids, []*node{}
	if n.kind == nodeCaseOf {
		pairs = n.kids[1:]
	}
	otherwise := n.otherwise
	if otherwise == nil {
		otherwise = &node{kind: nodeNull}
	}
	// The type is that of the values; ELSE comes first in select_common_type, which matters to
	// nothing here, since all must have the same.
	for i := 1; i < len(pairs); i += 2 {
		values = append(values, pairs[i])
	}
	results, typ, err := c.common(append(values, otherwise))
	if err != nil {
		return formula{}, err
	}
	kids := make([]formula, 0, len(pairs)+1)
	for i := 0; i < len(pairs); i += 2 {
		when := pairs[i]
		if n.kind == nodeCaseOf {
			when = &node{kind: nodeOp, text: "=", kids: []*node{n.kids[0], pairs[i]}}
		}
		f, err := c.condition(when)
		if err != nil {
			return f, err
		}
		kids = append(kids, f, results[i/2])
	}
	return formula{typ: typ, eval: choose(append(kids, results[len(results)-1]))}, nil
}

func (c *compiler) array(n *node) (formula, error) {
	if len(n.kids) == 0 {
		return formula{}, errors.New("it uses an empty array")
	}
	kids, typ, err := c.common(n.kids)
	if err != nil {
		return formula{}, err
	}
	if strings.HasSuffix(typ, "[]") {
		return formula{}, errors.New("it uses an array of arrays")
	}
	return formula{typ: typ + "[]", eval: func(e *evaluation) datum {
		var out datum
		for _, k := range kids {
			out.list = append(out.list, k.eval(e))
		}
		return out
	}}, nil
}

func (c *compiler) quantified(n *node) (formula, error) {
	if k := n.kids[1]; k.kind == nodeArrayQuery && n.kind == nodeAny && n.text == "=" {
		// = ANY (ARRAY(SELECT …)) is IN, NULLs and all.
		return c.asks(&node{kind: nodeInQuery, kids: n.kids[:1], query: k.query})
	}
	l, err := c.compile(n.kids[0])
	if err != nil {
		return l, err
	}
	array, err := c.compile(n.kids[1])
	if err != nil {
		return l, err
	}
	if l.typ == "" {
		return l, errors.New("it looks for a literal in an array")
	}
	if array.typ == "" {
		if array, err = c.to(array, l.typ+"[]"); err != nil {
			return l, err
		}
	}
	elem, ok := strings.CutSuffix(array.typ, "[]")
	if !ok {
		return l, errors.New("it looks for a value in what is no array")
	}
	compare, err := c.comparison(n.text, l.typ, elem)
	if err != nil {
		return l, err
	}
	f := formula{typ: "bool", eval: quantified(l, array, n.kind == nodeAny, compare)}
	if n.kind == nodeAny && n.text == "=" {
		f.narrow = elementOf(l, array)
	}
	return f, nil
}
