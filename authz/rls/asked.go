package rls

import (
	"maps"
	"slices"

	"github.com/rowtide/rowtide/schema"
)

// DefaultSetBytes is that of Config.SetBytes: 256 MiB.
const DefaultSetBytes = 256 << 20

// An AskedTable is one that policies of others ask.
type AskedTable struct {
	*schema.TableDef
	// Columns are the names of those that would be kept, of each row.
	Columns []string
}

// Bytes is about what a number of rows takes in memory, of which the values of Columns take width
// bytes each.
func (t AskedTable) Bytes(rows, width int64) int64 { return rows * (entryBytes + 2*width) }

// Asked gives the tables that have to be published, with full replica identity, for the policies
// of others to be judged by what they hold: those of which Config.Sets would keep something, were
// they published. The path is Config.Schemas.
func Asked(tables []*schema.TableDef, path []string) []AskedTable {
	found := map[uint32]*AskedTable{}
	eachAsking(tables, path, func(_ *schema.TableDef, p *predicate) {
		for _, k := range p.kept {
			k.tell(found)
		}
	})
	var out []AskedTable
	for _, oid := range slices.Sorted(maps.Keys(found)) {
		out = append(out, *found[oid])
	}
	return out
}

// LookedUp gives, of the tables whose policies ask others, the names of the columns by which rows are
// looked up when what is asked changes: without an index on them the whole table is read.
func LookedUp(tables []*schema.TableDef, path []string) map[*schema.TableDef][]string {
	out := map[*schema.TableDef][]string{}
	eachAsking(tables, path, func(t *schema.TableDef, p *predicate) {
		for _, q := range p.queries {
			if q.anchor == nil {
				continue
			}
			if name := t.Columns[q.anchor.column.column-1].Name; !slices.Contains(out[t], name) {
				out[t] = append(out[t], name)
			}
		}
	})
	return out
}

// eachAsking compiles the policies of tables, for each role, and hands on those that ask others.
func eachAsking(tables []*schema.TableDef, path []string, each func(*schema.TableDef, *predicate)) {
	for _, t := range tables {
		if t.Related == nil {
			continue
		}
		for _, role := range slices.Sorted(maps.Keys(t.Access)) {
			if !t.Access[role].RowSecurity {
				continue
			}
			ask := &asking{keep: func(d *schema.TableDef) *kept { return &kept{def: d} }, path: path, related: t.Related, outer: t}
			if p := compile(t, role, ask); p != nil && len(p.kept) > 0 {
				each(t, p)
			}
		}
	}
}

func (k *kept) tell(found map[uint32]*AskedTable) {
	a := found[k.def.OID]
	if a == nil {
		a = &AskedTable{TableDef: k.def}
		found[k.def.OID] = a
	}
	for _, c := range k.columns {
		if name := k.def.Columns[c].Name; !slices.Contains(a.Columns, name) {
			a.Columns = append(a.Columns, name)
		}
	}
}
