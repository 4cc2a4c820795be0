package rls_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

var update = flag.Bool("update", false, "write the table of docs/policies.md anew")

// slowest is the slowest way that a policy of a table takes for any of the roles, and why.
func slowest(g *rls.Postgres, tab *schema.Table, roles []string) (way, why string) {
	way = "none"
	for _, role := range roles {
		if !tab.Def.Access[role].RowSecurity {
			continue
		}
		for _, w := range g.Ways(tab, role) {
			switch {
			case w.Way == "postgres":
				if way != "postgres" || strings.HasPrefix(why, "the policy ") {
					way, why = w.Way, w.Why
				}
			case way == "none" || way == "compiled":
				way = w.Way
			}
		}
	}
	return way, why
}

// shapeLine is a line of the table: what stands above the shape in policy-shapes.sql, and its way.
func shapeLine(t *testing.T, db *pgtest.DB, table, way, why string) string {
	t.Helper()
	note := pgtest.One[string](t, db, "SELECT note FROM shapes.catalogue WHERE tbl = '"+table+"'")
	cell := strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;")
	return fmt.Sprintf("| %s | %s | %s | %s |\n", table[1:4], cell.Replace(note), way, cell.Replace(why))
}

// documented compares the table between the markers in a page with what is true; -update writes it.
func documented(t *testing.T, page string, lines []string) {
	t.Helper()
	const begin, end = "<!-- ways -->\n", "<!-- /ways -->"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(b), begin)
	_, after, found := strings.Cut(rest, end)
	if !ok || !found {
		t.Fatalf("%s has no place for the table of ways", page)
	}
	want := before + begin + "| | Policy | Way | Why not a faster one |\n|---|---|---|---|\n" + strings.Join(lines, "") + end + after
	if want == string(b) {
		return
	}
	if !*update {
		t.Errorf("%s is not true any more: go test ./authz/rls -run TestHundred -update", page)
		return
	}
	if err := os.WriteFile(page, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}
