package rls_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// A writer writes policies as nobody would, but Postgres takes.
type writer struct{ *rand.Rand }

func (r writer) pick(of ...string) string { return of[r.IntN(len(of))] }

const subject = `(current_setting('request.jwt.claims', true)::json ->> 'sub')`

func (r writer) number(depth int) string {
	switch {
	case depth <= 0 || r.IntN(3) == 0:
		return r.pick("n", "m", "id", "1", "0", "NULL::int", "length(owner)", "cardinality(list)")
	case r.IntN(2) == 0:
		return "(" + r.number(depth-1) + r.pick(" + ", " - ", " * ", " / ", " % ") + r.number(depth-1) + ")"
	}
	return r.pick(
		`(current_setting('request.jwt.claims', true)::json ->> 'n')::int`, `(doc ->> 'n')::int`, `owner::int`, `(SELECT max(team) FROM member WHERE who = t.owner)`,
		`(SELECT count(*)::int FROM hidden h WHERE h.id > t.n)`, `coalesce(`+r.number(depth-1)+`, `+r.number(depth-1)+`)`,
	)
}

func (r writer) text(depth int) string {
	if depth <= 0 || r.IntN(2) == 0 {
		return r.pick("owner", "doc ->> 'a'", "'u1'", "''", "NULL", subject, "current_user::text")
	}
	return r.pick("upper("+r.text(depth-1)+")", r.text(depth-1)+" || "+r.text(depth-1), "nullif("+r.text(depth-1)+", '')", "(SELECT who FROM member WHERE team = "+r.number(depth-1)+")")
}

func (r writer) condition(depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		a, b := r.condition(depth-1), r.condition(depth-1)
		return "(" + r.pick(a+" AND "+b, a+" OR "+b, "NOT "+a, a+" IS NOT TRUE", "CASE WHEN "+a+" THEN "+b+" ELSE "+r.condition(depth-1)+" END") + ")"
	}
	return "(" + r.pick(
		"open", "true", "n IS NULL", "owner = "+subject, r.number(2)+r.pick(" = ", " < ", " <> ")+r.number(1), r.text(2)+r.pick(" = ", " LIKE ", " IS DISTINCT FROM ")+r.text(1),
		"n = ANY (list)", "n IN (SELECT team FROM member WHERE who = "+subject+")", "n NOT IN (SELECT team FROM member)",
		"EXISTS (SELECT FROM member t WHERE t.team = n AND t.who = "+r.text(1)+")", "EXISTS (SELECT FROM hidden)", "EXISTS (SELECT FROM forbidden WHERE x = n)",
		"whole(t)", "t.* IS NOT NULL", "(t).n = 1", "doc @> '{\"a\": \"u1\"}'", "at > '2020-01-01'",
	) + ")"
}

// policies writes some for table t.
func (r writer) policies(w *world) string {
	var b strings.Builder
	for i := range 1 + r.IntN(4) {
		kind := r.pick("", "", "AS RESTRICTIVE")
		if i == 0 {
			kind = ""
		}
		fmt.Fprintf(&b, "CREATE POLICY %s%d ON t %s %s TO %s USING (%s);\n", r.pick("a", "B", "z"), i, kind,
			r.pick("", "FOR SELECT", "FOR ALL", "FOR UPDATE"), r.pick("PUBLIC", "PUBLIC", "{0}", "{1}"), r.condition(3))
	}
	return w.fill(b.String())
}

// TestRandomPoliciesAgreeWithSelect makes policies, rows and claims at random, which Postgres judges.
// ROWTIDE_TEST_SEED replays a run, ROWTIDE_TEST_DECISIONS makes it longer.
func TestRandomPoliciesAgreeWithSelect(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("ROWTIDE_TEST_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ROWTIDE_TEST_SEED=%d", seed)
	r := writer{rand.New(rand.NewPCG(seed, 1))}
	w := newWorld(t, 2, `GRANT {0} TO {1};
		CREATE TABLE t (id int PRIMARY KEY, gone int, owner text, n int, m int, open bool, list int[], doc jsonb, at timestamptz, twice int GENERATED ALWAYS AS (n * 2) STORED);
		ALTER TABLE t DROP COLUMN gone; ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0}, {1};
		CREATE TABLE member (team int, who text); INSERT INTO member VALUES (1, 'u1'), (2, 'u1'), (1, 'u2'), (3, NULL), (NULL, 'u3'); GRANT SELECT ON member TO {0}, {1};
		CREATE TABLE hidden (id int); INSERT INTO hidden VALUES (1), (2), (3); ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; GRANT SELECT ON hidden TO {0}, {1}; CREATE POLICY h ON hidden TO {0} USING (id = 1 OR current_user = '{1}');
		CREATE TABLE forbidden (x int); GRANT SELECT ON forbidden TO {0};
		CREATE FUNCTION whole(t) RETURNS bool LANGUAGE sql STABLE AS $$ SELECT $1.twice > 2 OR $1.owner = 'u2' $$`)
	who := []*authz.Principal{w.as(0, `{"sub":"u1","n":1}`), w.as(1, `{"sub":"u2","n":"x"}`), w.as(1, `{"sub":null}`)}
	visible, hidden, failed := 0, 0, 0
	for round := range max(60*decisions(t)/20000, 1) {
		w.exec(t, `TRUNCATE t; DO $$ DECLARE p name; BEGIN FOR p IN SELECT polname FROM pg_policy WHERE polrelid = 't'::regclass LOOP EXECUTE format('DROP POLICY %I ON t', p); END LOOP; END $$`)
		for id := range 6 {
			w.exec(t, fmt.Sprintf("INSERT INTO t VALUES (%d, %s, %s, %s, %s, %s, %s, %s)", id, r.pick("'u1'", "'u2'", "'7'", "''", "NULL", `E'"\\'`), r.pick("0", "1", "2", "NULL"), r.pick("0", "3", "NULL"),
				r.pick("true", "false", "NULL"), r.pick("'{}'", "'{1,NULL}'", "'{0,2}'", "NULL"), r.pick(`'{"a":"u1","n":1}'`, `'{"a":null}'`, `'[]'`, "NULL"), r.pick("'infinity'", "'2019-01-01'", "NULL")))
		}
		policies := r.policies(w)
		if _, err := w.admin.Exec(t.Context(), "SET search_path = public; "+policies).ReadAll(); err != nil {
			t.Logf("round %d: %v", round, err) // not every sentence has a type
			w.run(t, "SET search_path = pg_catalog")
			continue
		}
		w.run(t, "SET search_path = pg_catalog")
		v, h, f := w.agree(t, []string{"t"}, who...)
		visible, hidden, failed = visible+v, hidden+h, failed+f
		if t.Failed() {
			t.Fatalf("round %d:\n%s", round, policies)
		}
	}
	t.Logf("%d visible, %d hidden, %d failed", visible, hidden, failed)
	if visible < 20 || hidden < 20 {
		t.Error("the policies are too much alike")
	}
}
