package rls_test

import (
	"fmt"
	"slices"
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

// Whoever differs in anything that a policy reads, however little, is not taken for another: each gets what Postgres answers for him.
func TestPrincipalsThatDifferAreNotTakenForEachOther(t *testing.T) {
	t.Parallel()
	const claim = `(current_setting('request.jwt.claims')::json ->> `
	// Settings are the claims, then app.a and app.b.
	for name, c := range map[string]struct {
		using      string
		one, other [3]string
	}{
		"a claim":               {claim + `'sub') = owner AND ` + claim + `'team') = 'x'`, [3]string{`{"sub":"u1","team":"x"}`}, [3]string{`{"sub":"u1","team":"y"}`}},
		"the first of claims":   {claim + `'sub') = owner AND ` + claim + `'team') = 'x'`, [3]string{`{"sub":"u1","team":"x"}`}, [3]string{`{"sub":"u2","team":"x"}`}},
		"a claim without a row": {claim + `'team') = 'x'`, [3]string{`{"team":"x"}`}, [3]string{`{"team":"y"}`}},
		"a setting":             {`current_setting('app.a') = owner`, [3]string{`{}`, "u1"}, [3]string{`{}`, "u2"}},
		"empty, and NULL":       {`coalesce(` + claim + `'sub'), owner) = owner`, [3]string{`{"sub":""}`}, [3]string{`{"sub":null}`}},
		"empty, and absent":     {`coalesce(` + claim + `'sub'), owner) = owner`, [3]string{`{"sub":""}`}, [3]string{`{}`}},
		"zero, and NULL":        {`coalesce((` + claim + `'n'))::int, n) = n`, [3]string{`{"n":0}`}, [3]string{`{"n":null}`}},
		"false, and NULL":       {`coalesce((` + claim + `'n'))::bool, n = 1)`, [3]string{`{"n":false}`}, [3]string{`{"n":null}`}},
		"where one ends":        {`current_setting('app.a') || owner = 'xu1' AND current_setting('app.b') || owner = 'y0 v0 zu1'`, [3]string{`{}`, "x", "y0 v0 z"}, [3]string{`{}`, "x0 v0 y", "z"}},
		"which is which":        {`current_setting('app.a') || owner = 'xu1' AND current_setting('app.b') || owner = 'yu1'`, [3]string{`{}`, "x", "y"}, [3]string{`{}`, "y", "x"}},
		"digits":                {`current_setting('app.a') || owner = '1u1' AND current_setting('app.b') || owner = '0 0 u1'`, [3]string{`{}`, "1", "0 0 "}, [3]string{`{}`, "10", "0 "}},
		"letter case":           {claim + `'sub') = owner`, [3]string{`{"sub":"u1"}`}, [3]string{`{"sub":"U1"}`}},
		"elements":              {`owner = ANY (string_to_array(current_setting('app.a'), ','))`, [3]string{`{}`, "u1,u2"}, [3]string{`{}`, "u1u2"}},
		"how many elements":     {`owner = ANY (string_to_array(current_setting('app.a'), ',')) AND NOT owner || 'z' = ANY (string_to_array(current_setting('app.b'), ','))`, [3]string{`{}`, "u2", "u1,,x"}, [3]string{`{}`, "u2,,u1", "x"}},
		"NULL in a list":        {`(owner = ANY ((current_setting('app.a'))::text[])) IS NULL`, [3]string{`{}`, `{x,NULL}`}, [3]string{`{}`, `{x,"NULL"}`}},
		"documents":             {`((current_setting('request.jwt.claims')::jsonb -> 'a') ->> owner) = 'yes'`, [3]string{`{"a":{"u1":"yes"}}`}, [3]string{`{"a":{"u1":"no"}}`}},
		"what raises an error":  {`CASE WHEN ` + claim + `'sub') = 'u1' THEN true ELSE (` + claim + `'id'))::uuid IS NOT NULL END`, [3]string{`{"sub":"u1","id":"x"}`}, [3]string{`{"sub":"u2","id":"x"}`}},
		"what ELSE says":        {`CASE WHEN now() < 'epoch' THEN true ELSE ` + claim + `'team') = 'x' END`, [3]string{`{"team":"x"}`}, [3]string{`{"team":"y"}`}},
		"a sub-select":          {`EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.relname = current_setting('app.a'))`, [3]string{`{}`, "pg_class"}, [3]string{`{}`, "none"}},
		"what the row names":    {`current_setting('app.' || owner) = 'yes'`, [3]string{`{}`, "", "yes"}, [3]string{`{}`, "", "no"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, three+`CREATE POLICY p ON t USING ((`+c.using+`) AND now() > 'epoch')`)
			g := w.newJudge(t, func(c *rls.Config) { c.Compile = true })
			tab := w.table(t, "t")
			images := []cdc.Row{texts("1", "u1", "1"), texts("2", "b", "2")}
			who := func(s [3]string) *authz.Principal { return w.as(0, s[0], "app.a", s[1], "app.b", s[2]) }
			both := []*authz.Principal{who(c.one), who(c.other), who(c.one)}
			want := w.ask(t, tab, images, both...)
			if slices.Equal(want[0], want[1]) {
				t.Fatalf("Postgres tells them not apart: %v", want)
			}
			for i, got := range w.askOf(t, g, tab, images, both...) {
				if !slices.Equal(got, want[i]) {
					t.Errorf("principal %d: verdicts %v, %v of Postgres", i, got, want[i])
				}
			}
		})
	}
}

// Who is asked about for other images, or in another role, is not answered by the way.
func TestPrincipalsAlikeAreAnsweredForTheirOwnImagesAndRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, three+`GRANT SELECT ON t TO {1}; CREATE POLICY p ON t TO {0} USING (n <> 2 AND now() > 'epoch'); CREATE POLICY q ON t TO {1} USING (n = 2 AND now() > 'epoch')`)
	g := w.newJudge(t, func(c *rls.Config) { c.Compile = true })
	tab := w.table(t, "t")
	q := authz.Question{
		XID: w.settled(t), Table: tab, Images: []cdc.Row{texts("1", "u1", "1"), texts("2", "u1", "2"), texts("3", "u1", "3")},
		Principals: []*authz.Principal{w.as(0, u1), w.as(0, u2), w.as(1, u1), w.as(0, u1)}, Wanted: [][]int32{{0, 1}, {1, 2}, {0, 1}, {0}},
	}
	got, err := g.Judge(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	for i, letters := range []string{"vh", "hv", "hv", "v"} {
		var of []authz.Verdict
		for _, k := range q.Wanted[i] {
			of = append(of, got[i][k])
		}
		want(t, fmt.Sprint("principal ", i), of, letters)
	}
}
