package schema

import (
	"slices"
	"strconv"
	"strings"
)

// compileFilter reads a where argument. It gives nil where all rows match.
func compileFilter(t *roleTable, l *Limits, v any) (*Filter, error) {
	c := &filterCompiler{table: t, limits: l}
	root, err := c.object(v, "where")
	if err != nil {
		return nil, err
	}
	if root.always() {
		return nil, nil //nolint:nilnil // no filter is a filter that matches all
	}
	return &Filter{table: t.Table, root: root, signature: signFilter(v)}, nil
}

type filterCompiler struct {
	table      *roleTable
	limits     *Limits
	conditions int // operators so far
}

// object compiles an object of the filter type: all that it names must hold.
func (c *filterCompiler) object(v any, path string) (*condition, error) {
	o, ok := v.(map[string]any)
	if !ok {
		return nil, badInput("%s: want an object", path)
	}
	out := &condition{op: opAnd}
	for _, name := range sortedKeys(o) {
		k, err := c.member(name, o[name], path+"."+name)
		if err != nil {
			return nil, err
		}
		out.add(k)
	}
	return out.simple(), nil
}

// add makes k one of the conditions of an AND or OR, without a level of its own where it is of
// the same kind.
func (c *condition) add(k *condition) {
	if k.op == c.op {
		c.kids = append(c.kids, k.kids...)
		return
	}
	c.kids = append(c.kids, k)
}

// simple is the same condition, said with less.
func (c *condition) simple() *condition {
	if c.op == opOr {
		for _, k := range c.kids {
			if k.always() {
				return k
			}
		}
	}
	if len(c.kids) == 1 {
		return c.kids[0]
	}
	return c
}

// always tells a condition that is true of every image.
func (c *condition) always() bool { return c.op == opAnd && len(c.kids) == 0 }

func (c *filterCompiler) member(name string, v any, path string) (*condition, error) {
	switch name {
	case "and":
		return c.list(opAnd, v, path)
	case "or":
		return c.list(opOr, v, path)
	case "not":
		if v == nil {
			return nil, badInput("%s: null is no condition", path)
		}
		k, err := c.object(v, path)
		if err != nil {
			return nil, err
		}
		return &condition{op: opNot, kids: []*condition{k}}, nil
	}
	at, ok := c.table.byName[name]
	if !ok {
		return nil, badInput("%s: unknown field", path)
	}
	if v == nil {
		return nil, badInput("%s: null is no condition; use isNull", path)
	}
	return c.operators(at, v, path)
}

func (c *filterCompiler) list(op operator, v any, path string) (*condition, error) {
	items, err := c.items(v, path)
	if err != nil {
		return nil, err
	}
	out := &condition{op: op}
	for i, item := range items {
		k, err := c.object(item, path+"["+strconv.Itoa(i)+"]")
		if err != nil {
			return nil, err
		}
		out.add(k)
	}
	return out.simple(), nil
}

// items reads a list; a single value is a list of one (specification, 3.11).
func (c *filterCompiler) items(v any, path string) ([]any, error) {
	if v == nil {
		return nil, badInput("%s: null is no list", path)
	}
	items, ok := v.([]any)
	if !ok {
		return []any{v}, nil
	}
	if len(items) > c.limits.ListItems {
		return nil, limitError("%s: the list has %d items; %d are allowed", path, len(items), c.limits.ListItems)
	}
	return items, nil
}

// operators compiles an object of operators on one column.
func (c *filterCompiler) operators(at int, v any, path string) (*condition, error) {
	o, ok := v.(map[string]any)
	if !ok {
		return nil, badInput("%s: want an object of operators", path)
	}
	out := &condition{op: opAnd}
	for _, name := range sortedKeys(o) {
		k, err := c.operator(at, name, o[name], path+"."+name)
		if err != nil {
			return nil, err
		}
		out.kids = append(out.kids, k)
	}
	return out.simple(), nil
}

var operatorNames = map[string]operator{
	"eq": opEq, "ne": opNe, "lt": opLt, "lte": opLte, "gt": opGt, "gte": opGte,
	"in": opIn, "notIn": opNotIn, "like": opLike, "ilike": opILike, "startsWith": opPrefix, "contains": opContains, "isNull": opIsNull,
}

func (c *filterCompiler) operator(at int, name string, v any, path string) (*condition, error) {
	out := &condition{op: operatorNames[name], column: at, compare: c.table.Columns[at].typ.compare}
	if v == nil {
		return nil, badInput("%s: null is no operand; use isNull", path)
	}
	if c.conditions++; c.conditions > c.limits.Conditions {
		return nil, limitError("where: the filter has more than %d conditions", c.limits.Conditions)
	}
	switch out.op {
	case opIsNull:
		b, ok := v.(bool)
		if !ok {
			return nil, badInput("%s: want true or false", path)
		}
		out.yes = b
		return out, nil
	case opIn, opNotIn:
		return out, c.in(out, v, path)
	case opLike, opILike, opPrefix:
		return out, c.text(out, v, path)
	case opContains:
		return out, c.contains(out, v, path)
	case 0:
		return nil, badInput("%s: unknown operator", path)
	default:
		operand, err := c.operand(out, v, path)
		out.operand = operand
		return out, err
	}
}

func (c *filterCompiler) operand(out *condition, v any, path string) (value, error) {
	if v == nil {
		return value{}, badInput("%s: null is no operand; use isNull", path)
	}
	if out.compare == nil || out.op >= opLt && out.op <= opGte && out.compare.order == nil && out.compare.collation == nil {
		return value{}, badInput("%s: this column has no such operator", path)
	}
	if err := out.askable(path); err != nil {
		return value{}, err
	}
	if list, ok := v.([]any); ok && len(list) > c.limits.ListItems {
		return value{}, limitError("%s: the list has %d items; %d are allowed", path, len(list), c.limits.ListItems)
	}
	operand, err := out.compare.operand(v)
	if err != nil {
		return value{}, badInput("%s: %v", path, err)
	}
	return operand, nil
}

func (c *filterCompiler) in(out *condition, v any, path string) error {
	items, err := c.items(v, path)
	if err != nil {
		return err
	}
	out.set = make(map[value]struct{}, len(items))
	out.loosely = out.compare != nil && out.compare.collation != nil && out.compare.collation.loose
	for i, item := range items {
		operand, err := c.operand(out, item, path+"["+strconv.Itoa(i)+"]")
		if err != nil {
			return err
		}
		out.set[operand] = struct{}{}
	}
	return nil
}

func (c *filterCompiler) text(out *condition, v any, path string) error {
	if out.compare == nil || out.compare.like == nil || out.op == opPrefix && out.compare.collation.folded {
		return badInput("%s: this column has no such operator", path)
	}
	if err := out.askable(path); err != nil {
		return err
	}
	s, err := stringOperand(v)
	if err != nil {
		return badInput("%s: %v", path, err)
	}
	out.operand = value{s: s}
	if out.op == opPrefix {
		return nil
	}
	if len(s) > c.limits.PatternBytes {
		return limitError("%s: the pattern has %d bytes; %d are allowed", path, len(s), c.limits.PatternBytes)
	}
	if out.op == opILike || out.compare.collation.folded {
		out.ascii, s = isASCII(s), lowerASCII(s)
	}
	out.pattern, err = parsePattern(s)
	if err != nil {
		return badInput("%s: %v", path, err)
	}
	return nil
}

// askable refuses what PostgreSQL would have to be asked and cannot be, since the name of the
// collation means nothing to whoever may not use its schema.
func (c *condition) askable(path string) error {
	if c.asks() && c.compare.collation.name == "" {
		return badInput("%s: this server may not use the schema of the column's collation", path)
	}
	return nil
}

func (c *filterCompiler) contains(out *condition, v any, path string) error {
	if out.compare == nil || out.compare.contains == nil {
		return badInput("%s: this column has no such operator", path)
	}
	if list, ok := v.([]any); ok && len(list) > c.limits.ListItems {
		return limitError("%s: the list has %d items; %d are allowed", path, len(list), c.limits.ListItems)
	}
	var err error
	if out.holder, err = out.compare.contains(v); err != nil {
		return badInput("%s: %v", path, err)
	}
	return nil
}

func sortedKeys(o map[string]any) []string {
	keys := make([]string, 0, len(o))
	for k := range o {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, strings.Compare)
	return keys
}
