package rls

import (
	"maps"
	"slices"

	"github.com/rowtide/rowtide/schema"
)

// Asked gives the tables that have to be published, with full replica identity, for the policies
// of others to be judged by what they hold: those of which Config.Sets would keep something, were
// they published. The path is Config.Schemas.
func Asked(tables []*schema.TableDef, path []string) []*schema.TableDef {
	found := map[uint32]*schema.TableDef{}
	for _, t := range tables {
		if t.Related == nil {
			continue
		}
		for role, access := range t.Access {
			if !access.RowSecurity {
				continue
			}
			ask := &asking{keep: func(d *schema.TableDef) *kept { return &kept{def: d} }, path: path, related: t.Related, outer: t}
			if p := compile(t, role, ask); p != nil {
				for _, k := range p.kept {
					found[k.def.OID] = k.def
				}
			}
		}
	}
	out := slices.Collect(maps.Values(found))
	slices.SortFunc(out, func(a, b *schema.TableDef) int { return int(int64(a.OID) - int64(b.OID)) })
	return out
}
