package schema

import (
	"fmt"
	"slices"
)

// eachNamed visits the enums and composites that the API names because a column has the type: t
// itself, or what is in it, what is inside before what it is in.
func (t *Type) eachNamed(visit func(*Type)) {
	for t.Elem != nil || t.Kind == 'd' && t.Base != nil {
		t = t.undomained()
		if t.Elem != nil {
			t = t.Elem
		}
	}
	switch {
	case t.Kind == 'e' && len(t.Labels) > 0: // GraphQL has no enum without values
		visit(t)
	case t.Kind == 'c' && len(t.Fields) > 0: // nor objects without fields
		for i := range t.Fields {
			if !t.Fields[i].Directives.Omit {
				t.Fields[i].Type.eachNamed(visit)
			}
		}
		visit(t)
	}
}

// collectTypes gives the enums and composites of the columns that the tables show, by OID.
func (b *builder) collectTypes() []*Type {
	seen := map[uint32]*Type{}
	for _, c := range b.tables {
		for i := range c.def.Columns {
			if c.names[i] != "" {
				c.def.Columns[i].Type.eachNamed(func(t *Type) { seen[t.OID] = t })
			}
		}
	}
	out := make([]*Type, 0, len(seen))
	for _, t := range seen {
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y *Type) int { return int(int64(x.OID) - int64(y.OID)) })
	return out
}

// nameTypes names those with an explicit name, or those without. Such a type has no name of its
// own to lose in a clash with a table, so a derived one gives way with a suffix.
func (b *builder) nameTypes(list []*Type, types claims, explicit bool) {
	for _, t := range list {
		names := []string{t.Directives.Name}
		if (names[0] != "") != explicit {
			continue
		}
		if !explicit {
			base := t.Name
			if len(b.db.Schemas) > 0 && t.Schema != b.db.Schemas[0] {
				base = t.Schema + "_" + t.Name
			}
			names = []string{pascalCase(base), pascalCase(base) + t.suffix()}
		}
		for _, name := range names {
			if legalName(name) && t.claim(types, name) {
				b.typeNames[t.OID] = name
				break
			}
		}
	}
}

func (t *Type) suffix() string {
	if t.Kind == 'e' {
		return "Enum"
	}
	return "Composite"
}

// claim takes the names that the type has in the API.
func (t *Type) claim(types claims, name string) bool {
	all := []string{name}
	if t.Kind == 'e' {
		all = append(all, name+"Filter", listInput(name).name)
	}
	_, _, ok := types.take("type "+QuoteName(t.Schema, t.Name), all...)
	return ok
}

// makeTypes makes the enums and composites that have a name. What is wrong with the attributes of
// a composite is the fault of each table that has it.
func (b *builder) makeTypes(list []*Type) {
	for _, t := range list {
		t.eachNamed(b.makeType)
	}
}

func (b *builder) makeType(t *Type) {
	name := b.typeNames[t.OID]
	switch {
	case name == "" || b.types.enums[t.OID] != nil || b.types.objects[t.OID] != nil || b.faults[t.OID] != nil:
	case t.Kind == 'e':
		b.types.enums[t.OID] = newEnumType(t, name)
	default:
		names, fault := attributeNames(t)
		if fault != nil {
			b.faults[t.OID] = fault
			return
		}
		b.types.objects[t.OID] = newComposite(t, name, names, b.types)
	}
}

// attributeNames gives the attributes of a composite their GraphQL names, "" for those that are
// omitted.
func attributeNames(t *Type) ([]string, *Problem) {
	names := make([]string, len(t.Fields))
	taken := map[string]string{}
	for i := range t.Fields {
		f := &t.Fields[i]
		if f.Directives.Omit {
			continue
		}
		name := f.Directives.Name
		if name == "" {
			name = camelCase(f.Name)
		}
		object := QuoteName(t.Schema, t.Name, f.Name)
		hint := fmt.Sprintf("COMMENT ON COLUMN %s IS '@name(as: %q)'", object, suggestName(name))
		if !legalName(name) {
			return nil, &Problem{
				Object: "column " + object, Hint: hint,
				Message: fmt.Sprintf("would be the field %q, which is no GraphQL name", name),
			}
		}
		if other, ok := taken[name]; ok {
			return nil, &Problem{
				Object: "column " + object, Hint: `give it another name: @name(as: "…")`,
				Message: fmt.Sprintf("would be the field %q, and so is the column %s", name, QuoteName(other)),
			}
		}
		taken[name], names[i] = f.Name, name
	}
	if len(taken) == 0 {
		return nil, &Problem{
			Object: "type " + QuoteName(t.Schema, t.Name), Message: "has no attribute that is not omitted",
			Hint: "@omit the columns that have it instead",
		}
	}
	return names, nil
}

// typesMade refuses a table that shows a type which could not be made.
func (b *builder) typesMade(c *candidate) bool {
	d := c.def
	for i := range d.Columns {
		if c.names[i] == "" {
			continue
		}
		ok := true
		d.Columns[i].Type.eachNamed(func(t *Type) {
			if ok {
				ok = b.typeMade(d, &d.Columns[i], t)
			}
		})
		if !ok {
			return false
		}
	}
	return true
}

func (b *builder) typeMade(d *TableDef, col *ColumnDef, t *Type) bool {
	if f := b.faults[t.OID]; f != nil {
		b.refuse(d, f.Object, f.Message, f.Hint)
		return false
	}
	if b.typeNames[t.OID] != "" {
		return true
	}
	name := t.Directives.Name
	if name == "" {
		name = pascalCase(t.Name)
	}
	kind := "enum"
	if t.Kind == 'c' {
		kind = "type"
	}
	b.refuse(d, d.columnObject(col),
		fmt.Sprintf("has the type %s, which would be the %s %q: that is taken, or is no GraphQL name", QuoteName(t.Schema, t.Name), kind, name),
		fmt.Sprintf("COMMENT ON TYPE %s IS '@name(as: %q)'", QuoteName(t.Schema, t.Name), capital(suggestName(t.Name))+"Type"))
	return false
}
