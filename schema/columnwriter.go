package schema

import "fmt"

// A columnWriter makes what writes a column's values with the fields that a document selects of
// them, and notes the shape of what it makes.
type columnWriter struct {
	collector *collector
	uses      uses
	path      string // of the field that is written
	shape     []byte
}

func (w *columnWriter) of(t *columnType, f *field) writeFunc {
	switch {
	case t.write != nil:
		return t.write
	case t.elem != nil:
		return writeArray(w.of(t.elem, f), t.delimiter)
	case t.multi:
		return writeMultirange(w.choose(t.object, f))
	}
	return t.object.write(w.choose(t.object, f))
}

// choose gives the selected fields. What stands before the first opens the object; who writes
// them closes it.
func (w *columnWriter) choose(o *objectType, f *field) []chosenField {
	var out []chosenField
	before := "{"
	for _, sub := range w.collector.collect(o.name, f.sets...) {
		c := chosenField{before: before + `"` + sub.key + `":`}
		before = ","
		w.shape = fmt.Appendf(w.shape, "%q %q\n", sub.key, sub.name)
		if sub.name == "__typename" {
			c.before += `"` + o.name + `"`
		} else {
			c.field = o.field(sub.name)
			inner := columnWriter{collector: w.collector, uses: w.uses, path: w.path + "." + sub.name, shape: w.shape}
			inner.uses.add(inner.path, c.field.graphqlType(), c.field.typ, stored{})
			c.write = inner.of(c.field.typ, sub)
			w.shape = inner.shape
		}
		out = append(out, c)
	}
	if len(out) == 0 { // @skip and @include left nothing
		out = []chosenField{{before: before}}
	}
	w.shape = append(w.shape, '}')
	return out
}

// appendSignature appends all that the bytes depend on which a type writes.
func (t *columnType) appendSignature(b []byte) []byte {
	switch {
	case t.elem != nil:
		return t.elem.appendSignature(append(b, '['))
	case t.enum != nil:
		return fmt.Appendf(b, "%q %q\n", t.enum.def.Labels, t.enum.values)
	case t.object != nil:
		for i := range t.object.fields {
			f := &t.object.fields[i]
			b = f.typ.appendSignature(fmt.Appendf(b, "%q %d %q\n", f.name, f.at, f.graphqlType()))
		}
	}
	return b
}
