package schema

import (
	"fmt"
	"slices"
)

// enumOf is the PostgreSQL enum behind arrays and domains, or nil.
// An enum without labels counts for none.
func enumOf(t *Type) *Type {
	for t != nil && t.Kind != 'e' {
		if t.Kind == 'd' {
			t = t.Base
		} else {
			t = t.Elem
		}
	}
	if t != nil && len(t.Labels) == 0 {
		return nil // GraphQL has no enum without values
	}
	return t
}

// collectEnums gives the enums of the columns that the tables show, by OID.
func (b *builder) collectEnums() []*Type {
	seen := map[uint32]*Type{}
	for _, c := range b.tables {
		for i := range c.def.Columns {
			if e := enumOf(c.def.Columns[i].Type); e != nil && c.names[i] != "" && seen[e.OID] == nil {
				seen[e.OID] = e
			}
		}
	}
	out := make([]*Type, 0, len(seen))
	for _, e := range seen {
		out = append(out, e)
	}
	slices.SortFunc(out, func(x, y *Type) int { return int(int64(x.OID) - int64(y.OID)) })
	return out
}

// nameEnums names those with an explicit name, or those without. An enum has no name of its own
// to lose in a clash with a table, so a derived one gives way with the suffix Enum.
func (b *builder) nameEnums(enums []*Type, types claims, explicit bool) {
	for _, e := range enums {
		name := e.Directives.Name
		if (name != "") != explicit {
			continue
		}
		who := "type " + QuoteName(e.Schema, e.Name)
		if explicit {
			if _, _, ok := types.take(who, name, name+"Filter"); ok && legalName(name) {
				b.enums[e.OID] = newEnumType(e, name)
			}
			continue
		}
		base := e.Name
		if len(b.db.Schemas) > 0 && e.Schema != b.db.Schemas[0] {
			base = e.Schema + "_" + e.Name
		}
		for _, name := range []string{pascalCase(base), pascalCase(base) + "Enum"} {
			if !legalName(name) {
				continue
			}
			if _, _, ok := types.take(who, name, name+"Filter"); ok {
				b.enums[e.OID] = newEnumType(e, name)
				break
			}
		}
	}
}

// enumsNamed refuses a table that shows an enum without a name.
func (b *builder) enumsNamed(c *candidate) bool {
	d := c.def
	for i := range d.Columns {
		e := enumOf(d.Columns[i].Type)
		if e == nil || c.names[i] == "" || b.enums[e.OID] != nil {
			continue
		}
		name := e.Directives.Name
		if name == "" {
			name = pascalCase(e.Name)
		}
		b.refuse(d, d.columnObject(&d.Columns[i]),
			fmt.Sprintf("has the type %s, which would be the enum %q: that is taken, or is no GraphQL name",
				QuoteName(e.Schema, e.Name), name),
			fmt.Sprintf("COMMENT ON TYPE %s IS '@name(as: %q)'", QuoteName(e.Schema, e.Name), capital(suggestName(e.Name))+"Type"))
		return false
	}
	return true
}
