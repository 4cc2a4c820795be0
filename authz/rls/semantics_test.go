package rls_test

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// A scene is tables whose rows are judged and compared with SELECTs.
type scene struct {
	// roles is how many {n} the SQL has.
	roles int
	sql   string
	// tables defaults to t.
	tables []string
	// who defaults to one principal of role {0} with subject u1.
	who func(w *world) []*authz.Principal
	// visible, hidden and failed are what the SELECTs say, so that no scene tests nothing.
	visible, hidden, failed int
}

const (
	u1 = `{"sub":"u1"}`
	u2 = `{"sub":"u2"}`
	// me is the policy expression of one's own rows.
	me = `owner = (current_setting('request.jwt.claims', true)::json ->> 'sub')`
	// three is a table with two owners and none.
	three = `CREATE TABLE t (id int PRIMARY KEY, owner text, n int);
		INSERT INTO t VALUES (1, 'u1', 1), (2, 'u2', 0), (3, NULL, NULL);
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO PUBLIC;`
)

// each is a principal of each role, with subject u1.
func each(roles ...int) func(*world) []*authz.Principal {
	return func(w *world) []*authz.Principal {
		var out []*authz.Principal
		for _, r := range roles {
			out = append(out, w.as(r, u1))
		}
		return out
	}
}

// Covers R01-R05, R07, R08, R12, R15, R16, R27, R36.
func TestVerdictsAreThoseOfSelect(t *testing.T) {
	t.Parallel()
	for name, s := range scenes() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, max(s.roles, 1), s.sql)
			tables, who := s.tables, s.who
			if tables == nil {
				tables = []string{"t"}
			}
			if who == nil {
				who = each(0)
			}
			v, h, f := w.agree(t, tables, who(w)...)
			if v != s.visible || h != s.hidden || f != s.failed {
				t.Errorf("SELECT shows %d, hides %d and fails on %d; the scene was meant for %d, %d, %d", v, h, f, s.visible, s.hidden, s.failed)
			}
		})
	}
}

func scenes() map[string]scene {
	return map[string]scene{
		"write policies do not count (R01)": {
			sql:    three + `CREATE POLICY u ON t FOR UPDATE USING (true); CREATE POLICY d ON t FOR DELETE USING (true); CREATE POLICY i ON t FOR INSERT WITH CHECK (true)`,
			hidden: 3,
		},
		"policies for all count (R01)": {sql: three + `CREATE POLICY a ON t USING (` + me + `)`, visible: 1, hidden: 2},
		"permissive policies add, restrictive ones take away (R02)": {
			sql:     three + `CREATE POLICY a ON t USING (` + me + `); CREATE POLICY b ON t FOR SELECT USING (owner = 'u2'); CREATE POLICY c ON t AS RESTRICTIVE USING (n > 0)`,
			visible: 1, hidden: 2,
		},
		"a restrictive policy alone shows nothing (R02)": {sql: three + `CREATE POLICY c ON t AS RESTRICTIVE USING (true)`, hidden: 3},
		"no policy shows nothing (R02)":                  {sql: three, hidden: 3},
		"a policy without an expression lets nothing in": {sql: three + `CREATE POLICY a ON t FOR ALL WITH CHECK (true); CREATE POLICY b ON t FOR SELECT`, hidden: 3},
		"a restrictive policy without an expression keeps nothing out": {
			sql: three + `CREATE POLICY a ON t FOR SELECT USING (true); CREATE POLICY b ON t AS RESTRICTIVE FOR SELECT`, visible: 3,
		},
		"an error behind the first true policy is not reached": {
			sql: three + `CREATE POLICY a ON t FOR SELECT USING (1 / n > 0); CREATE POLICY b ON t FOR SELECT USING (id > 0)`, visible: 3,
		},
		"an error before it is": {
			sql: three + `CREATE POLICY b ON t FOR SELECT USING (1 / n > 0); CREATE POLICY a ON t FOR SELECT USING (id > 0)`, visible: 2, failed: 1,
		},
		"policies go to those who have a role's rights (R03)": {
			roles: 4, sql: `ALTER ROLE {2} NOINHERIT; GRANT {0} TO {1}, {2};` + three + `CREATE POLICY a ON t FOR SELECT TO {0} USING (` + me + `)`,
			who: each(0, 1, 2, 3), visible: 2, hidden: 10,
		},
		"owners, FORCE, BYPASSRLS and superusers (R04)": {
			roles: 4, sql: `ALTER ROLE {2} BYPASSRLS; ALTER ROLE {3} SUPERUSER;` + three + `ALTER TABLE t OWNER TO {0};
				CREATE TABLE f (LIKE t); INSERT INTO f SELECT * FROM t; ALTER TABLE f OWNER TO {0}, ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; GRANT SELECT ON f TO PUBLIC;
				CREATE TABLE o (LIKE t); INSERT INTO o SELECT * FROM t; ALTER TABLE o OWNER TO {0}; CREATE POLICY p ON o USING (false); GRANT SELECT ON o TO PUBLIC`,
			tables: []string{"t", "f", "o"}, who: each(0, 1, 2, 3), visible: 3*3 + 2*3 + 4*3, hidden: 3 + 2*3,
		},
		"BYPASSRLS is not inherited (R36)": {
			roles: 2, sql: `ALTER ROLE {0} BYPASSRLS; GRANT {0} TO {1};` + three + `CREATE POLICY a ON t USING (` + me + `)`,
			who: each(0, 1), visible: 3 + 1, hidden: 2,
		},
		"without USAGE on the schema (R05)": {
			sql: `CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO {login}; CREATE TABLE s.t (id int PRIMARY KEY); INSERT INTO s.t VALUES (1); GRANT SELECT ON s.t TO {0};
				CREATE TABLE s.u (LIKE s.t); INSERT INTO s.u VALUES (1); GRANT SELECT ON s.u TO {0}; ALTER TABLE s.u ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON s.u USING (true)`,
			tables: []string{"s.t", "s.u"}, failed: 2,
		},
		"without SELECT on any column (R05)": {
			roles: 2, sql: three + `REVOKE ALL ON t FROM PUBLIC; GRANT INSERT, UPDATE ON t TO {0}; GRANT SELECT (n) ON t TO {1}; CREATE POLICY a ON t USING (` + me + `)`,
			who: each(0, 1), visible: 1, hidden: 2, failed: 3,
		},
		"a policy may read what the role may not (R07)": {
			sql: three + `REVOKE ALL ON t FROM PUBLIC; GRANT SELECT (id) ON t TO {0}; CREATE POLICY a ON t USING (` + me + `)`, visible: 1, hidden: 2,
		},
		"without row security grants decide": {
			roles: 2, sql: `CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); GRANT SELECT ON t TO {0}; CREATE POLICY p ON t USING (false)`,
			who: each(0, 1), visible: 1, failed: 1,
		},
		"odd names, and an inner table of the same name (R08)": {
			sql: `CREATE SCHEMA "S ""x"; GRANT USAGE ON SCHEMA "S ""x" TO {0}, {login};
				CREATE TABLE "S ""x"."select" ("a""b" int PRIMARY KEY, "User" text, image text, n int, "select" int);
				INSERT INTO "S ""x"."select" VALUES (1, 'u1', 'i', 1, 5), (2, 'u2', 'x', 2, 6), (3, 'u1', 'i', 3, 7);
				CREATE TABLE public."select" ("a""b" int, "User" text); INSERT INTO public."select" VALUES (1, 'u1'), (2, 'u2'); GRANT SELECT ON public."select" TO {0};
				ALTER TABLE "S ""x"."select" ENABLE ROW LEVEL SECURITY; GRANT SELECT ON "S ""x"."select" TO {0};
				CREATE POLICY p ON "S ""x"."select" USING (image = 'i' AND n < 9 AND "select" > 0 AND EXISTS
					(SELECT FROM public."select" WHERE "select"."a""b" = "S ""x"."select"."a""b" AND "select"."User" = "S ""x"."select"."User"))`,
			tables: []string{`S "x.select`}, visible: 1, hidden: 2,
		},
		"names like those of the statement itself": {
			sql: `CREATE TABLE "rowtide images" (id int PRIMARY KEY, image text, n int, g int GENERATED ALWAYS AS (n + id) STORED);
				INSERT INTO "rowtide images" VALUES (1, 'a', 1), (2, 'b', 2); GRANT SELECT ON "rowtide images" TO {0}; ALTER TABLE "rowtide images" ENABLE ROW LEVEL SECURITY;
				CREATE POLICY p ON "rowtide images" USING (image = 'a' AND n = 1 AND g = 2 AND "rowtide images" IS NOT NULL)`,
			tables: []string{"rowtide images"}, visible: 1, hidden: 1,
		},
		"a function of the whole row (R12)": {
			sql: three + `CREATE FUNCTION mine(t) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT $1.owner = 'u1' AND $1.n = 1 $$;
				CREATE FUNCTION textual(r record) RETURNS bool LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN r::text LIKE '(3,%'; END $$;
				CREATE POLICY a ON t USING (mine(t.*)); CREATE POLICY b ON t USING (textual(t)); CREATE POLICY c ON t USING (to_jsonb(t) ->> 'owner' = 'nobody')`,
			visible: 2, hidden: 1,
		},
		"a definer's helper cannot change the role (R14)": {
			sql: three + `CREATE FUNCTION helper() RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM set_config('role', 'none', true); RETURN true; END $$;
				CREATE POLICY a ON t USING (helper())`, failed: 3,
		},
		"a view asks as its owner, an invoker's as the role (R16)": {
			roles: 2, sql: three + `CREATE TABLE member (who text, of_role text); INSERT INTO member VALUES ('u1', '{0}'), ('u2', '{1}'); ALTER TABLE member ENABLE ROW LEVEL SECURITY;
				CREATE POLICY own ON member USING (of_role = current_user); GRANT SELECT ON member TO {0}, {1};
				CREATE VIEW everybody AS SELECT * FROM member; CREATE VIEW asked WITH (security_invoker) AS SELECT * FROM member; GRANT SELECT ON everybody, asked TO {0}, {1};
				CREATE POLICY a ON t TO {0} USING (owner IN (SELECT who FROM everybody)); CREATE POLICY b ON t TO {1} USING (owner IN (SELECT who FROM asked))`,
			who: each(0, 1), visible: 3, hidden: 3,
		},
		"policies of the root apply, those of leaves do not (R15)": {
			sql: `CREATE TABLE t (id int, owner text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
				CREATE TABLE leaf1 (extra int, owner text, id int NOT NULL); ALTER TABLE leaf1 DROP COLUMN extra; ALTER TABLE t ATTACH PARTITION leaf1 FOR VALUES FROM (0) TO (10);
				CREATE TABLE leaf2 PARTITION OF t FOR VALUES FROM (10) TO (20); INSERT INTO t VALUES (1, 'u1'), (2, 'u2'), (11, 'u1');
				ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (` + me + `); ALTER TABLE leaf2 ENABLE ROW LEVEL SECURITY;
				GRANT SELECT ON t TO {0}`, visible: 2, hidden: 1,
		},
		"current_user and what it inherits (R27)": {
			roles: 2, sql: `GRANT {0} TO {1};` + three + `CREATE POLICY a ON t USING (current_user = '{0}' AND n = 1 OR pg_has_role(current_user, '{0}', 'MEMBER') AND n = 0 OR user = 'SESSION_USER')`,
			who: each(0, 1), visible: 3, hidden: 3,
		},
		"values of policies that are neither true nor false": {sql: three + `CREATE POLICY a ON t USING (n > 0 AND NULL)`, hidden: 3},
	}
}

// The service prepares as its own login, whose USAGE counts: a policy does not ask whether the
// role may look into a schema. Where the login has none, the role's own will do.
//
// Covers R06.
func TestRoleNeedsNoUsageOnSchemasOfPolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE SCHEMA private; CREATE FUNCTION private.mine(text) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT $1 = 'u1' $$;`+three+
		`CREATE POLICY a ON t USING (private.mine(owner)); GRANT USAGE ON SCHEMA private TO {login}`)
	if v, _, _ := w.agree(t, []string{"t"}, w.as(0, u1)); v != 1 {
		t.Errorf("%d visible", v)
	}
	w.exec(t, `REVOKE USAGE ON SCHEMA private FROM {login}; GRANT USAGE ON SCHEMA private TO {0}`)
	if v := w.askOf(t, w.newJudge(t, nil), w.table(t, "t"), []cdc.Row{texts("1", "u1", "1")}, w.as(0, u1)); v[0][0] != authz.Visible {
		t.Errorf("verdict %d", v[0][0])
	}
	w.audited(t)
	w.exec(t, `REVOKE USAGE ON SCHEMA private FROM {0}`)
	tab := w.table(t, "t")
	g := w.newJudge(t, nil)
	for range 3 {
		want(t, "nobody may look", w.askOf(t, g, tab, []cdc.Row{texts("1", "u1", "1")}, w.as(0, u1))[0], "h")
	}
	w.audited(t, "unsupported policy_unsupported 42501 0")
}

// Covers R09, S52.
func TestNothingShadowsWhatPoliciesName(t *testing.T) {
	t.Parallel()
	const policies = three + `CREATE TABLE member (who text); INSERT INTO member VALUES ('u1'); GRANT SELECT ON member TO PUBLIC;
		CREATE POLICY a ON t USING (owner IN (SELECT who FROM member) AND upper(owner) = 'U1' AND (SELECT count(*) FROM pg_roles) > 0 AND n = 1)`
	w := newWorld(t, 1, policies+`;
		CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;
		CREATE TABLE evil.member (who text); GRANT SELECT ON evil.member TO PUBLIC;
		CREATE TABLE evil.pg_roles (x int); GRANT SELECT ON evil.pg_roles TO PUBLIC;
		CREATE FUNCTION evil.upper(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'evil' $$;
		CREATE FUNCTION evil.always(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS $$ SELECT false $$;
		CREATE OPERATOR evil.= (LEFTARG = int, RIGHTARG = int, FUNCTION = evil.always);
		ALTER ROLE {login} SET search_path = evil, pg_catalog, public; ALTER ROLE {0} SET search_path = evil`)
	if v, _, _ := w.agree(t, []string{"t"}, w.as(0, u1)); v != 1 {
		t.Errorf("%d visible", v)
	}
	// A function that changes the path is undone before anything else is evaluated.
	w.exec(t, `CREATE FUNCTION turn() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'evil', false); RETURN true; END $$;
		CREATE POLICY b ON t AS RESTRICTIVE USING (turn())`)
	for range 2 {
		want(t, "after a change of path", w.ask(t, w.table(t, "t"), []cdc.Row{texts("1", "u1", "1"), texts("2", "u2", "1")}, w.as(0, u1))[0], "hh")
	}
	w.exec(t, `DROP POLICY b ON t`)
	if v, _, _ := w.agree(t, []string{"t"}, w.as(0, u1)); v != 1 {
		t.Errorf("%d visible behind it", v)
	}
}

// Covers R10.
func TestSubqueriesRunWithTheRolesRights(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, `CREATE TABLE member (team int, who text); INSERT INTO member VALUES (1, 'u1'), (2, 'u2');
		ALTER TABLE member ENABLE ROW LEVEL SECURITY; GRANT SELECT ON member TO {0}, {1};
		CREATE POLICY own ON member TO {0} USING (who = (current_setting('request.jwt.claims')::json ->> 'sub'));
		CREATE TABLE t (id int PRIMARY KEY, team int); INSERT INTO t VALUES (1, 1), (2, 2), (3, 3), (4, NULL); GRANT SELECT ON t TO PUBLIC;
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (team < 0 OR team IN (SELECT team FROM member))`)
	v, h, f := w.agree(t, []string{"t"}, w.as(0, u1), w.as(0, u2), w.as(1, u1), w.as(2, u1))
	if v != 2 || h != 10 || f != 4 {
		t.Errorf("%d visible, %d hidden, %d failed", v, h, f)
	}
	w.audited(t, "deny policy_error 42501 4")
}

// Covers R11.
func TestRecursivePolicyHidesAndIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (EXISTS (SELECT FROM t x WHERE x.id = t.n))`)
	if _, _, f := w.agree(t, []string{"t"}, w.as(0, u1)); f != 3 {
		t.Errorf("%d failed", f)
	}
	w.audited(t, "unsupported policy_unsupported 42P17 0")
	// A policy that binds the role and not the login shows when it is evaluated.
	w.exec(t, `ALTER POLICY p ON t TO {0}`)
	if _, _, f := w.agree(t, []string{"t"}, w.as(0, u1)); f != 3 {
		t.Errorf("%d failed", f)
	}
	w.audited(t, "deny policy_error 42P17 3")
	// One that binds the login and not the role does no harm.
	w.exec(t, `DROP POLICY p ON t; CREATE TABLE m (id int, x int); ALTER TABLE m ENABLE ROW LEVEL SECURITY, OWNER TO {0}; INSERT INTO m VALUES (1);
		CREATE POLICY r ON m USING (EXISTS (SELECT FROM m y)); CREATE POLICY p ON t USING (id IN (SELECT id FROM m))`)
	if v, _, _ := w.agree(t, []string{"t"}, w.as(0, u1)); v != 1 {
		t.Errorf("%d visible", v)
	}
	w.audited(t)
}

// Covers R12, R26.
func TestWhatAnImageCannotTellIsHiddenAndReportedOnce(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{
		`tableoid = 't'::regclass`, `ctid IS NOT NULL`, `xmin IS NOT NULL`, `EXISTS (SELECT FROM pg_class c WHERE c.oid = t.tableoid)`,
		`session_user IS NOT NULL`, `owner = 'it''s "' OR session_user::text IN (SELECT rolname FROM pg_roles)`,
	} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 2, three+`CREATE POLICY p ON t TO {0} USING (`+policy+`); CREATE POLICY q ON t TO {1} USING ("owner" <> 'SESSION_USER ctid')`)
			tab := w.table(t, "t")
			images, _ := w.rows(t, tab)
			for range 3 {
				got := w.ask(t, tab, images, w.as(0, u1), w.as(1, u1))
				want(t, "unsupported", got[0], "hhh")
				want(t, "supported", got[1], "vvh")
			}
			if got := w.audit.take(); len(got) != 1 || !strings.HasPrefix(got[0], "unsupported policy_unsupported") {
				t.Errorf("audit records %q", got)
			}
			if err := w.snapshot(t, tab, w.as(0, u1)); err == nil {
				t.Error("a snapshot shows what Judge hides")
			}
		})
	}
}

// Covers R13.
func TestSettingsAreThereFromTheFirstTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (current_setting('app.never') = '' AND n = 1 OR owner = 'u2' AND current_setting('app.json') = 'x')`)
	if v, h, _ := w.agree(t, []string{"t"}, w.as(0, u1, "app.never", "", "app.json", "x")); v != 2 || h != 1 {
		t.Errorf("the first time: %d visible, %d hidden", v, h)
	}
	v, h, f := w.agree(t, []string{"t"}, w.as(0, u1, "app.never", "", "app.json", "x"), w.as(0, u1, "app.never", "x", "app.json", ""), w.as(0, u1, "app.never", "", "app.json", ""))
	if v != 3 || h != 6 || f != 0 {
		t.Errorf("%d visible, %d hidden, %d failed", v, h, f)
	}
	w.audited(t)
}

// Covers R17.
func TestGeneratedColumnsAreComputed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE DOMAIN short AS varchar(8) CHECK (value <> 'never');
		CREATE TABLE t (id int PRIMARY KEY, gone int, a text, b numeric, low text GENERATED ALWAYS AS (lower(a)) STORED, twice numeric(6,2) GENERATED ALWAYS AS (b * 2) STORED,
			tag short GENERATED ALWAYS AS ('x' || a) STORED, late int DEFAULT 7);
		ALTER TABLE t DROP COLUMN gone;
		INSERT INTO t (id, a, b) VALUES (1, 'AbC', 1.005), (2, 'abc', NULL), (3, NULL, 2.5);
		CREATE FUNCTION whole(t) RETURNS bool LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN $1.twice = 5.00 AND $1.late = 7 AND $1.low IS NULL; END $$;
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0};
		CREATE POLICY p ON t USING (low = 'abc' AND twice = 2.01 AND tag = 'xAbC'); CREATE POLICY q ON t USING (whole(t))`)
	if v, h, _ := w.agree(t, []string{"t"}, w.as(0, u1)); v != 2 || h != 1 {
		t.Errorf("%d visible, %d hidden", v, h)
	}
}

// Covers R21, R32.
func TestWhatAnImageLeavesOutIsNotNull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, three+`ALTER TABLE t ADD big text; CREATE POLICY p ON t TO {0} USING (big IS NULL AND owner IS NULL); ALTER ROLE {1} BYPASSRLS`)
	tab := w.table(t, "t")
	null := cdc.Value{}
	images := []cdc.Row{
		{cdc.TextValue("1"), null, null, null},
		{cdc.TextValue("1"), null, null, cdc.UnchangedValue()},
		{cdc.TextValue("1"), cdc.AbsentValue(), cdc.AbsentValue(), cdc.AbsentValue()},
		{cdc.TextValue("1"), cdc.TextValue("u1"), null, null},
		{cdc.TextValue("1"), null, null},
	}
	got := w.ask(t, tab, images, w.as(0, u1), w.as(1, u1))
	want(t, "under policies", got[0], "vuuhu")
	want(t, "under none", got[1], "vvvvv")
	w.audited(t, "undecided image_incomplete 3")
	want(t, "only such", w.ask(t, tab, images[1:3], w.as(0, u1))[0], "uu")
}

// Covers R24, S47.
func TestAnErrorHidesItsImageFromItsPrincipalAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g % 100 FROM generate_series(1, 1200) g;
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0};
		CREATE POLICY p ON t USING (10 / (n - current_setting('app.poison')::int) IS NOT NULL)`)
	tab := w.table(t, "t")
	images, _ := w.rows(t, tab)
	got := w.ask(t, tab, images, w.as(0, u1, "app.poison", "-1"), w.as(0, u1, "app.poison", "7"), w.as(0, u1, "app.poison", "x"), w.as(0, u2, "app.poison", "-2"))
	for i, expect := range [][3]int{{1200, 0, 0}, {1188, 12, 0}, {0, 1200, 0}, {1200, 0, 0}} {
		v, h, u := counts(got[i])
		if [3]int{v, h, u} != expect {
			t.Errorf("principal %d: %d visible, %d hidden, %d undecided; want %v", i, v, h, u, expect)
		}
	}
	w.audited(t, "deny policy_error 22012 12", "deny policy_error 22P02 1200")
}

// Covers R34, R35.
func TestAnImageIsNotReadByOtherColumns(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{
		"column renamed":      `ALTER TABLE t RENAME n TO m`,
		"columns swapped":     `ALTER TABLE t RENAME a TO x; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME x TO b`,
		"column replaced":     `ALTER TABLE t DROP COLUMN b; ALTER TABLE t ADD b2 text DEFAULT 'u1'`,
		"column added":        `ALTER TABLE t ADD c int`,
		"column dropped":      `ALTER TABLE t DROP COLUMN n`,
		"type changed":        `ALTER TABLE t ALTER n TYPE text`,
		"length changed":      `ALTER TABLE t ALTER v TYPE varchar(2)`,
		"table renamed":       `ALTER TABLE t RENAME TO t2`,
		"table replaced":      `ALTER TABLE t RENAME TO t2; CREATE TABLE t (LIKE t2)`,
		"table moved":         `CREATE SCHEMA s; GRANT USAGE ON SCHEMA s TO PUBLIC; ALTER TABLE t SET SCHEMA s`,
		"table gone":          `DROP TABLE t`,
		"generation of a row": `ALTER TABLE t DROP COLUMN n; ALTER TABLE t ADD n int GENERATED ALWAYS AS (id) STORED`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY, a text, b text, v varchar(4), n int);
				ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (a = 'u1'); GRANT SELECT ON t TO {0}`)
			tab := w.table(t, "t")
			images := []cdc.Row{texts("1", "u1", "u2", "v", "3"), texts("2", "u2", "u1", "v", "3")}
			want(t, "before", w.ask(t, tab, images, w.as(0, u1))[0], "vh")
			w.audited(t)
			w.exec(t, ddl)
			want(t, "the session that knows it", w.ask(t, tab, images, w.as(0, u1))[0], "uu")
			want(t, "another", w.askOf(t, w.newJudge(t, nil), tab, images, w.as(0, u1))[0], "uu")
			for _, r := range w.audit.take() {
				if !strings.HasPrefix(r, "undecided catalog_changed") {
					t.Errorf("audit record %q", r)
				}
			}
		})
	}
}

// An image that Postgres cannot read any more says nothing about who sees it.
//
// Covers R35.
func TestAnUnreadableImageIsUndecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE TABLE t (id int PRIMARY KEY, m mood, n text);
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (m = 'glad' AND n::int > 0); GRANT SELECT ON t TO {0}`)
	tab := w.table(t, "t")
	w.exec(t, `ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'`)
	images := []cdc.Row{texts("1", "glad", "1"), texts("2", "glad", "x"), texts("3", "blue", "1")}
	want(t, "readable", w.ask(t, tab, images, w.as(0, u1))[0], "vhh")
	w.audited(t, "deny policy_error 22P02 1")
	images = append(images, texts("4", "sad", "1"))
	for range 4 {
		images = append(images, images[0])
	}
	want(t, "one that is not", w.ask(t, tab, images, w.as(0, u1))[0], "vhhuvvvu")
	w.audited(t, "deny policy_error 22P02 1", "undecided image_unreadable 22P02 1", "undecided not_asked 1")
}

// Covers R37.
func TestRowSecurityIsNeverOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE TABLE inner_t (who text); INSERT INTO inner_t VALUES ('u1'), ('u2'); ALTER TABLE inner_t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON inner_t TO {0};
		CREATE POLICY i ON inner_t USING (who = 'u1'); CREATE POLICY p ON t USING (owner IN (SELECT who FROM inner_t));
		ALTER ROLE {login} SET row_security = off; ALTER ROLE {0} SET row_security = off`)
	if v, h, _ := w.agree(t, []string{"t"}, w.as(0, u1)); v != 1 || h != 2 {
		t.Errorf("%d visible, %d hidden", v, h)
	}
	if err := w.snapshot(t, w.table(t, "t"), w.as(0, u1)); err != nil {
		t.Error(err)
	}
}

func texts(values ...string) cdc.Row {
	row := make(cdc.Row, len(values))
	for i, v := range values {
		row[i] = cdc.TextValue(v)
	}
	return row
}
