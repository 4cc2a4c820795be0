package schema

import (
	"maps"
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
		w.line("  ", c.Name, ": ", c.typ.filter.name)
		w.inputs[c.typ.filter.name] = c.typ.filter
	}
	w.line("}")
}

// operatorInputs writes the operators of the types that filters use.
func (w *sdlWriter) operatorInputs() {
	for _, name := range slices.Sorted(maps.Keys(w.inputs)) {
		w.operatorInput(w.inputs[name])
	}
}
