package rls_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A reading is what a snapshot gave.
type reading struct {
	begun int
	rows  []cdc.Row
}

func (r *reading) begin(cdc.Snapshot) error { r.begun++; return nil }
func (r *reading) row(row cdc.Row) error    { r.rows = append(r.rows, row); return nil }

func (w *world) read(t testing.TB, g *rls.Postgres, tab *schema.Table, p *authz.Principal) (reading, error) {
	t.Helper()
	var r reading
	err := g.Snapshot(t.Context(), authz.Reading{Principal: p, Table: tab, Readable: tab.Def.Access[p.Role].Columns, Settled: []uint32{w.settled(t)}}, r.begin, r.row)
	return r, err
}

func code(err error) string {
	var se *schema.Error
	if !errors.As(err, &se) {
		return fmt.Sprint(err)
	}
	return strings.TrimSpace(string(se.Code) + " " + se.Reason)
}

func TestSnapshotIsTheSelectOfTheRole(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 3, `CREATE TABLE t (id int PRIMARY KEY, gone int, owner text, secret text, "odd ""n" text, at timestamptz, x float8, g int GENERATED ALWAYS AS (id * 2) STORED);
		ALTER TABLE t DROP COLUMN gone;
		INSERT INTO t VALUES (1, 'u1', 's', '', '2020-03-29 01:30 Europe/Vienna', 0.1::float8 + 0.2::float8), (2, 'u2', 's', NULL, NULL, NULL), (3, 'u1', NULL, E'"\\', 'infinity', '-0');
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (`+me+`); GRANT SELECT ON t TO {0}; GRANT SELECT (id, owner, g) ON t TO {1};
		ALTER ROLE {login} SET DateStyle = 'German'; ALTER ROLE {login} SET TimeZone = 'Asia/Tokyo'; ALTER ROLE {login} SET extra_float_digits = 0`)
	tab := w.table(t, "t")
	r, err := w.read(t, w.judge, tab, w.as(0, u1))
	if err != nil || r.begun != 1 {
		t.Fatal(err, r.begun)
	}
	null := cdc.Value{}
	equal(t, r.rows, []cdc.Row{
		texts("1", "u1", "s", "", "2020-03-29 00:30:00+00", "0.30000000000000004", "2"),
		{cdc.TextValue("3"), cdc.TextValue("u1"), null, cdc.TextValue(`"\`), cdc.TextValue("infinity"), cdc.TextValue("-0"), cdc.TextValue("6")},
	})
	r, err = w.read(t, w.judge, tab, w.as(1, u2))
	if err != nil {
		t.Fatal(err)
	}
	no := cdc.AbsentValue()
	equal(t, r.rows, []cdc.Row{{cdc.TextValue("2"), cdc.TextValue("u2"), no, no, no, no, cdc.TextValue("4")}})
	w.audited(t)
	if r, err = w.read(t, w.judge, tab, w.as(2, u1)); code(err) != "FORBIDDEN" || r.begun != 0 {
		t.Errorf("without privileges: %v, begun %d", err, r.begun)
	}
}

func equal(t *testing.T, got, want []cdc.Row) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("rows %v, want %v", got, want)
	}
	for i := range want {
		if !got[i].Equal(want[i]) {
			t.Errorf("row %v, want %v", got[i], want[i])
		}
	}
}

func TestSnapshotOfManyRowsComesInPortions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY, body text) PARTITION BY RANGE (id); CREATE TABLE t1 PARTITION OF t FOR VALUES FROM (0) TO (3000); CREATE TABLE t2 PARTITION OF t DEFAULT;
		INSERT INTO t SELECT g, repeat('x', CASE WHEN g % 1000 = 0 THEN 200000 ELSE g % 50 END) FROM generate_series(1, 5000) g;
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id % 2 = 0); GRANT SELECT ON t TO {0}`)
	tab := w.table(t, "t")
	seen := map[string]bool{}
	err := w.judge.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1), Table: tab, Readable: []bool{true, true}}, func(cdc.Snapshot) error {
		// A change behind the beginning is not in it.
		w.exec(t, "DELETE FROM t WHERE id < 100; INSERT INTO t VALUES (10000, 'late')")
		return nil
	}, func(r cdc.Row) error { seen[r[0].Text()] = true; return nil })
	if err != nil || len(seen) != 2500 || seen["10000"] {
		t.Errorf("%v, %d rows", err, len(seen))
	}
}

// Rows of tables that inherit are in streams of their own.
func TestSnapshotLeavesOutChildren(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (true); CREATE TABLE child () INHERITS (t); INSERT INTO child VALUES (9, 'u1', 1)`)
	if r, err := w.read(t, w.judge, w.table(t, "t"), w.as(0, u1)); err != nil || len(r.rows) != 3 {
		t.Errorf("%v, %v", r.rows, err)
	}
}

func TestSnapshotErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`
		CREATE FUNCTION act(what text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN
			CASE what WHEN 'error' THEN RAISE EXCEPTION 'secret'; WHEN 'sleep' THEN PERFORM pg_sleep(3600); WHEN 'claims' THEN PERFORM set_config('request.jwt.claims', '', false);
				WHEN 'write' THEN UPDATE public.t SET n = 1; WHEN 'poison' THEN IF NOT EXISTS (SELECT FROM pg_prepared_statements WHERE from_sql) THEN PREPARE x AS SELECT 1; END IF; ELSE NULL; END CASE;
			RETURN true; END $$;
		CREATE POLICY p ON t USING (act(current_setting('app.act')))`)
	g := w.newJudge(t, func(c *rls.Config) { c.SnapshotConns, c.SnapshotTimeout = 1, time.Second })
	tab := w.table(t, "t")
	for act, want := range map[string]string{
		"none": "<nil>", "error": "FORBIDDEN", "write": "FORBIDDEN", "claims": "FORBIDDEN", "sleep": "RESYNC_REQUIRED policy_unavailable", "poison": "<nil>",
	} {
		r, err := w.read(t, g, tab, w.as(0, u1, "app.act", act))
		if code(err) != want {
			t.Errorf("%s: %v, want %s", act, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "public")) {
			t.Errorf("%s: the message tells %v", act, err)
		}
		if want == "<nil>" && len(r.rows) != 3 {
			t.Errorf("%s: rows %v", act, r.rows)
		}
		// Whatever happened, the next one is well.
		if r, err := w.read(t, g, tab, w.as(0, u1, "app.act", "none")); err != nil || len(r.rows) != 3 {
			t.Errorf("behind %s: %v, %v", act, r.rows, err)
		}
	}
	stop := errors.New("enough")
	if err := g.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1, "app.act", ""), Table: tab, Readable: []bool{true, true, true}}, func(cdc.Snapshot) error { return nil }, func(cdc.Row) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("row: %v", err)
	}
	if err := g.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1, "app.act", ""), Table: tab, Readable: []bool{true, true, true}}, func(cdc.Snapshot) error { return stop }, nil); !errors.Is(err, stop) {
		t.Errorf("begin: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := g.Snapshot(ctx, authz.Reading{Principal: w.as(0, u1, "app.act", ""), Table: tab, Readable: []bool{true, true, true}}, func(cdc.Snapshot) error { cancel(); return nil }, func(cdc.Row) error { return nil })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("end of context: %v", err)
	}
	// A transaction that nobody has begun is never visible.
	soon := w.newJudge(t, func(c *rls.Config) { c.VisibilityWait = 20 * time.Millisecond })
	err = soon.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1, "app.act", ""), Table: tab, Readable: []bool{true}, Settled: []uint32{w.settled(t) + 1000}}, func(cdc.Snapshot) error { return nil }, nil)
	if code(err) != "RESYNC_REQUIRED policy_unavailable" {
		t.Errorf("not visible: %v", err)
	}
	w.exec(t, "ALTER TABLE t RENAME n TO m")
	if _, err := w.read(t, g, tab, w.as(0, u1, "app.act", "")); code(err) != "RESYNC_REQUIRED policy_changed" {
		t.Errorf("changed table: %v", err)
	}
}

func TestSnapshotOfALostConnection(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (true)`)
	g := w.newJudge(t, func(c *rls.Config) { c.SnapshotConns = 1 })
	tab := w.table(t, "t")
	lose := func() {
		t.Helper()
		w.run(t, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'rowtide snapshot' AND datname = current_database()`)
	}
	if _, err := w.read(t, g, tab, w.as(0, u1)); err != nil {
		t.Fatal(err)
	}
	lose()
	if r, err := w.read(t, g, tab, w.as(0, u1)); err != nil || r.begun != 1 || len(r.rows) != 3 {
		t.Errorf("lost while idle: %v, %v", r, err)
	}
	begun := 0
	err := g.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1), Table: tab, Readable: []bool{true, true, true}}, func(cdc.Snapshot) error { begun++; lose(); return nil }, func(cdc.Row) error { return nil })
	if code(err) != "RESYNC_REQUIRED policy_unavailable" || begun != 1 {
		t.Errorf("lost on the way: %v, begun %d times", err, begun)
	}
}

// Fields that the caller does not name are not read, whatever the role may.
func TestSnapshotReadsWhatItIsTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (true)`)
	tab := w.table(t, "t")
	var r reading
	if err := w.judge.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1), Table: tab, Readable: []bool{true}}, r.begin, r.row); err != nil {
		t.Fatal(err)
	}
	equal(t, r.rows[:1], []cdc.Row{{cdc.TextValue("1"), cdc.AbsentValue(), cdc.AbsentValue()}})
	if err := w.judge.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1), Table: tab}, r.begin, r.row); code(err) != "FORBIDDEN" {
		t.Errorf("nothing readable: %v", err)
	}
}

// A condition is one of a SELECT under row security: in one piece and in portions it gives what the
// policies show, and of that what it is true of.
func TestSnapshotReadsWhereBehindThePolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY, owner text);
		INSERT INTO t SELECT g, CASE WHEN g % 3 = 0 THEN 'u2' ELSE 'u1' END FROM generate_series(1, 60000) g;
		ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (`+me+`); GRANT SELECT ON t TO {0}`)
	tab := w.table(t, "t")
	tab.Key = []int{0}
	what := authz.Reading{
		Principal: w.as(0, u1), Table: tab, Readable: []bool{true, true},
		Where: "(id % 2 = 0 OR id = 3)", // policies hide 3
	}
	var whole, portions reading
	if err := w.judge.Snapshot(t.Context(), what, whole.begin, whole.row); err != nil {
		t.Fatal(err)
	}
	var after cdc.Row
	for more := true; more; after = portions.rows[len(portions.rows)-1] {
		var err error
		if more, err = w.judge.Portion(t.Context(), what, after, portions.begin, portions.row); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, whole.rows, portions.rows)
	if len(whole.rows) != 20_000 || portions.begun < 2 {
		t.Errorf("%d rows, in %d portions", len(whole.rows), portions.begun)
	}
}
