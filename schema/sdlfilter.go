package schema

import (
	"cmp"
	"slices"
)

func (w *sdlWriter) filter(t *roleTable) {
	w.line()
	w.line(`"""True where all that it names is true."""`)
	w.line("input ", t.Type, "Filter {")
	w.line("  and: [", t.Type, "Filter!]")
	w.line("  or: [", t.Type, "Filter!]")
	w.line("  not: ", t.Type, "Filter")
	for _, i := range t.shown {
		c := t.Columns[i]
		if !c.filterable() {
			continue
		}
		w.line("  ", c.Name, ": ", c.typ.filter)
		w.used[c.typ.filter] = true
	}
	w.line("}")
}

// filterable tells whether every image of a change knows the column.
func (c *Column) filterable() bool { return c.Def.Generated == 0 }

// operatorInputs writes the operators of the scalars that filters use.
func (w *sdlWriter) operatorInputs() {
	type input struct{ name, operand, kind string }
	var inputs []input
	for _, s := range scalarsByOID {
		kind := "equal"
		if s.compare != nil && s.compare.order != nil {
			kind = "order"
		}
		if s.name == "String" {
			kind = "text"
			inputs = append(inputs, input{"OrderedStringFilter", "String", "ordered text"})
		}
		if s.filter == presenceFilter {
			kind = "none"
		}
		inputs = append(inputs, input{s.filter, s.name, kind})
	}
	for _, e := range w.enums {
		inputs = append(inputs, input{e.name + "Filter", e.name, "order"})
	}
	slices.SortFunc(inputs, func(x, y input) int { return cmp.Compare(x.name, y.name) })
	inputs = slices.CompactFunc(inputs, func(x, y input) bool { return x.name == y.name })
	for _, in := range inputs {
		if w.used[in.name] {
			w.operatorInput(in.name, in.operand, in.kind)
		}
	}
}

func (w *sdlWriter) operatorInput(name, operand, kind string) {
	w.line()
	w.line("input ", name, " {")
	if kind != "none" {
		w.line("  eq: ", operand)
		w.line("  ne: ", operand)
		w.line("  in: [", operand, "!]")
		w.line("  notIn: [", operand, "!]")
	}
	if kind == "order" || kind == "ordered text" {
		for _, op := range []string{"lt", "lte", "gt", "gte"} {
			w.line("  ", op, ": ", operand)
		}
	}
	if kind == "text" || kind == "ordered text" {
		w.line(`  """As SQL: % is any text, _ any character, \ takes the next one literally."""`)
		w.line("  like: ", operand)
		w.line("  startsWith: ", operand)
	}
	if kind == "none" {
		w.line(`  """Whether the value itself is NULL. A composite whose fields are all NULL is none."""`)
	}
	w.line("  isNull: Boolean")
	w.line("}")
}
