package schema

import (
	"fmt"
	"maps"
	"slices"
)

// A use is what an operation takes of a field's type: for the field of a column, of a composite
// that it selects, or of a filter.
type use struct {
	// graphql is the type in SDL.
	graphql string
	// values are the GraphQL names of an enum's labels.
	values map[string]string
	stored stored
}

// stored says how Postgres holds the values of a column.
type stored struct {
	// as is the type and such: where it changes, so may all values, and no row tells.
	as string
	// version is of the column's own definition. ALTER TYPE … USING makes another of it, and the table
	// anew, though the type may be the one it was.
	version uint32
}

// rewritten tells whether values may be others in a newer state, where the table may have been made
// anew. VACUUM FULL does that too, but it leaves the columns as they are.
func (s stored) rewritten(newer stored, table bool) bool {
	return s.as != newer.as || table && s.version != newer.version
}

// uses are those of one operation, by the path of the field.
type uses map[string]use

// add notes the field at path and gives the path back.
func (u uses) add(path, graphql string, t *columnType, held stored) {
	for t.elem != nil {
		t = t.elem
	}
	x := use{graphql: graphql, stored: held}
	if t.enum != nil {
		x.values = make(map[string]string, len(t.enum.values))
		for i, l := range t.enum.def.Labels {
			x.values[l] = t.enum.values[i]
		}
	}
	u[path] = x
}

// stored says how the column's values are held.
func (c *Column) stored() stored {
	d := c.Def
	return stored{fmt.Sprintf("%d %d %q %q", d.Type.OID, d.Modifier, d.Collation, d.Expression), d.Version}
}

// Retyped tells whether a field that the operation uses has another type in a newer compilation
// of the same request. An enum that only gained a label has not: the new one is delivered.
func (op *Operation) Retyped(newer *Operation) bool {
	if op.Table.Type != newer.Table.Type {
		return true
	}
	for path, x := range op.uses {
		y, ok := newer.uses[path]
		if !ok || x.graphql != y.graphql {
			return true
		}
		for label, name := range x.values {
			if y.values[label] != name {
				return true
			}
		}
	}
	return false
}

// Rewritten tells whether values that the operation uses may be others in a newer compilation
// although their types are the same: Postgres rewrites a table without telling of its rows.
func (op *Operation) Rewritten(newer *Operation) bool {
	if op.Table.Def.unfollowed(newer.Table.Def) {
		return true
	}
	anew := op.Table.Def.Storage != newer.Table.Def.Storage
	return slices.ContainsFunc(slices.Collect(maps.Keys(op.uses)), func(path string) bool {
		return op.uses[path].stored.rewritten(newer.uses[path].stored, anew)
	})
}

// filtered notes what a filter uses: the column's operators, whose null is not the field's.
func (u uses) filtered(f *Filter) {
	if f == nil {
		return
	}
	for _, i := range f.Columns() {
		c := f.table.Columns[i]
		u.add("where."+c.Name, c.typ.filter.name, c.typ, c.stored())
	}
}

// Rewritten tells whether rows of the table may be others in a newer catalog without a word in the
// log: values were rewritten, partitions brought rows or took them away, or it was not published.
func (t *Table) Rewritten(newer *Table) bool {
	for _, c := range t.Columns {
		i := slices.IndexFunc(newer.Columns, func(n *Column) bool { return n.Def.Name == c.Def.Name })
		if i >= 0 && c.stored().rewritten(newer.Columns[i].stored(), t.Def.Storage != newer.Def.Storage) {
			return true
		}
	}
	return t.Def.unfollowed(newer.Def)
}

// unfollowed tells of changes that no event does: partitions went, or came that may have brought
// rows; or the table was out of the publication for a while.
func (d *TableDef) unfollowed(newer *TableDef) bool {
	if d.Publication != newer.Publication {
		return true
	}
	had, has := map[uint32]bool{}, map[uint32]bool{}
	for _, p := range d.Partitions {
		had[p.OID] = true
	}
	for _, p := range newer.Partitions {
		has[p.OID] = true
		if p.Attached && !had[p.OID] {
			return true
		}
	}
	return slices.ContainsFunc(d.Partitions, func(p PartitionDef) bool { return !has[p.OID] })
}
