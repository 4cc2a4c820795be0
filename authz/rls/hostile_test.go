package rls_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// single makes everything go through one session, where what is left behind would be met.
func single(c *rls.Config) { c.Conns = 1 }

// Covers S35.
func TestNothingIsLeftForTheNextPrincipal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2, three+`
		CREATE FUNCTION leave() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
			IF current_setting('request.jwt.claims') = '{"sub":"u1"}' THEN
				PERFORM set_config('app.left', 'behind', false), set_config('DateStyle', 'German', false), set_config('row_security', 'on', false);
			END IF;
			RETURN coalesce(current_setting('app.left', true), '') = '' AND coalesce(current_setting('app.own', true), '') = ''
				AND current_setting('DateStyle') = 'ISO, YMD' AND current_user = '{0}';
		END $$;
		CREATE POLICY p ON t USING (leave())`)
	g := w.newJudge(t, single)
	tab := w.table(t, "t")
	image := []cdc.Row{texts("1", "u1", "1")}
	clean := authz.NewPrincipal(w.names[0], "u2", []authz.Setting{{Name: "request.jwt.claims", Value: u2}}, noExpiry)
	for range 3 {
		got := w.askOf(t, g, tab, image, clean, w.as(0, u1), clean, w.as(1, u1), w.as(0, u2, "app.own", "x"), clean)
		for i, letters := range []string{"v", "h", "v", "h", "h", "v"} {
			want(t, "principal", got[i], letters)
		}
	}
}

// Locks of the session are no part of a transaction either.
//
// Covers S35.
func TestNoLockIsLeftBehind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (pg_advisory_lock(id) IS NOT NULL)`)
	tab := w.table(t, "t")
	want(t, "locked", w.ask(t, tab, []cdc.Row{texts("1", "u1", "1")}, w.as(0, u1))[0], "v")
	if err := w.snapshot(t, tab, w.as(0, u1)); err != nil {
		t.Error(err)
	}
	if !pgtest.One[bool](t, w.db, "SELECT bool_and(pg_try_advisory_xact_lock(i)) FROM generate_series(1, 3) i") {
		t.Error("a lock is held")
	}
}

// Covers S46.
func TestTheImageIsJudgedNotTheRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY, public bool); INSERT INTO t VALUES (1, true), (2, false);
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0}; CREATE POLICY p ON t USING (public)`)
	want(t, "otherwise in the image", w.ask(t, w.table(t, "t"), []cdc.Row{texts("1", "f"), texts("2", "t")}, w.as(0, u1))[0], "hv")
}

// The transaction says READ ONLY, and the session's default_transaction_read_only says so of whatever
// would not; a statement that changes neither is refused by both.
//
// Covers R23, S49.
func TestPoliciesCannotWrite(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE TABLE seen (id int); GRANT ALL ON seen TO PUBLIC; CREATE SEQUENCE s; GRANT ALL ON s TO PUBLIC;
		CREATE FUNCTION effect(n int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
			CASE n WHEN 1 THEN INSERT INTO seen VALUES (1); WHEN 2 THEN PERFORM nextval('public.s'); WHEN 3 THEN CREATE TEMP TABLE x (); WHEN 4 THEN PERFORM pg_notify('c', 'x');
				WHEN 5 THEN SET transaction_read_only = off; INSERT INTO seen VALUES (5); ELSE NULL; END CASE;
			RETURN true; END $$;
		CREATE POLICY p ON t USING (effect(id))`)
	w.exec(t, `CREATE OR REPLACE FUNCTION effect(n int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
			CASE n WHEN 1 THEN INSERT INTO public.seen VALUES (1); WHEN 2 THEN PERFORM nextval('public.s'); WHEN 3 THEN CREATE TEMP TABLE x (); WHEN 4 THEN PERFORM pg_notify('c', 'x');
				WHEN 5 THEN SET transaction_read_only = off; INSERT INTO public.seen VALUES (5); ELSE NULL; END CASE;
			RETURN true; END $$`)
	listener := connect(t, w.db.Admin)
	if _, err := listener.Exec(t.Context(), "LISTEN c").ReadAll(); err != nil {
		t.Fatal(err)
	}
	var images []cdc.Row
	for _, id := range []string{"0", "1", "2", "3", "4", "5"} {
		images = append(images, texts(id, "u1", "1"))
	}
	want(t, "writers", w.ask(t, w.table(t, "t"), images, w.as(0, u1))[0], "vhhhvh")
	got := w.audit.take()
	if len(got) != 2 || got[0] != "deny policy_error 25001 1" && got[0] != "deny policy_error 25006 3" {
		t.Errorf("audit records %q", got)
	}
	if n := pgtest.One[int](t, w.db, "SELECT count(*)::int + (SELECT last_value::int - 1 FROM s) FROM seen"); n != 0 {
		t.Errorf("%d writes", n)
	}
	// A notification would come before the end of this.
	if r := listener.ExecParams(t.Context(), "SELECT 1", nil, nil, nil, nil).Read(); r.Err != nil {
		t.Fatal(r.Err)
	}
}

// Covers R14, S50.
func TestPolicyThatChangesTheRoleGainsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE TABLE secret (x int);
		CREATE FUNCTION escape(who text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF who = 'u1' THEN PERFORM set_config('role', 'none', true); END IF; RETURN true; END $$;
		CREATE FUNCTION peek() RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN has_table_privilege('public.secret', 'SELECT'); END $$;
		CREATE POLICY p ON t USING (escape(owner) AND peek())`)
	// As in --dev: the login is a superuser, and would see everything.
	w.exec(t, `ALTER ROLE {login} SUPERUSER`)
	g := w.newJudge(t, single)
	tab := w.table(t, "t")
	for range 2 {
		got := w.askOf(t, g, tab, []cdc.Row{texts("2", "u2", "1"), texts("1", "u1", "1"), texts("3", "u3", "1")}, w.as(0, u1), w.as(0, u2))
		want(t, "first", got[0], "hhh")
		want(t, "second", got[1], "hhh")
	}
	w.audited(t, slices.Repeat([]string{"deny role_tampered 1"}, 4)...)
	if err := w.snapshot(t, tab, w.as(0, u1)); err == nil {
		t.Error("a snapshot is read under another role")
	}
}

// Covers S51.
func TestPolicyThatRewritesClaimsChangesNobodysAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`
		CREATE FUNCTION rewrite(who text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF who = 'evil' THEN PERFORM set_config('request.jwt.claims', '{"sub":"u2"}', false); END IF; RETURN false; END $$;
		CREATE POLICY p ON t USING (rewrite(owner) OR `+me+`)`)
	g := w.newJudge(t, single)
	tab := w.table(t, "t")
	images := []cdc.Row{texts("2", "u2", "1"), texts("9", "evil", "1"), texts("2", "u2", "1"), texts("1", "u1", "1")}
	for range 2 {
		got := w.askOf(t, g, tab, images, w.as(0, u1), w.as(0, u2), w.as(0, u1))
		want(t, "first", got[0], "hhhv")
		want(t, "second", got[1], "vhvh")
		want(t, "third", got[2], "hhhv")
	}
}

// Covers S53, R38.
func TestAlternatingRolesGetTheirOwnPlans(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, three+`CREATE TABLE member (who text, of_role text); INSERT INTO member VALUES ('u1', '{0}'), ('u2', '{1}'), (NULL, '{2}');
		ALTER TABLE member ENABLE ROW LEVEL SECURITY; GRANT SELECT ON member TO PUBLIC; ALTER ROLE {2} BYPASSRLS;
		CREATE POLICY zero ON member TO {0} USING (of_role = '{0}'); CREATE POLICY one ON member TO {1} USING (of_role = current_user);
		CREATE FUNCTION cached(who text) RETURNS bool LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN EXISTS (SELECT FROM public.member m WHERE m.who = cached.who); END $$;
		CREATE VIEW invoked WITH (security_invoker) AS SELECT * FROM member; GRANT SELECT ON invoked TO PUBLIC;
		CREATE POLICY p ON t USING (cached(owner) AND owner IN (WITH x AS (SELECT who FROM invoked) SELECT who FROM x))`)
	// Rows of made are numbers of statements prepared for t.
	w.exec(t, `CREATE TABLE made (n int PRIMARY KEY); ALTER TABLE made ENABLE ROW LEVEL SECURITY; GRANT SELECT ON made TO PUBLIC;
		CREATE POLICY p ON made USING (n = (SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%EXISTS%"t"%' AND statement NOT LIKE '%made%'))`)
	g := w.newJudge(t, single)
	tab := w.table(t, "t")
	images, places := w.rows(t, tab)
	roles := []*authz.Principal{w.as(0, u1), w.as(1, u1)}
	for range 8 { // more often than Postgres waits before it takes a generic plan
		for i, letters := range []string{"vhh", "hvh"} {
			want(t, "role", w.askOf(t, g, tab, images, roles[i])[0], letters)
		}
	}
	// A plan of one role never serves another, whatever Postgres would have made of it.
	want(t, "statements for t", w.askOf(t, g, w.table(t, "made"), []cdc.Row{texts("1"), texts("2"), texts("3")}, roles[0])[0], "hvh")
	for i, p := range roles {
		if got, expect := strings.Join(w.truth(t, tab, places, p), ""), []string{"tff", "ftf"}[i]; got != expect {
			t.Errorf("SELECT says %s", got)
		}
	}
}

// TestEachPrincipalIsAnsweredForItself asks for several principals at once. Each is assumed before
// its own question, and what the question ran under is read back behind it (compare): with either
// one alone, nobody gets the answer of another.
//
// Covers S54.
func TestEachPrincipalIsAnsweredForItself(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`
		CREATE FUNCTION uid() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('request.jwt.claims')::json ->> 'sub' $$;
		-- It reads a setting, so it is not: as people write it nevertheless.
		CREATE FUNCTION frozen() RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN current_setting('request.jwt.claims')::json ->> 'sub'; END $$;
		CREATE POLICY p ON t USING (owner = (SELECT uid()) AND owner = frozen())`)
	g := w.newJudge(t, single)
	tab := w.table(t, "t")
	images, _ := w.rows(t, tab)
	for range 8 {
		got := w.askOf(t, g, tab, images, w.as(0, u1), w.as(0, u2), w.as(0, `{"sub":"u3"}`), w.as(0, u1))
		for i, letters := range []string{"vhh", "hvh", "hhh", "vhh"} {
			want(t, "principal", got[i], letters)
		}
	}
	w.audited(t)
}

// PREPARE and DEALLOCATE are no part of a transaction: rolling back leaves them. A policy
// function could put statements of its own in place of ours, for other tables too.
//
// Covers S51.
func TestPolicyThatReplacesPreparedStatementsGainsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE TABLE other (id int PRIMARY KEY); ALTER TABLE other ENABLE ROW LEVEL SECURITY; GRANT SELECT ON other TO {0}; CREATE POLICY p ON other USING (id < 0);
		CREATE FUNCTION poison(who text) RETURNS bool LANGUAGE plpgsql AS $$ DECLARE s record; BEGIN
			IF who = 'u1' THEN
				FOR s IN SELECT name FROM pg_prepared_statements WHERE statement LIKE '%other%' AND statement LIKE '%ARRAY%' LOOP
					EXECUTE format('DEALLOCATE %I', s.name);
					EXECUTE format('PREPARE %I (text[]) AS SELECT ARRAY[true]', s.name);
				END LOOP;
			ELSIF who = 'u2' THEN
				DEALLOCATE ALL;
			ELSIF who IN ('SELECT', 'SELECT 1', 'SELECT 1, 2, 3, 4', 'SELECT WHERE false') THEN
				FOR s IN SELECT name, parameter_types FROM pg_prepared_statements LOOP
					EXECUTE format('DEALLOCATE %I', s.name);
					EXECUTE format('PREPARE %I %s AS %s', s.name, '(' || nullif(array_to_string(s.parameter_types, ','), '') || ')', who);
				END LOOP;
			END IF;
			RETURN true; END $$;
		CREATE POLICY p ON t USING (poison(current_setting('request.jwt.claims')::json ->> 'sub'))`)
	g := w.newJudge(t, single)
	tab, other := w.table(t, "t"), w.table(t, "other")
	image := []cdc.Row{texts("1", "x", "1")}
	u3 := w.as(0, `{"sub":"u3"}`)
	for range 2 {
		want(t, "other table", w.askOf(t, g, other, []cdc.Row{texts("1")}, u3)[0], "h")
		// It is asked again in a session of its own, where there is nothing to replace.
		got := w.askOf(t, g, tab, image, u3, w.as(0, u1), u3)
		want(t, "before", got[0], "v")
		want(t, "who replaces", got[1], "v")
		want(t, "behind", got[2], "v")
	}
	w.audited(t)
	for range 2 {
		want(t, "other table", w.askOf(t, g, other, []cdc.Row{texts("1")}, u3)[0], "h")
		got := w.askOf(t, g, tab, image, u3, w.as(0, u2), u3)
		want(t, "before", got[0], "v")
		want(t, "who drops", got[1], "h")
		want(t, "behind", got[2], "v")
	}
	w.audited(t, slices.Repeat([]string{"deny session_tampered 1"}, 2)...)
	// Answers of another form than ours are none.
	for _, statement := range []string{"SELECT", "SELECT 1", "SELECT 1, 2, 3, 4", "SELECT WHERE false"} {
		got := w.askOf(t, g, tab, image, u3, w.as(0, `{"sub":"`+statement+`"}`), u3)
		want(t, "before", got[0], "v")
		want(t, statement, got[1], "h")
		want(t, "behind", got[2], "v")
		w.audited(t, "deny session_tampered 1")
		if err := w.snapshot(t, tab, w.as(0, `{"sub":"`+statement+`"}`)); err == nil {
			t.Errorf("a snapshot is read with %s in place of our statements", statement)
		}
		w.audit.take()
	}
}

// Covers S48.
func TestSlowPolicyTouchesNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (CASE WHEN n = 5 AND current_setting('request.jwt.claims') = '{"sub":"u1"}' THEN pg_sleep(3600) IS NOT NULL ELSE true END)`)
	g := w.newJudge(t, func(c *rls.Config) { c.StatementTimeout = time.Second })
	tab := w.table(t, "t")
	var images []cdc.Row
	for _, n := range []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"} {
		images = append(images, texts(n, "x", n))
	}
	began := time.Now()
	got := w.askOf(t, g, tab, images, w.as(0, u2), w.as(0, u1), w.as(0, u2))
	want(t, "first", got[0], "vvvvvvvvv")
	want(t, "the slow one", got[1], "vvvvuvvuu") // windows of 1, 2, 4, …
	want(t, "third", got[2], "vvvvvvvvv")
	w.audited(t, "undecided policy_failed 57014 1", "undecided not_asked 2")
	if d := time.Since(began); d > 30*time.Second {
		t.Errorf("it took %s", d)
	}
}

// The codes that a policy raises decide between hidden and undecided.
func TestErrorsThatImageAndClaimsDetermineHide(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE FUNCTION fail(code text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = code; END $$;
		CREATE POLICY p ON t USING (fail(owner))`)
	tab := w.table(t, "t")
	for code, letter := range map[string]string{
		"22012": "h", "23514": "h", "42501": "h", "42P01": "h", "P0001": "h", "PT403": "h", "2F003": "h", "38000": "h", "39000": "h", "21000": "h", "0A000": "h", "54001": "h", "25006": "h",
		"57014": "u", "53200": "u", "40001": "u", "40P01": "u", "55P03": "u", "XX000": "u", "58030": "u", "08006": "u",
	} {
		// A principal of its own: one whose policies time out is not asked again at once.
		want(t, code, w.ask(t, tab, []cdc.Row{texts("1", code, "1")}, w.as(0, fmt.Sprintf(`{"sub":%q}`, code)))[0], letter)
		reason := "deny policy_error "
		if letter == "u" {
			reason = "undecided policy_failed "
		}
		w.audited(t, reason+code+" 1")
	}
}

func TestRoleThatIsGoneIsUndecided(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, three+`CREATE POLICY p ON t USING (`+me+`)`)
	tab := w.table(t, "t")
	w.exec(t, `DROP ROLE {1}; REVOKE {2} FROM {login}`)
	got := w.ask(t, tab, []cdc.Row{texts("1", "u1", "1")}, w.as(0, u1), w.as(1, u1), w.as(2, u1), principal("none", u1), principal("", u1))
	for i, letters := range []string{"v", "u", "u", "h", "h"} {
		want(t, "principal", got[i], letters)
	}
	w.audited(t, "undecided role 22023 1", "undecided role 42501 1")
}
