package rls

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

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
	order := c.order(l, r)
	equality := op == "=" || op == "<>"
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
	case "->", "->>", "#>", "#>>", "?":
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
		return formula{typ: "bool", eval: strict(l, r, f)}, nil
	}
	l, r, err := c.pair(n.kids[0], n.kids[1])
	if err != nil {
		return l, err
	}
	if n.text == "||" && l.typ == "text" && r.typ == "text" {
		return formula{typ: "text", eval: strict(l, r, concat)}, nil
	}
	if isInt(l.typ) && isInt(r.typ) {
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

// lookInto compiles the operators of json and jsonb.
func (c *compiler) lookInto(n *node) (formula, error) {
	l, err := c.compile(n.kids[0])
	if err != nil {
		return l, err
	}
	r, err := c.compile(n.kids[1])
	if err != nil {
		return l, err
	}
	isJSON := l.typ == "json" || l.typ == "jsonb"
	want := "text"
	if strings.HasPrefix(n.text, "#") {
		want = "text[]"
	}
	if r.typ == "" {
		if r, err = c.to(r, want); err != nil {
			return l, err
		}
	}
	if !isJSON || n.text == "?" && l.typ != "jsonb" || r.typ != want && (r.typ != "int4" || !strings.HasPrefix(n.text, "-")) {
		return l, fmt.Errorf("it uses the operator %s on %s and %s", n.text, l.typ, r.typ)
	}
	if n.text == "?" {
		return formula{typ: "bool", eval: strict(l, r, func(_ *evaluation, a, b datum) datum { return boolean(hasKey(a.doc, b.s)) })}, nil
	}
	find := func(_ *evaluation, a, b datum) *document { return field(a.doc, b.s) }
	switch {
	case r.typ == "int4":
		find = func(e *evaluation, a, b datum) *document {
			if a.doc.kind != 'a' && a.doc.kind != 'o' {
				e.refuse() // jsonb holds it as an array of one, and json does not
				return nil
			}
			return item(a.doc, b.i)
		}
	case want == "text[]":
		find = func(e *evaluation, a, b datum) *document {
			if a.doc.repeated || len(b.list) == 0 {
				e.refuse() // json and jsonb differ
				return nil
			}
			return follow(e, a.doc, b.list)
		}
	}
	if strings.HasSuffix(n.text, ">>") {
		return formula{typ: "text", eval: strict(l, r, func(e *evaluation, a, b datum) datum { return asText(e, find(e, a, b)) })}, nil
	}
	return formula{typ: l.typ, eval: strict(l, r, func(e *evaluation, a, b datum) datum { return asDocument(e, find(e, a, b)) })}, nil
}

func (c *compiler) cast(n *node) (formula, error) {
	f, err := c.compile(n.kids[0])
	if err != nil || f.typ == n.text {
		return f, err
	}
	typ := n.text
	if f.typ == "" {
		if strings.HasPrefix(typ, "date") || strings.HasPrefix(typ, "timestamp") {
			if s := f.constant; !f.isNull && s != "infinity" && s != "-infinity" && (s == "" || !isDigit(s[0])) {
				return f, fmt.Errorf("it uses the literal %q of type %s", s, typ)
			}
		}
		return c.to(f, typ)
	}
	elem, isArray := strings.CutSuffix(typ, "[]")
	fromElem, fromArray := strings.CutSuffix(f.typ, "[]")
	if isArray && fromArray {
		each, err := c.conversion(fromElem, elem)
		if err != nil {
			return f, err
		}
		return formula{typ: typ, eval: unary(f, func(e *evaluation, a datum) datum {
			var out datum
			for _, d := range a.list {
				if !d.null {
					d = each(e, d)
				}
				out.list = append(out.list, d)
			}
			return out
		})}, nil
	}
	convert, err := c.conversion(f.typ, typ)
	if err != nil {
		return f, err
	}
	return formula{typ: typ, eval: unary(f, convert)}, nil
}

// conversion is a cast between two types.
func (c *compiler) conversion(from, to string) (func(e *evaluation, a datum) datum, error) {
	no := fmt.Errorf("it casts %s to %s", from, to)
	switch {
	case from == to:
		return func(_ *evaluation, a datum) datum { return a }, nil
	case to == "text":
		if f := textOf(from, c.enums); f != nil {
			return f, nil
		}
	case isInt(from) && isInt(to):
		least, most := int64(math.MinInt64), int64(math.MaxInt64)
		switch to {
		case "int2":
			least, most = math.MinInt16, math.MaxInt16
		case "int4":
			least, most = math.MinInt32, math.MaxInt32
		}
		return func(e *evaluation, a datum) datum {
			if a.i < least || a.i > most {
				return e.refuse()
			}
			return a
		}, nil
	case isInt(from) && to == "numeric":
		return textOf(from, c.enums), nil
	case from == "text":
		// The text of a time means what the session's settings make of it, and a name is cut.
		if to == "date" || to == "timestamp" || to == "timestamptz" || to == "name" {
			break
		}
		if read := readerOf(to, c.enums); read != nil {
			return func(e *evaluation, a datum) datum { return read(e, a.s) }, nil
		}
	}
	return nil, no
}

// call compiles a function: one of ours, or one whose body is read in its place.
func (c *compiler) call(n *node) (formula, error) {
	if len(n.path) == 1 || len(n.path) == 2 && n.path[0] == "pg_catalog" {
		return c.builtin(n.path[len(n.path)-1], n)
	}
	name := strings.Join(n.path, ".")
	if c.inBody {
		return formula{}, fmt.Errorf("the function %s is called in a function", name)
	}
	args, err := c.kids(n.kids)
	if err != nil {
		return formula{}, err
	}
	var found *schema.FunctionDef
	for i := range c.table.Functions {
		f := &c.table.Functions[i]
		if len(n.path) != 2 || f.Schema != n.path[0] || f.Name != n.path[1] || !c.takes(f, args) {
			continue
		}
		if found != nil {
			return formula{}, fmt.Errorf("the function %s is overloaded", name)
		}
		found = f
	}
	switch {
	case found == nil:
		return formula{}, fmt.Errorf("the function %s cannot be read in place of its call", name)
	case !slices.Contains(found.Roles, c.role):
		return formula{}, fmt.Errorf("the role may not execute the function %s", name)
	}
	return c.inline(found, args, name)
}

// formatted is a type as format_type writes it, in our words; "" where it is not compiled.
func formatted(typ string) string {
	switch typ {
	case "character varying":
		return "text"
	case "timestamp with time zone":
		return "timestamptz"
	case "timestamp without time zone":
		return "timestamp"
	}
	elem, isArray := strings.CutSuffix(typ, "[]")
	name := canonicalType(elem)
	if isArray && name != "" {
		name += "[]"
	}
	return name
}

func (c *compiler) takes(f *schema.FunctionDef, args []formula) bool {
	if len(f.Args) != len(args) {
		return false
	}
	for i, a := range args {
		if a.typ == "" || formatted(f.Args[i]) != a.typ {
			return false
		}
	}
	return true
}

// inline compiles a function's body over its arguments.
func (c *compiler) inline(f *schema.FunctionDef, args []formula, name string) (formula, error) {
	n, err := parseBody(f.Body, f.Deparsed)
	if err != nil {
		return formula{}, fmt.Errorf("in the function %s, %w", name, err)
	}
	in := &compiler{table: c.table, role: c.role, enums: c.enums, inBody: true, function: f, args: args, size: c.size}
	body, err := in.compile(n)
	c.size = in.size
	if err == nil {
		body, err = in.to(body, formatted(f.Result))
	}
	if err != nil {
		return formula{}, fmt.Errorf("in the function %s, %w", name, err)
	}
	if !f.Strict {
		return body, nil
	}
	return formula{typ: body.typ, eval: func(e *evaluation) datum {
		out := body.eval(e)
		for _, a := range args {
			if a.eval(e).null {
				return null
			}
		}
		return out
	}}, nil
}

// builtin compiles a function of pg_catalog.
func (c *compiler) builtin(name string, n *node) (formula, error) {
	args, err := c.kids(n.kids)
	if err != nil {
		return formula{}, err
	}
	for i := range args {
		if args[i].typ == "" && !args[i].isNull {
			if args[i], err = c.to(args[i], "text"); err != nil {
				return formula{}, err
			}
		}
	}
	var types []string
	for _, a := range args {
		types = append(types, a.typ)
	}
	switch signature := name + "(" + strings.Join(types, ",") + ")"; signature {
	case "current_setting(text)", "current_setting(text,bool)":
		return c.setting(n)
	case "length(text)", "char_length(text)", "character_length(text)":
		return formula{typ: "int4", eval: unary(args[0], func(_ *evaluation, a datum) datum {
			return datum{i: int64(utf8.RuneCountInString(a.s))}
		})}, nil
	}
	return formula{}, fmt.Errorf("it calls %s(%s)", name, strings.Join(types, ", "))
}

// setting compiles current_setting of a custom parameter that is named by a literal. A parameter
// of the server has values of its own making.
func (c *compiler) setting(n *node) (formula, error) {
	k := n.kids[0]
	if k.kind == nodeCast && k.text == "text" {
		k = k.kids[0]
	}
	if k.kind != nodeString || !customSetting(k.text) {
		return formula{}, errors.New("it reads a setting that is not a custom one")
	}
	name := lowerASCII(k.text)
	f := formula{typ: "text", eval: func(e *evaluation) datum { return e.setting(name) }}
	if len(n.kids) == 2 {
		missing, err := c.condition(n.kids[1])
		if err != nil {
			return f, err
		}
		value := f.eval
		f.eval = func(e *evaluation) datum {
			if missing.eval(e).null { // the function is strict
				return null
			}
			return value(e)
		}
	}
	return f, nil
}

// customSetting tells names that a principal can set to any text: with a dot, as
// valid_custom_variable_name has it, and of no module that comes with PostgreSQL.
func customSetting(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) < 2 || len(name) > 200 {
		return false
	}
	for _, part := range parts {
		if part == "" || !isNameStart(part[0]) {
			return false
		}
		for i := range len(part) {
			if !isNameStart(part[i]) && !isDigit(part[i]) {
				return false
			}
		}
	}
	switch prefix := lowerASCII(parts[0]); {
	case strings.HasPrefix(prefix, "pg"), strings.HasPrefix(prefix, "pl"), prefix == "auto_explain", prefix == "auth_delay", prefix == "basic_archive",
		prefix == "passwordcheck", prefix == "sepgsql":
		return false
	}
	return true
}
