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
	depth    int // of functions within functions
	function *schema.FunctionDef
	args     []formula
	size     int
	// reads is what the expression at hand was seen to read.
	reads reads
	memo  *memo

	// ask is what sub-selects are compiled with; nil where other tables are not followed.
	ask *asking
	// scope has the tables of the sub-selects around; row is the table whose row stands for the
	// image, nil for the image itself. rights is whose function's rights apply, "" for the role's.
	scope  *scope
	row    *scopeTable
	rights string
}

// maxFormulas bounds the work of an evaluation: an argument counts as often as it is read.
const maxFormulas = 5000

func newCompiler(t *schema.TableDef, role string) *compiler {
	c := &compiler{table: t, role: role, enums: map[string]*schema.Type{}, memo: &memo{}}
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
	before, around, since := c.size, c.reads, c.memo.mark()
	if c.size++; c.size > maxFormulas {
		return formula{}, errors.New("it is too large")
	}
	c.reads = 0
	f, err := c.compileNode(n)
	f.cost, f.reads = c.size-before, c.reads
	c.reads |= around
	switch {
	case err != nil:
		c.memo.forget(since)
	case f.eval != nil && n.worthKeeping():
		f = c.memo.keep(f, since)
	}
	if err == nil && f.typ == "bool" && f.reads&^readsPrincipal == 0 {
		f.narrow = byPrincipal(f.eval)
	}
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
		return c.user(), nil
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
	case nodeRow:
		return formula{}, fmt.Errorf("it reads %s.*", strings.Join(n.path, "."))
	case nodeExists, nodeScalar, nodeInQuery:
		return c.asks(n)
	case nodeTuple, nodeArrayQuery: // only where their parent reads them
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
	c.reads |= c.args[i-1].reads
	return c.args[i-1], nil
}

// column reads a column of the row, or within a function an argument or a column of one.
func (c *compiler) column(path []string) (formula, error) {
	last := path[len(path)-1]
	if f, found, err := c.scoped(path); found || err != nil {
		return f, err
	}
	switch {
	case !c.inBody && (len(path) == 1 || len(path) == 2 && path[0] == c.table.Name):
		return c.columnOfRow(last)
	case !c.inBody || len(path) > 2:
	case len(path) == 1 || path[0] == c.function.Name && c.argument(last) > 0:
		if i := c.argument(last); i > 0 {
			return c.param(strconv.Itoa(i))
		}
	default:
		if i := c.argument(path[0]); i > 0 && c.args[i-1].typ == rowType {
			return c.columnOfRow(last)
		}
	}
	if c.inBody {
		return formula{}, fmt.Errorf("a function reads %s", strings.Join(path, "."))
	}
	return formula{}, fmt.Errorf("it reads %s", strings.Join(path, "."))
}

// argument is the number of an argument by its name, from 1; 0 for none.
func (c *compiler) argument(name string) int {
	if i := slices.Index(c.function.Names, name); i >= 0 && i < len(c.args) {
		return i + 1
	}
	return 0
}

// rowType is the type of the table's whole row, which only functions take.
const rowType = "row"

func (c *compiler) columnOfRow(name string) (formula, error) {
	for i, col := range c.table.Columns {
		if col.Name != name {
			continue
		}
		return c.columnOf(&c.table.Columns[i], i)
	}
	return formula{}, fmt.Errorf("it reads %s, which is no column of an image", name)
}

// columnOf reads the column i of a table.
func (c *compiler) columnOf(col *schema.ColumnDef, i int) (formula, error) {
	typ := c.typeOf(col.Type)
	read := readerOf(typ, c.enums)
	switch {
	case col.Type.Kind == 'd' && c.inBody && !c.function.Deparsed:
		return formula{}, fmt.Errorf("a function reads the column %s of a domain", col.Name)
	case col.Generated != 0:
		return formula{}, fmt.Errorf("it reads the generated column %s", col.Name)
	case typ == "" || read == nil:
		return formula{}, fmt.Errorf("it reads the column %s of type %s", col.Name, col.Type.Name)
	case !col.Deterministic || !col.CollationDefault && typ != "name":
		return formula{}, fmt.Errorf("it reads the column %s, which has a collation of its own", col.Name)
	case c.row != nil:
		return c.rowColumn(c.row, i, typ, read)
	}
	c.reads |= readsRow
	return formula{typ: typ, column: i + 1, eval: column(i, read)}, nil
}

// typeOf is the name of a type that is compiled, or "".
func (c *compiler) typeOf(t *schema.Type) string {
	switch {
	case t.Kind == 'd' && t.Base != nil: // its values are those of its base; operators of its own are deparsed so
		return c.typeOf(t.Base)
	case t.Elem != nil:
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
