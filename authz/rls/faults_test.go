package rls_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// eventually waits for an SQL condition, which is what tests have for a signal from the server.
func eventually(t testing.TB, conn *pgconn.PgConn, condition string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for give := time.Now().Add(20 * time.Second); ; {
		r := conn.ExecParams(t.Context(), "SELECT "+condition, nil, nil, nil, nil).Read()
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		if string(r.Rows[0][0]) == "t" {
			return
		}
		if time.Now().After(give) {
			t.Fatalf("never true: %s", condition)
		}
		<-tick.C
	}
}

type outcome struct {
	verdicts [][]authz.Verdict
	err      error
}

// later judges in the background.
func later(ctx context.Context, g *rls.Postgres, q authz.Question) <-chan outcome {
	done := make(chan outcome, 1)
	go func() {
		v, err := g.Judge(ctx, q)
		done <- outcome{v, err}
	}()
	return done
}

// blocking is a table whose policy waits for advisory lock 1 where the owner is "slow".
const blocking = three + `CREATE FUNCTION wait(who text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN IF who = 'slow' THEN PERFORM pg_advisory_xact_lock_shared(1); END IF; RETURN true; END $$;
	CREATE POLICY p ON t USING (wait(owner))`

const waiting = `EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'rowtide judge' AND datname = current_database() AND wait_event = 'advisory')`

// lose ends the sessions of the judge that wait for the lock.
func (w *world) lose(t *testing.T) {
	t.Helper()
	eventually(t, w.admin, waiting)
	w.run(t, `SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'rowtide judge' AND datname = current_database() AND wait_event = 'advisory'`)
}

func TestLostConnectionIsTriedOnceMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, blocking)
	g := w.newJudge(t, nil)
	tab := w.table(t, "t")
	q := authz.Question{XID: w.settled(t), Table: tab, Images: []cdc.Row{texts("1", "x", "1"), texts("2", "slow", "1")}, Principals: []*authz.Principal{w.as(0, u1)}}
	w.run(t, "SELECT pg_advisory_lock(1)")
	done := later(t.Context(), g, q)
	w.lose(t)
	eventually(t, w.admin, waiting)
	w.run(t, "SELECT pg_advisory_unlock(1)")
	got := <-done
	if got.err != nil {
		t.Fatal(got.err)
	}
	want(t, "the second time", got.verdicts[0], "vv")
	w.audited(t)

	// Twice is enough.
	w.run(t, "SELECT pg_advisory_lock(1)")
	done = later(t.Context(), g, q)
	w.lose(t)
	w.lose(t)
	got = <-done
	w.run(t, "SELECT pg_advisory_unlock(1)")
	want(t, "lost twice", got.verdicts[0], "uu")
	w.audited(t, "undecided connection_lost 2")
}

// Whoever's policy breaks the session gets no answer; the others of the group do.
//
// Covers S47.
func TestLostConnectionIsLostForOnePrincipal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE FUNCTION die() RETURNS bool LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN true; END $$;
		CREATE POLICY p ON t USING (CASE WHEN current_setting('request.jwt.claims') = '{"sub":"u1"}' THEN die() ELSE true END)`)
	tab := w.table(t, "t")
	got := w.ask(t, tab, []cdc.Row{texts("1", "x", "1")}, w.as(0, u2), w.as(0, u1), w.as(0, u2), w.as(0, u2))
	for i, letters := range []string{"v", "u", "v", "v"} {
		want(t, fmt.Sprint("principal ", i), got[i], letters)
	}
}

func TestEndOfContextEndsJudge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, blocking)
	tab := w.table(t, "t")
	q := authz.Question{XID: w.settled(t), Table: tab, Images: []cdc.Row{texts("2", "slow", "1")}, Principals: []*authz.Principal{w.as(0, u1)}}
	w.run(t, "SELECT pg_advisory_lock(1)")
	ctx, cancel := context.WithCancel(t.Context())
	g := w.newJudge(t, nil)
	done := later(ctx, g, q)
	eventually(t, w.admin, waiting)
	cancel()
	if got := <-done; !errors.Is(got.err, context.Canceled) || got.verdicts != nil {
		t.Errorf("%v, %v", got.verdicts, got.err)
	}
	w.run(t, "SELECT pg_advisory_unlock(1)")
	want(t, "the session was not kept", w.askOf(t, g, tab, q.Images, w.as(0, u1))[0], "v")
}

func TestServerThatRestartsOrIsGone(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, c)
	role := db.Role(t, "role0")
	w := worldOf(t, db, []string{role})
	w.exec(t, three+`CREATE POLICY p ON t USING (`+me+`)`)
	tab := w.table(t, "t")
	q := authz.Question{XID: w.settled(t), Table: tab, Images: []cdc.Row{texts("1", "u1", "1")}, Principals: slices.Repeat([]*authz.Principal{w.as(0, u1)}, 40)}
	judge := func(letter string) {
		t.Helper()
		v, err := w.judge.Judge(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for i := range v {
			want(t, "principal", v[i], letter)
		}
	}
	judge("v")
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	judge("v") // sessions that died while idle are no failure
	if err := c.StopMode(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	w.audit.take()
	judge("u")
	if got := w.audit.take(); len(got) != 1 || !strings.HasPrefix(got[0], "undecided unavailable") {
		t.Errorf("audit records %q", got)
	}
	var se *schema.Error
	if err := w.snapshot(t, tab, w.as(0, u1)); !errors.As(err, &se) || se.Code != schema.ResyncRequired {
		t.Errorf("snapshot: %v", err)
	}
}

// More than any buffer between us and Postgres holds goes both ways at once.
func TestLargeQuestionsNeitherStickNorMix(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY, owner int, body text); ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0};
		CREATE POLICY p ON t USING (owner = (current_setting('request.jwt.claims')::json ->> 'n')::int)`)
	tab := w.table(t, "t")
	body := strings.Repeat("x", 1000)
	var images []cdc.Row
	for i := range 5000 {
		images = append(images, texts(fmt.Sprint(i), fmt.Sprint(i%20), body))
	}
	var principals []*authz.Principal
	for i := range 20 {
		principals = append(principals, w.as(0, fmt.Sprintf(`{"n":%d,"pad":%q}`, i, strings.Repeat("p", 7000))))
	}
	g := w.newJudge(t, nil)
	for i, verdicts := range w.askOf(t, g, tab, images, principals...) {
		for k, v := range verdicts {
			if (v == authz.Visible) != (k%20 == i) || v == authz.Undecided {
				t.Fatalf("principal %d, image %d: verdict %d", i, k, v)
			}
		}
	}
}

func TestCloseIsIdempotentAndFinal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, three+`CREATE POLICY p ON t USING (true)`)
	g := w.newJudge(t, nil)
	tab := w.table(t, "t")
	want(t, "open", w.askOf(t, g, tab, []cdc.Row{texts("1", "u1", "1")}, w.as(0, u1))[0], "v")
	g.Close()
	g.Close()
	want(t, "closed", w.askOf(t, g, tab, []cdc.Row{texts("1", "u1", "1")}, w.as(0, u1))[0], "u")
}

func TestNewChecksItsConfiguration(t *testing.T) {
	t.Parallel()
	if _, err := rls.New(rls.Config{URL: "postgres://x"}); err == nil {
		t.Error("no audit log is taken")
	}
	if _, err := rls.New(rls.Config{URL: "://", Audit: &audit{}}); err == nil {
		t.Error("a broken URL is taken")
	}
}
