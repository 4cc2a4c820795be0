package rls

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/rowtide/rowtide/schema"
)

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
	in := &compiler{table: c.table, role: c.role, enums: c.enums, inBody: true, function: f, args: args, size: c.size, memo: c.memo}
	body, err := in.compile(n)
	c.size = in.size
	c.reads |= in.reads
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
