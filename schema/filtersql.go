package schema

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// SQL is a condition in SQL, of columns, constants and operators of pg_catalog alone, that is true of
// every row which the filter matches; "" where none is known. It may be true of more rows: what it
// leaves out is for Match. It is for a SELECT under row-level security: elsewhere operators may
// see rows before policies do.
func (f *Filter) SQL() string {
	sql, _ := f.sql(f.root)
	return sql
}

// sql gives a condition that a row meets wherever it meets c, "" for none; exact tells that both are
// true, false and NULL of the same rows.
func (f *Filter) sql(c *condition) (sql string, exact bool) {
	switch c.op {
	case opAnd:
		return f.sqlAll(c.kids)
	case opOr:
		return f.sqlSome(c.kids)
	case opNot:
		sql, exact := f.sql(c.kids[0])
		if !exact {
			return "", false
		}
		return "(NOT " + sql + ")", true
	default:
	}
	def := f.table.Columns[c.column].Def
	name := QuoteName(def.Name)
	if c.op == opIsNull {
		if c.yes {
			return "(" + name + " IS NOT DISTINCT FROM NULL)", true
		}
		return "(" + name + " IS DISTINCT FROM NULL)", true
	}
	constant := constantOf(def, c.compare)
	if constant == nil {
		return "", false
	}
	return c.sqlOf(name, constant)
}

// sqlAll leaves out what cannot be said.
func (f *Filter) sqlAll(kids []*condition) (sql string, exact bool) {
	parts, exact := []string{}, true
	for _, k := range kids {
		part, same := f.sql(k)
		if exact = exact && same; part != "" {
			parts = append(parts, part)
		}
	}
	switch {
	case len(parts) > 0:
		return "(" + strings.Join(parts, " AND ") + ")", exact
	case len(kids) > 0:
		return "", false
	}
	return "true", true
}

// sqlSome says nothing where one part cannot be said.
func (f *Filter) sqlSome(kids []*condition) (sql string, exact bool) {
	parts, exact := []string{}, true
	for _, k := range kids {
		part, same := f.sql(k)
		if part == "" {
			return "", false
		}
		parts, exact = append(parts, part), exact && same
	}
	if len(parts) == 0 {
		return "false", true
	}
	return "(" + strings.Join(parts, " OR ") + ")", exact
}

// sqlOf is a condition on a column that has constants.
func (c *condition) sqlOf(name string, constant func(value) string) (sql string, exact bool) {
	symbol := map[operator]string{opEq: "=", opNe: "<>", opLt: "<", opLte: "<=", opGt: ">", opGte: ">=", opIn: "= ANY", opNotIn: "<> ALL"}[c.op]
	switch c.op {
	case opIn, opNotIn:
		if len(c.set) == 0 {
			return strconv.FormatBool(c.op == opNotIn), true
		}
		var items []string
		for v := range maps.Keys(c.set) {
			items = append(items, constant(v))
		}
		slices.Sort(items) // the same filter is the same text
		sign, all, _ := strings.Cut(symbol, " ")
		return "(" + name + " OPERATOR(pg_catalog." + sign + ") " + all + " (ARRAY[" + strings.Join(items, ", ") + "]))", true
	case opEq, opNe:
	case opLt, opLte, opGt, opGte:
		if c.compare.collation != nil {
			return "", false // an index would not be used for it, and Match has to ask anyway
		}
	default:
		return "", false
	}
	return "(" + name + " OPERATOR(pg_catalog." + symbol + ") " + constant(c.operand) + ")", true
}

// constantOf gives how a column's values are written, or nil where its values are not kept in a form
// from which that is sure, or equality is not that of bytes.
func constantOf(def *ColumnDef, c *comparison) func(value) string {
	typed := func(text func(value) string, typ string) func(value) string {
		return func(v value) string { return quoted(text(v)) + "::pg_catalog." + typ }
	}
	number := func(v value) string { return strconv.FormatInt(v.i, 10) }
	switch def.Type.OID {
	case oidInt2:
		return typed(number, "int2")
	case oidInt4:
		return typed(number, "int4")
	case oidInt8:
		return typed(number, "int8")
	case oidBool:
		return typed(func(v value) string { return strconv.FormatBool(v.i == 1) }, "bool")
	case oidUUID:
		return typed(func(v value) string { return v.s }, "uuid")
	case oidText, oidVarchar:
		if !c.collation.loose {
			return typed(func(v value) string { return v.s }, "text")
		}
	}
	return nil
}

// quoted is a constant whatever standard_conforming_strings is.
func quoted(s string) string {
	if strings.Contains(s, `\`) {
		return " E'" + strings.NewReplacer(`'`, `''`, `\`, `\\`).Replace(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}
