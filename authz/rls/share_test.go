package rls_test

import (
	"fmt"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
)

// Principals whom a policy cannot tell apart are asked about once; each gets its own answer, and
// its own audit record, all the same.
func TestPrincipalsAlikeAreAskedAboutOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		using string
		asked int // of 60 principals with 3 subjects
	}{
		"no claim":           {`now() > 'epoch' AND n <> 0`, 1},
		"one claim":          {me + ` AND now() > 'epoch'`, 3},
		"a function":         {`mine(owner) AND now() > 'epoch' AND 1 / n > 0`, 3},
		"all claims":         {me + ` AND current_setting('request.jwt.claims') <> '' AND initcap(current_setting('request.jwt.claims')) <> ''`, 60},
		"another's function": {me + ` AND opaque()`, 60},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, three+`CREATE FUNCTION opaque() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN now() > ''epoch''; END';
				CREATE FUNCTION mine(o text) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT o = (current_setting('request.jwt.claims')::json ->> 'sub') $$;
				CREATE POLICY p ON t USING (`+c.using+`)`)
			g := w.newJudge(t, func(c *rls.Config) { c.Compile = true })
			tab := w.table(t, "t")
			if ways := g.Ways(tab, w.names[0]); ways[0].Way != "postgres" {
				t.Fatal(ways)
			}
			images := []cdc.Row{texts("1", "u0", "1"), texts("2", "u1", "0"), texts("3", "u2", "1")}
			var who []*authz.Principal
			for i := range 60 {
				who = append(who, w.as(0, fmt.Sprintf(`{"sub":"u%d","exp":%d}`, i%3, i)))
			}
			if n := g.Asks(tab, images, who); n != c.asked {
				t.Errorf("%d are asked about, want %d", n, c.asked)
			}
			want := w.ask(t, tab, images, who...)
			wanted := w.audit.take()
			for i, got := range w.askOf(t, g, tab, images, who...) {
				for k := range images {
					if got[k] != want[i][k] || got[k] == authz.Undecided {
						t.Errorf("principal %d, image %d: verdict %d, want %d", i, k, got[k], want[i][k])
					}
				}
			}
			w.audited(t, wanted...)
		})
	}
}
