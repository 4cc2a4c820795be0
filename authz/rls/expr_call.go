package rls

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// call compiles a function: one of ours, or one whose body is read in its place.
func (c *compiler) call(n *node) (formula, error) {
	if len(n.path) == 1 || len(n.path) == 2 && n.path[0] == "pg_catalog" {
		return c.builtin(n.path[len(n.path)-1], n)
	}
	name := strings.Join(n.path, ".")
	if c.depth == maxCalls {
		return formula{}, fmt.Errorf("the function %s is called too deep within others", name)
	}
	args, err := c.arguments(n.kids)
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
	if c.ask != nil && (found == nil || c.rights != "") {
		return c.helper(n, args, name)
	}
	switch {
	case found == nil:
		return formula{}, fmt.Errorf("the function %s cannot be read in place of its call", name)
	case !slices.Contains(found.Roles, c.role):
		return formula{}, fmt.Errorf("the role may not execute the function %s", name)
	case c.inBody && !c.function.Deparsed && !slices.Contains(found.Named, c.role):
		return formula{}, fmt.Errorf("the role lacks USAGE on the schema of the function %s", name)
	}
	return c.inline(found, args, name)
}

// maxCalls bounds how deep functions may be called within functions.
const maxCalls = 5

// arguments compiles those of a function of somebody's own, which may take the whole row.
func (c *compiler) arguments(nodes []*node) ([]formula, error) {
	out := make([]formula, len(nodes))
	for i, n := range nodes {
		var err error
		switch {
		case n.kind != nodeRow:
			out[i], err = c.compile(n)
		case c.inBody || c.row != nil || len(n.path) != 1 || n.path[0] != c.table.Name:
			err = fmt.Errorf("it reads %s.*", strings.Join(n.path, "."))
		default:
			c.reads |= readsRow
			out[i] = formula{typ: rowType, reads: readsRow, cost: 1, eval: func(*evaluation) datum { return datum{} }}
		}
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (c *compiler) takes(f *schema.FunctionDef, args []formula) bool {
	if len(f.Args) != len(args) {
		return false
	}
	for i, a := range args {
		switch {
		case a.typ == rowType:
			if f.Args[i] != c.table.Schema+"."+c.table.Name { // names that need quotes are not met
				return false
			}
		case a.typ == "" || formatted(f.Args[i]) != a.typ:
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
	in, err := c.enter(f, args)
	if err != nil {
		return formula{}, err
	}
	body, err := in.compile(n)
	c.leave(in)
	if err == nil {
		body, err = in.to(body, formatted(f.Result))
	}
	if err != nil {
		return formula{}, fmt.Errorf("in the function %s, %w", name, err)
	}
	if !f.Strict {
		return body, nil
	}
	return formula{typ: body.typ, narrow: body.narrow, eval: func(e *evaluation) datum {
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
	c.risk(args...)
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
	signature := name + "(" + strings.Join(types, ",") + ")"
	switch signature {
	case "current_setting(text)", "current_setting(text,bool)":
		return c.setting(n)
	case "string_to_array(text,text)":
		return formula{typ: "text[]", eval: func(e *evaluation) datum { return stringToArray(e, args[0].eval(e), args[1].eval(e)) }}, nil
	}
	b, ok := builtinOf(signature)
	switch {
	case !ok && c.table.UsualCase && signature == "lower(text)":
		b = builtin{"text", lower}
	case !ok && c.table.UsualCase && signature == "upper(text)":
		b = builtin{"text", upper}
	case !ok:
		return formula{}, fmt.Errorf("it calls %s(%s)", name, strings.Join(types, ", "))
	}
	return formula{typ: b.typ, eval: strictly(args, b.call)}, nil
}

// strictly is a function that gives NULL where an argument is NULL.
func strictly(args []formula, call func(*evaluation, []datum) datum) func(*evaluation) datum {
	return func(e *evaluation) datum {
		var few [3]datum // no function of ours takes more
		values, unknown := few[:0], false
		for _, a := range args {
			d := a.eval(e)
			values, unknown = append(values, d), unknown || d.null
		}
		if unknown {
			return null
		}
		return call(e, values)
	}
}
