package rls_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
)

// why makes one policy and tells why it is not compiled for role {0}; "" where it is.
func (w *world) why(t *testing.T, g *rls.Postgres, using string) string {
	t.Helper()
	w.exec(t, "DROP POLICY IF EXISTS p ON t; CREATE POLICY p ON t USING ("+using+")")
	ways := g.Ways(w.table(t, "t"), w.names[0])
	if len(ways) != 1 || ways[0].Policy != "p" {
		t.Fatalf("ways %v", ways)
	}
	if (ways[0].Way == "compiled") != (ways[0].Why == "") {
		t.Errorf("%s: %v", using, ways[0])
	}
	return ways[0].Why
}

const compiledTable = `CREATE TABLE t (id int PRIMARY KEY, owner text, open bool); ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0};
	CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO {0};`

// A function is read in place of its call only where nothing makes the call mean something else.
func TestFunctionsAreReadInPlaceOfTheirCallOnlyWhereThatIsTheSame(t *testing.T) {
	t.Parallel()
	const body = `RETURNS bool LANGUAGE sql STABLE AS $$ select coalesce(length(current_setting('app.a', true)), 1) = 1 $$`
	for name, c := range map[string]struct {
		sql      string
		compiled bool
	}{
		"plain":                      {`CREATE FUNCTION app.f() ` + body, true},
		"another search_path":        {`CREATE FUNCTION app.f() ` + strings.Replace(body, "STABLE", "STABLE SET search_path = app, pg_catalog", 1), true},
		"a setting of its own":       {`CREATE FUNCTION app.f() ` + strings.Replace(body, "STABLE", "STABLE SET app.a = 'x'", 1), false},
		"a custom search_path alike": {`CREATE FUNCTION app.f() ` + strings.Replace(body, "STABLE", `STABLE SET "search.path" = 'x'`, 1), false},
		"owner's rights":             {`CREATE FUNCTION app.f() ` + strings.Replace(body, "STABLE", "STABLE SECURITY DEFINER", 1), false},
		"another language":           {`CREATE FUNCTION app.f() RETURNS bool LANGUAGE plpgsql AS $$ begin return true; end $$`, false},
		"no right to execute":        {`CREATE FUNCTION app.f() ` + body + `; REVOKE EXECUTE ON FUNCTION app.f() FROM PUBLIC`, false},
		"a function like another":    {`CREATE FUNCTION app.f() ` + body + `; CREATE FUNCTION app.length(text) RETURNS int LANGUAGE sql AS 'SELECT 7'`, false},
		"a type like another":        {`CREATE FUNCTION app.f() RETURNS bool LANGUAGE sql AS $$ select 'x'::text = 'x' $$; CREATE DOMAIN app.text AS text`, false},
		"an operator like another":   {`CREATE FUNCTION app.g(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR app.= (LEFTARG = int, RIGHTARG = int, FUNCTION = app.g); CREATE FUNCTION app.f() ` + body, false},
		"an operator of another":     {`CREATE TYPE app.k AS ENUM ('a'); CREATE FUNCTION app.g(app.k, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR app.= (LEFTARG = app.k, RIGHTARG = int, FUNCTION = app.g); CREATE FUNCTION app.f() ` + body, true},
		"a revoked operator":         {`CREATE FUNCTION app.f() ` + body + `; REVOKE EXECUTE ON FUNCTION pg_catalog.uuid_eq(uuid, uuid) FROM PUBLIC`, false},
		"a revoked one that is open": {`CREATE FUNCTION app.f() ` + body + `; REVOKE EXECUTE ON FUNCTION pg_catalog.pg_read_file(text) FROM PUBLIC`, true},
		"a function within":          {`CREATE FUNCTION app.g() ` + body + `; CREATE FUNCTION app.f() RETURNS bool LANGUAGE sql STABLE AS 'SELECT NOT app.g()'`, true},
		"one within that is another": {`CREATE FUNCTION app.g() ` + strings.Replace(body, "STABLE", "STABLE SECURITY DEFINER", 1) + `; CREATE FUNCTION app.f() RETURNS bool LANGUAGE sql STABLE AS 'SELECT NOT app.g()'`, false},
		"one within without schema":  {`CREATE FUNCTION app.g() ` + body + `; CREATE FUNCTION app.f() RETURNS bool LANGUAGE sql STABLE SET search_path = app AS 'SELECT NOT g()'`, false},
		"one within out of reach":    {`CREATE SCHEMA own; CREATE FUNCTION own.g() ` + body + `; CREATE FUNCTION app.f() RETURNS bool LANGUAGE sql STABLE AS 'SELECT NOT own.g()'`, false},
		"one within that is bound":   {`CREATE SCHEMA own; CREATE FUNCTION own.g() ` + body + `; CREATE FUNCTION app.f() RETURNS bool LANGUAGE sql STABLE RETURN NOT own.g()`, true},
		"one within that calls back": {`CREATE FUNCTION app.f() ` + body + `; CREATE FUNCTION app.g() RETURNS bool LANGUAGE sql STABLE AS 'SELECT app.f()'; CREATE OR REPLACE FUNCTION app.f() RETURNS bool LANGUAGE sql STABLE AS 'SELECT false AND app.g()'`, false},
		"a function of pg_catalog's": {`CREATE FUNCTION app.f() ` + body + `; CREATE FUNCTION pg_catalog.length(int) RETURNS int LANGUAGE sql AS 'SELECT 7'`, false},
		"a cast of somebody's own":   {`CREATE FUNCTION app.f() ` + body + `; CREATE FUNCTION app.c(text) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'; CREATE CAST (text AS uuid) WITH FUNCTION app.c(text)`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, compiledTable+c.sql)
			compiler := w.newJudge(t, func(c *rls.Config) { c.Compile = true })
			if why := w.why(t, compiler, "app.f()"); (why == "") != c.compiled {
				t.Errorf("compiled %t, want %t: %s", why == "", c.compiled, why)
			}
			tab := w.table(t, "t")
			images := []cdc.Row{texts("1", "u1", "t")}
			for _, a := range []string{"", "u1", "x"} {
				p := w.as(0, "", "app.a", a)
				if got, asked := w.askOf(t, compiler, tab, images, p)[0][0], w.ask(t, tab, images, p)[0][0]; got != asked {
					t.Errorf("app.a = %q: verdict %d, %d of Postgres", a, got, asked)
				}
			}
		})
	}
}

// What is compiled needs no transaction to be visible, and is judged beside one that needs
// Postgres; what the image does not hold is undecided, in either way.
//
// Covers R21.
func TestCompiledPoliciesNeedNoPostgres(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, compiledTable)
	down := w.newJudge(t, func(c *rls.Config) {
		c.Compile = true
		c.URL = "postgres://nobody@127.0.0.1:1/nothing"
	})
	if why := w.why(t, down, "owner = current_setting('app.a') AND (open OR id / (id - 1) = 2)"); why != "" {
		t.Fatal(why)
	}
	tab := w.table(t, "t")
	images := []cdc.Row{texts("2", "u1", "f"), texts("3", "u1", "t"), texts("2", "u2", "t"), {cdc.TextValue("2"), cdc.UnchangedValue(), cdc.TextValue("f")}, {cdc.TextValue("2"), {}, cdc.TextValue("f")}}
	judge := func(images []cdc.Row, p ...*authz.Principal) [][]authz.Verdict {
		v, err := down.Judge(t.Context(), authz.Question{Table: tab, Images: images, Principals: p})
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	got := judge(images, w.as(0, "", "app.a", "u1"), w.as(0, "", "app.A", "u2"), w.as(0, ""))
	want(t, "u1", got[0], "vvhuh")
	want(t, "u2, whose setting is spelt in capitals", got[1], "hhvuh")
	want(t, "one without the setting", got[2], "uuuuu")
	w.audited(t, "undecided image_incomplete 3", "undecided unavailable 4")
	want(t, "an error beside", judge(append(images, texts("1", "u2", "f")), w.as(0, "", "app.a", "u1"))[0], "vvhuhu")
	want(t, "asked of Postgres", w.askOf(t, w.newJudge(t, func(c *rls.Config) { c.Compile = true }), tab, append(images, texts("1", "u1", "f")), w.as(0, "", "app.a", "u1"))[0], "vvhuhh")
}

func TestWaysTellWhatIsNotCompiled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, compiledTable+`CREATE POLICY a ON t USING (open); CREATE POLICY b ON t USING (initcap(owner) = 'X'); CREATE POLICY c ON t TO {login} USING (false)`)
	tab := w.table(t, "t")
	compiler := w.newJudge(t, func(c *rls.Config) { c.Compile = true })
	if got, want := fmt.Sprint(compiler.Ways(tab, w.names[0])), `[{a postgres the policy "b" is not compiled []} {b postgres it calls initcap(text) []}]`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := fmt.Sprint(w.judge.Ways(tab, w.names[0])[0]), `{a postgres compiling is switched off []}`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Images that do not matter to a principal are not judged for it, in no way.
func TestOnlyImagesThatMatterAreJudged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, compiledTable+`CREATE POLICY a ON t USING (owner = current_setting('app.a') AND 1 / (id - 3) < 7)`)
	tab := w.table(t, "t")
	q := authz.Question{
		XID: w.settled(t), Table: tab, Principals: []*authz.Principal{w.as(0, "", "app.a", "u1"), w.as(0, "", "app.a", "u2"), w.as(0, "", "app.a", "u1")},
		Images: []cdc.Row{texts("1", "u1", "t"), texts("3", "u1", "t"), texts("2", "u2", "t"), {cdc.TextValue("4"), cdc.UnchangedValue(), cdc.TextValue("f")}},
		Wanted: [][]int32{{0, 1}, {2, 3}, nil},
	}
	for name, g := range map[string]*rls.Postgres{"asked": w.judge, "compiled": w.newJudge(t, func(c *rls.Config) { c.Compile = true })} {
		got, err := g.Judge(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want(t, name, got[0][:2], "vh")
		want(t, name, got[1][2:], "vu")
		w.audited(t, "deny policy_error 22012 1", "undecided image_incomplete 1")
	}
}
