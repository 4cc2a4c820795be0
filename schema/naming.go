package schema

import (
	"fmt"
	"slices"
)

// nameColumns gives the columns their GraphQL names. Explicit names beat derived ones.
func (b *builder) nameColumns(c *candidate) bool {
	d := c.def
	c.names = make([]string, len(d.Columns))
	taken := map[string]int{}
	for _, explicit := range []bool{true, false} {
		for i := range d.Columns {
			col := &d.Columns[i]
			if col.Directives.Omit || (col.Directives.Name != "") != explicit || !b.streamed(d, col) {
				continue
			}
			name := col.Directives.Name
			if !explicit {
				name = camelCase(col.Name)
			}
			if !b.columnName(d, col, name) {
				return false
			}
			if j, ok := taken[name]; ok {
				b.refuse(d, d.columnObject(col),
					fmt.Sprintf("would be the field %q, and so is the column %s", name, QuoteName(d.Columns[j].Name)),
					`give it another name: @name(as: "…")`)
				return false
			}
			taken[name] = i
			c.names[i] = name
		}
	}
	return true
}

// streamed tells whether changes hold the column, and notes where they do not: then the column is
// left out, since a field that is null in changes and not in SELECT would be a lie. Stored ones
// are published from version 18 on.
func (b *builder) streamed(d *TableDef, col *ColumnDef) bool {
	if col.Generated == 0 || b.streamsGenerated(col) {
		return true
	}
	object, table, name := d.columnObject(col), d.SQLName(), QuoteName(col.Name)
	message, hint := "is generated: PostgreSQL streams no such column before version 18, so it is left out",
		"COMMENT ON COLUMN "+table+"."+name+" IS '@omit' says that this is meant; or ALTER TABLE "+table+" ALTER COLUMN "+name+
			" DROP EXPRESSION, and let a trigger compute it"
	if col.Generated == 'v' {
		message = "is generated and virtual: PostgreSQL streams no such column, so it is left out"
		hint = "make it STORED; or COMMENT ON COLUMN " + table + "." + name + " IS '@omit' says that this is meant"
	}
	b.note(object, message, hint)
	return false
}

func (b *builder) streamsGenerated(col *ColumnDef) bool {
	return col.Generated == 's' && b.db.Version >= generatedStreamed
}

// generatedStreamed is the version whose publications hold stored generated columns; rowtide
// setup makes them so.
const generatedStreamed = 180000

// columnName tells whether a column may bear a name: a GraphQL name that hides no operator of
// the filter.
func (b *builder) columnName(d *TableDef, col *ColumnDef, name string) bool {
	if !legalName(name) {
		b.refuse(d, d.columnObject(col),
			fmt.Sprintf("would be the field %q, which is no GraphQL name", name),
			fmt.Sprintf("COMMENT ON %s IS '@name(as: %q)'", upperObject("COLUMN", QuoteName(d.Schema, d.Name, col.Name)), suggestName(name)))
		return false
	}
	if name == "and" || name == "or" || name == "not" {
		b.refuse(d, d.columnObject(col),
			fmt.Sprintf("would be the field %q, which in filters is the operator", name),
			`give it another name: @name(as: "…")`)
		return false
	}
	return true
}

func upperObject(kind, name string) string { return kind + " " + name }

// systemTypes are the types that every schema has, beside scalars and operator inputs.
var systemTypes = []string{
	"Query", "Mutation", "Subscription", "Int", "Float", "String", "Boolean", "ID",
	"ChangeKind", "ChangeTransaction", "ServerInfo", presence.name, looseFilter, citextFilter,
}

func reservedTypes() map[string]string {
	out := map[string]string{}
	for _, n := range systemTypes {
		out[n] = "the API itself"
	}
	for _, s := range scalarDescriptions {
		out[s.name] = "the API itself"
	}
	for _, s := range scalarsByOID {
		for _, n := range []string{s.filter.name, rangeName(s), rangeInput(s).name, listInput(s.name).name} {
			out[n] = "the API itself"
		}
	}
	out[rangeName(textScalar)] = "the API itself"
	return out
}

// claims holds who bears a name.
type claims map[string]string

// take gives all names to who, or none and the present bearer of the first that is taken.
func (c claims) take(who string, names ...string) (name, holder string, ok bool) {
	for _, n := range names {
		if h, taken := c[n]; taken {
			return n, h, false
		}
	}
	for _, n := range names {
		c[n] = who
	}
	return "", "", true
}

func (c claims) release(names ...string) {
	for _, n := range names {
		delete(c, n)
	}
}

func tableTypes(t string) []string {
	return []string{t, t + "Old", t + "Key", t + "Change", t + "Filter"}
}

// nameTables gives the tables their names, over the whole catalog: explicit names first, then
// derived ones, each by age, of which the OID is the measure.
func (b *builder) nameTables() {
	fields, types := claims{}, claims(reservedTypes())
	reserved := reservedTypes()
	b.keep(func(c *candidate) bool { return b.nameExplicit(c, fields, types) })
	named := b.collectTypes()
	b.nameTypes(named, types, true)
	b.keep(func(c *candidate) bool { return b.nameDerived(c, fields, types, reserved) })
	b.nameTypes(named, types, false)
	b.makeTypes(named)
	b.keep(func(c *candidate) bool { return b.typesMade(c) })
}

// keep goes on with the tables for which f is true.
func (b *builder) keep(f func(*candidate) bool) {
	b.tables = slices.DeleteFunc(b.tables, func(c *candidate) bool { return !f(c) })
}

func (b *builder) nameExplicit(c *candidate, fields, types claims) bool {
	s := c.def.Directives.Subscribe
	who := c.def.object()
	if s.Field != "" {
		if !b.legal(c, "field", s.Field) {
			return false
		}
		if _, holder, ok := fields.take(who, s.Field); !ok {
			b.clash(c, "field", s.Field, holder)
			return false
		}
		c.field = s.Field
	}
	if s.Type != "" {
		name, holder, ok := "", "", b.legal(c, "type", s.Type)
		if ok {
			if name, holder, ok = types.take(who, tableTypes(s.Type)...); !ok {
				b.clash(c, "type", name, holder)
			}
		}
		if !ok {
			fields.release(c.field)
			return false
		}
		c.typ = s.Type
	}
	return true
}

func (b *builder) nameDerived(c *candidate, fields, types claims, reserved map[string]string) bool {
	d := c.def
	who := d.object()
	base := d.Name
	if len(b.db.Schemas) > 0 && d.Schema != b.db.Schemas[0] {
		base = d.Schema + "_" + d.Name
	}
	derivedField := c.field == ""
	if derivedField {
		name := camelCase(base)
		if !b.legal(c, "field", name) {
			types.release(ownTypes(c)...)
			return false
		}
		if _, holder, ok := fields.take(who, name); !ok {
			b.clash(c, "field", name, holder)
			types.release(ownTypes(c)...)
			return false
		}
		c.field = name
	}
	if c.typ != "" {
		return true
	}
	name := typeName(base)
	if slices.ContainsFunc(tableTypes(name), func(n string) bool { return reserved[n] != "" }) {
		name += "Row"
	}
	if !b.legal(c, "type", name) {
		fields.release(c.field)
		return false
	}
	if clashing, holder, ok := types.take(who, tableTypes(name)...); !ok {
		b.clash(c, "type", clashing, holder)
		fields.release(c.field)
		return false
	}
	c.typ = name
	return true
}

func ownTypes(c *candidate) []string {
	if c.typ == "" {
		return nil
	}
	return tableTypes(c.typ)
}

func (b *builder) legal(c *candidate, what, name string) bool {
	if legalName(name) {
		return true
	}
	suggestion := suggestName(name)
	if what == "type" {
		suggestion = capital(suggestion)
	}
	b.refuse(c.def, c.def.object(), fmt.Sprintf("would have the %s %q, which is no GraphQL name", what, name),
		fmt.Sprintf("@subscribe(%s: %q)", what, suggestion))
	return false
}

func (b *builder) clash(c *candidate, what, name, holder string) {
	b.refuse(c.def, c.def.object(), fmt.Sprintf("would have the %s %q, which belongs to %s", what, name, holder),
		fmt.Sprintf("choose another: @subscribe(%s: \"…\")", what))
}
