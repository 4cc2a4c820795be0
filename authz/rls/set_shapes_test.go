package rls_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestHundredPoliciesByWhatIsKept is TestHundredPoliciesAsPeopleWriteThem where what policies ask
// of other tables is kept.
//
// It runs by itself: the roles belong to the whole cluster, and the other test makes them too.
func TestHundredPoliciesByWhatIsKept(t *testing.T) {
	sql, err := os.ReadFile("testdata/policy-shapes.sql")
	if err != nil {
		t.Fatal(err)
	}
	db := pgtest.New(t, string(sql))
	w := worldOf(t, db, []string{"shape_anon", "shape_user", "shape_admin"})
	w.exec(t, "GRANT USAGE ON SCHEMA shapes, auth TO {login}")
	names, principals := shapePrincipals(t, w)
	var truth map[string]map[string]json.RawMessage
	if err := json.Unmarshal([]byte(pgtest.One[string](t, db, "SELECT shapes.truth()::text")), &truth); err != nil {
		t.Fatal(err)
	}
	tables := slices.Sorted(maps.Keys(truth[names[0]]))
	var defs []*schema.TableDef
	for _, tab := range w.load(t, "shapes") {
		if slices.Contains(tables, tab.Def.Name) {
			defs = append(defs, tab.Def)
		}
	}
	var published []string
	for _, d := range rls.Asked(defs, nil) {
		published = append(published, quote(d.Schema)+"."+quote(d.Name))
	}
	f := w.follow(t, published...)
	f.space = "shapes"
	used := f.use(t, tables...)
	w.exec(t, "SELECT pg_logical_emit_message(true, 'x', 'something commits')")
	var commit cdc.LSN
	f.pump(t, func(b *cdc.Batch) { commit = b.Commit })
	sets, asked := 0, 0
	var ways []string
	for _, tab := range used {
		images, places := w.rows(t, tab)
		got, err := f.g.Judge(t.Context(), authz.Question{XID: w.settled(t), Commit: commit, Table: tab, Images: images, Principals: principals})
		if err != nil {
			t.Fatal(err)
		}
		way, why := slowest(f.g, tab, w.names)
		ways = append(ways, shapeLine(t, db, tab.Def.Name, way, why))
		switch way {
		case "postgres":
			asked++
		case "set":
			sets++
		}
		for i, who := range names {
			want, fails := visibleRows(t, w, tab, images, truth[who][tab.Def.Name])
			if fails {
				want = w.truth(t, tab, places, principals[i])
			}
			for k := range want {
				if (want[k] == "t") != (got[i][k] == authz.Visible) || got[i][k] == authz.Undecided {
					t.Errorf("%s as %s, row %v: verdict %d, SELECT says %s", tab.Def.Name, who, images[k], got[i][k], want[k])
				}
			}
		}
	}
	t.Logf("%d tables need no question to Postgres, %d of them by what is kept of %s", len(used)-asked, sets, strings.Join(published, ", "))
	documented(t, "../../docs/policies.md", ways)
	if len(used)-asked < 75 {
		t.Errorf("%d tables ask Postgres", asked)
	}
}
