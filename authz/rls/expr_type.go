package rls

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// A compiler types the expressions of one table's policies for one role. What it does not know
// for certain it does not compile.
type compiler struct {
	table *schema.TableDef
	role  string
	enums map[string]*schema.Type
	// args are the arguments of the function whose body is compiled, nil outside of one.
	inBody   bool
	function *schema.FunctionDef
	args     []formula
	size     int
}

// maxFormulas bounds the work of an evaluation: an argument counts as often as it is read.
const maxFormulas = 5000

func newCompiler(t *schema.TableDef, role string) *compiler {
	c := &compiler{table: t, role: role, enums: map[string]*schema.Type{}}
	for _, col := range t.Columns {
		if col.Type.Kind == 'e' {
			c.enums[typeKey(col.Type.Schema, col.Type.Name)] = col.Type
		}
	}
	return c
}

// condition compiles an expression that is a boolean.
func (c *compiler) condition(n *node) (formula, error) {
	f, err := c.compile(n)
	if err != nil {
		return f, err
	}
	return c.to(f, "bool")
}

func (c *compiler) compile(n *node) (formula, error) {
	before := c.size
	if c.size++; c.size > maxFormulas {
		return formula{}, errors.New("it is too large")
	}
	f, err := c.compileNode(n)
	f.cost = c.size - before
	return f, err
}

func (c *compiler) compileNode(n *node) (formula, error) {
	switch n.kind {
	case nodeString:
		return formula{constant: n.text}, nil
	case nodeNull:
		return formula{isNull: true}, nil
	case nodeNumber:
		return c.number(n.text)
	case nodeBool:
		d := boolean(n.text == "true")
		return formula{typ: "bool", eval: func(*evaluation) datum { return d }}, nil
	case nodeUser:
		return formula{typ: "name", eval: func(e *evaluation) datum { return datum{s: e.role} }}, nil
	case nodeParam:
		return c.param(n.text)
	case nodeName:
		return c.column(n.path)
	case nodeCall:
		return c.call(n)
	case nodeCast:
		return c.cast(n)
	case nodeOp:
		return c.operator(n)
	case nodeAnd, nodeOr, nodeNot:
		return c.logic(n)
	case nodeIs:
		return c.test(n)
	case nodeCase, nodeCaseOf:
		return c.caseOf(n)
	case nodeCoalesce:
		kids, typ, err := c.common(n.kids)
		return formula{typ: typ, eval: firstKnown(kids)}, err
	case nodeNullIf:
		return c.nullIf(n)
	case nodeArray:
		return c.array(n)
	case nodeAny, nodeAll:
		return c.quantified(n)
	}
	return formula{}, errNotRead
}

// to gives an untyped literal a type, and checks that all else has it.
func (c *compiler) to(f formula, typ string) (formula, error) {
	switch {
	case typ == "":
		return f, errors.New("it uses a type that is not compiled")
	case f.typ == typ:
		return f, nil
	case f.typ != "":
		return f, fmt.Errorf("it uses a value of type %s as %s", f.typ, typ)
	case f.isNull:
		if readerOf(typ, c.enums) == nil {
			break
		}
		return formula{typ: typ, eval: func(*evaluation) datum { return null }}, nil
	}
	read := readerOf(typ, c.enums)
	if read == nil {
		return f, fmt.Errorf("it uses a literal of type %s", typ)
	}
	var e evaluation
	d := read(&e, f.constant)
	if e.refused {
		return f, fmt.Errorf("it uses the literal %q of type %s", f.constant, typ)
	}
	return formula{typ: typ, eval: func(*evaluation) datum { return d }}, nil
}

func (c *compiler) number(text string) (formula, error) {
	typ := "numeric"
	if !strings.Contains(text, ".") {
		if _, err := strconv.ParseInt(text, 10, 32); err == nil {
			typ = "int4"
		} else if _, err := strconv.ParseInt(text, 10, 64); err == nil {
			typ = "int8"
		}
	}
	return c.to(formula{constant: text}, typ)
}

func (c *compiler) param(text string) (formula, error) {
	i, err := strconv.Atoi(text)
	if err != nil || !c.inBody || i < 1 || i > len(c.args) {
		return formula{}, errors.New("it reads a parameter")
	}
	c.size += c.args[i-1].cost
	return c.args[i-1], nil
}

// column reads a column of the row, or within a function an argument.
func (c *compiler) column(path []string) (formula, error) {
	name := path[len(path)-1]
	if c.inBody {
		if len(path) == 2 && path[0] == c.function.Name || len(path) == 1 {
			if i := slices.Index(c.function.Names, name); i >= 0 && i < len(c.args) {
				return c.param(strconv.Itoa(i + 1))
			}
		}
		return formula{}, fmt.Errorf("a function reads %s", strings.Join(path, "."))
	}
	if len(path) > 2 || len(path) == 2 && path[0] != c.table.Name {
		return formula{}, fmt.Errorf("it reads %s", strings.Join(path, "."))
	}
	for i, col := range c.table.Columns {
		if col.Name != name {
			continue
		}
		typ := c.typeOf(col.Type)
		read := readerOf(typ, c.enums)
		switch {
		case col.Generated != 0:
			return formula{}, fmt.Errorf("it reads the generated column %s", name)
		case typ == "" || read == nil:
			return formula{}, fmt.Errorf("it reads the column %s of type %s", name, col.Type.Name)
		case !col.Deterministic || !col.CollationDefault && typ != "name":
			return formula{}, fmt.Errorf("it reads the column %s, which has a collation of its own", name)
		}
		return formula{typ: typ, eval: column(i, read)}, nil
	}
	return formula{}, fmt.Errorf("it reads %s, which is no column of an image", name)
}

// typeOf is the name of a type that is compiled, or "".
func (c *compiler) typeOf(t *schema.Type) string {
	switch {
	case t.Elem != nil && t.Kind != 'd':
		if elem := c.typeOf(t.Elem); elem != "" && t.Delimiter == ',' {
			return elem + "[]"
		}
	case t.Kind == 'e':
		return typeKey(t.Schema, t.Name)
	case t.Kind == 'b' && t.Schema == "pg_catalog":
		return canonicalType(t.Name)
	}
	return ""
}

func (c *compiler) kids(nodes []*node) ([]formula, error) {
	out := make([]formula, len(nodes))
	for i, n := range nodes {
		f, err := c.compile(n)
		if err != nil {
			return nil, err
		}
		out[i] = f
	}
	return out, nil
}

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
		return formula{typ: "bool", eval: all(kids)}, nil
	case nodeOr:
		return formula{typ: "bool", eval: some(kids)}, nil
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
	return formula{typ: "bool", eval: quantified(l, array, n.kind == nodeAny, compare)}, nil
}
