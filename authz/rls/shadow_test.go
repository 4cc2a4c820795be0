package rls_test

import (
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
)

// With Shadow, what is decided in process is asked of Postgres too. A difference is counted and
// audited, without a word of the row, and shows nothing to anybody.
func TestDifferencesFromPostgresHide(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (owner = current_setting('app.a'))`)
	g := w.newJudge(t, func(c *rls.Config) { c.Compile, c.Shadow = true, true })
	tab := w.table(t, "t")
	images := []cdc.Row{texts("1", "u1", "1"), texts("2", "u2", "1"), texts("3", "u1", "1")}
	p := w.as(0, "", "app.a", "u1")
	want(t, "both agree", w.askOf(t, g, tab, images, p)[0], "vhv")
	w.audited(t)
	if n := g.Stats().Differences; n != 0 {
		t.Errorf("%d differences", n)
	}
	g.Mistake(tab, p.Role)
	want(t, "they differ", w.askOf(t, g, tab, images, p)[0], "hhh")
	w.audited(t, "deny shadow_in_process_visible 1", "deny shadow_postgres_visible 2")
	if n := g.Stats().Differences; n != 3 {
		t.Errorf("%d differences, want 3", n)
	}
	// Nobody can be asked: what was decided counts, as it would without Shadow.
	verdicts, err := g.Judge(t.Context(), authz.Question{Table: tab, Images: images, Principals: []*authz.Principal{p}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "no transaction", verdicts[0], "hvh")
}
