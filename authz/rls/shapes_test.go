package rls_test

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

var noExpiry time.Time

// TestHundredPoliciesAsPeopleWriteThem compares all tables of policy-shapes.sql for all of its
// principals with its truth(), which is plain SELECTs of whole tables, and where such a SELECT
// fails with SELECTs of one row at a time.
//
// Covers R02, R10, R24.
func TestHundredPoliciesAsPeopleWriteThem(t *testing.T) {
	t.Parallel()
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
	if len(tables) != 100 {
		t.Fatalf("%d tables", len(tables))
	}
	loaded := w.load(t, "shapes")
	compiler := w.newJudge(t, func(c *rls.Config) { c.Compile = true })
	cells, failed, compiled := 0, 0, 0
	for _, tableName := range tables {
		tab := loaded[tableName]
		images, places := w.rows(t, tab)
		got := w.ask(t, tab, images, principals...)
		other := w.askOf(t, compiler, tab, images, principals...)
		if way, _ := slowest(compiler, tab, w.names); way != "postgres" {
			compiled++
		}
		for i, who := range names {
			want, fails := visibleRows(t, w, tab, images, truth[who][tableName])
			if fails {
				want = w.truth(t, tab, places, principals[i])
				failed += len(want)
			}
			cells += len(want)
			for k := range want {
				if (want[k] == "t") != (got[i][k] == authz.Visible) || got[i][k] == authz.Undecided {
					t.Errorf("%s as %s, row %v: verdict %d, SELECT says %s", tableName, who, images[k], got[i][k], want[k])
				}
				if other[i][k] != got[i][k] {
					t.Errorf("%s as %s, row %v: verdict %d in process, SELECT says %s", tableName, who, images[k], other[i][k], want[k])
				}
			}
		}
	}
	t.Logf("%d verdicts, %d of them on rows of tables whose SELECT fails; %d tables need no question to Postgres", cells, failed, compiled)
	if compiled < 54 {
		t.Errorf("%d tables are compiled for all roles", compiled)
	}
}

func shapePrincipals(t *testing.T, w *world) ([]string, []*authz.Principal) {
	t.Helper()
	type person struct {
		Name, Role string
		Settings   map[string]string
	}
	var people []person
	text := pgtest.One[string](t, w.db, `SELECT json_agg(json_build_object('Name', name, 'Role', role, 'Settings', settings) ORDER BY name COLLATE "C")::text FROM shapes.principal`)
	if err := json.Unmarshal([]byte(text), &people); err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, p := range people {
		for k := range p.Settings {
			all[k] = true
		}
	}
	var names []string
	var out []*authz.Principal
	for _, p := range people {
		var settings []authz.Setting
		for _, k := range slices.Sorted(maps.Keys(all)) {
			settings = append(settings, authz.Setting{Name: k, Value: p.Settings[k]})
		}
		names = append(names, p.Name)
		out = append(out, authz.NewPrincipal(p.Role, p.Name, settings, noExpiry))
	}
	return names, out
}

// visibleRows turns a cell of truth() into "t" or "f" for each row; fails where the SELECT did.
func visibleRows(t *testing.T, w *world, tab *schema.Table, images []cdc.Row, cell json.RawMessage) (rows []string, fails bool) {
	t.Helper()
	if strings.HasPrefix(string(cell), `"`) {
		return nil, true
	}
	var keys []any
	if err := json.Unmarshal(cell, &keys); err != nil {
		t.Fatal(err)
	}
	visible := map[string]bool{}
	for _, k := range keys {
		visible[canonical(t, k)] = true
	}
	r := w.admin.ExecParams(t.Context(), "SELECT "+keyOf(tab)+" FROM "+name(tab)+" k ORDER BY tableoid, ctid", nil, nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) != len(images) {
		t.Fatal(r.Err, len(r.Rows), len(images))
	}
	for _, row := range r.Rows {
		var key any
		if err := json.Unmarshal(row[0], &key); err != nil {
			t.Fatal(err)
		}
		id := canonical(t, key)
		if visible[id] {
			rows = append(rows, "t")
			delete(visible, id)
		} else {
			rows = append(rows, "f")
		}
	}
	if len(visible) > 0 {
		t.Errorf("%s: keys %v are of no row", tab.Def.Name, visible)
	}
	return rows, false
}

func canonical(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keyOf is the expression of the key as truth() writes it.
func keyOf(tab *schema.Table) string {
	columns := tab.Def.Keys[0].Columns
	if len(columns) == 1 {
		return "to_jsonb(k." + quote(columns[0]) + ")"
	}
	quoted := make([]string, len(columns))
	for i, c := range columns {
		quoted[i] = "k." + quote(c)
	}
	return "jsonb_build_array(" + strings.Join(quoted, ", ") + ")"
}
