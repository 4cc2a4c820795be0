package rls_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

const keepWorld = `CREATE TABLE t (id int PRIMARY KEY, team int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE TABLE members (team int, who text);
	GRANT SELECT ON t, members TO {0}; CREATE POLICY p ON t USING (team IN (SELECT m.team FROM members m WHERE m.who = current_setting('app.a')));`

// A transaction that the snapshot saw comes by the stream too: it counts once, and the history
// knows what was before it.
//
// Covers R39.
func TestWhatSnapshotAndStreamBothTellCountsOnce(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld).follow(t, "t", "members")
	tab := f.load(t, "public")["t"]
	f.pump(t, nil)
	// It commits before the snapshot, and is fed behind it.
	f.exec(t, "INSERT INTO members VALUES (1, 'u1')")
	f.g.UseTables(tab)
	deadline := time.Now().Add(time.Minute)
	for !f.g.Read(tab, f.names[0]) {
		if time.Now().After(deadline) {
			t.Fatal("what the policy asks is not read")
		}
		f.settled(t)
	}
	f.exec(t, "INSERT INTO members VALUES (2, 'u1')")
	f.exec(t, "DELETE FROM members WHERE team = 1")
	var commits []cdc.LSN
	note := func(b *cdc.Batch) {
		if len(b.Events) > 0 {
			commits = append(commits, b.Commit)
		}
	}
	f.pump(t, note)
	for why, _ := f.g.Unkept(tab, f.names[0]); why != ""; why, _ = f.g.Unkept(tab, f.names[0]) {
		if time.Now().After(deadline) {
			t.Fatalf("what the policy asks is not kept: %s", why)
		}
		f.pump(t, note) // the message behind what was read
	}
	if len(commits) != 3 {
		t.Fatalf("%d transactions", len(commits))
	}
	for i, letters := range []string{"hhvh", "vhvv", "vvhv"} {
		q := authz.Question{
			XID: f.settled(t), Commit: commits[i], Table: tab, Principals: []*authz.Principal{f.as(0, "", "app.a", "u1")},
			Images: []cdc.Row{texts("1", "1"), texts("2", "2"), texts("1", "1"), texts("2", "2")}, Old: []bool{true, true, false, false},
		}
		got, err := f.g.Judge(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "as of the transaction", got[0], letters)
	}
}

// Whoever follows another catalog than the one in force gets nothing decided by what holds now: neither
// by a plan of the catalog before, of which nothing is kept any more, nor by one that comes before its
// catalog is in force.
func TestPlansOfAnotherCatalogDecideNothing(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld).follow(t, "t", "members")
	before := f.use(t, "t")[0]
	f.exec(t, "INSERT INTO members VALUES (1, 'u1')")
	joined := f.last(t)
	who := []*authz.Principal{f.as(0, "", "app.a", "u1")}
	ask := func(commit cdc.LSN) authz.Question {
		return authz.Question{XID: f.settled(t), Commit: commit, Table: before, Principals: who, Images: []cdc.Row{texts("1", "1")}, Old: []bool{false}}
	}
	got, err := f.g.Judge(t.Context(), ask(joined))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "in force", got[0], "v")
	f.exec(t, `DROP POLICY p ON t; ALTER TABLE members ALTER team TYPE bigint;
		CREATE POLICY p ON t USING (team IN (SELECT m.team FROM members m WHERE m.who = current_setting('app.a')))`)
	undecided := func(what string, tab *schema.Table) {
		t.Helper()
		q := ask(joined)
		q.Table = tab
		if got, err = f.g.Judge(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		want(t, what, got[0], "u")
		if ok, err := f.g.Covers(t.Context(), tab, f.names[0], joined); ok || err != nil {
			t.Errorf("%s: it is covered (%v)", what, err)
		}
	}
	undecided("before its catalog is in force", f.load(t, "public")["t"])
	f.use(t, "t")
	undecided("of the catalog before", before)
}

// Rows that came and went with a membership are looked for beside the stream. What was kept may be
// forgotten by then, and then nobody can tell which they are.
func TestWhatIsForgottenIsNotTakenForNoChange(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld).follow(t, "t", "members")
	tab := f.use(t, "t")[0]
	f.exec(t, "INSERT INTO t VALUES (1, 1); INSERT INTO members VALUES (1, 'u1')")
	joined := f.last(t)
	who := []*authz.Principal{f.as(0, "", "app.a", "u1")}
	near := func() ([]cdc.Row, error) {
		_, rows, err := f.g.Near(t.Context(), tab, joined, who, []uint32{f.settled(t)}, 10)
		return rows, err
	}
	if rows, err := near(); err != nil || len(rows) != 1 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	f.g.Lost()
	if rows, err := near(); err == nil {
		t.Errorf("%d rows behind a loss", len(rows))
	}
}

// TRUNCATE empties a table for those snapshots too that are older: whoever looks into the stream for what
// came behind what was read has to come past it.
func TestWhatEmptiesTheTableForASnapshotIsBeforeItsEnd(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld).follow(t, "t", "members")
	tab := f.use(t, "t")[0]
	f.exec(t, "INSERT INTO t VALUES (1, 1); INSERT INTO members VALUES (1, 'u1')")
	joined := f.last(t)
	other, err := f.db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Exec(t.Context(), "LOCK TABLE t"); err != nil {
		t.Fatal(err)
	}
	type found struct {
		end  cdc.LSN
		rows []cdc.Row
		err  error
	}
	near, settled := make(chan found), f.settled(t)
	go func() {
		end, rows, err := f.g.Near(t.Context(), tab, joined, []*authz.Principal{f.as(0, "", "app.a", "u1")}, []uint32{settled}, 10)
		near <- found{end, rows, err}
	}()
	for waits := false; !waits; {
		if err := f.db.Pool(t).QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND NOT granted)").Scan(&waits); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := other.Exec(t.Context(), "TRUNCATE t"); err != nil {
		t.Fatal(err)
	}
	if err := other.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := <-near
	if got.err != nil || len(got.rows) > 0 {
		t.Fatalf("%d rows, %v", len(got.rows), got.err)
	}
	if truncated := f.last(t); truncated == 0 || truncated >= got.end {
		t.Errorf("the table was emptied at %s, and the end is %s", truncated, got.end)
	}
}

// Whoever's claims only Postgres can read, with the error that they raise perhaps, is asked about and no part of what is
// kept: he is found by nothing of it, and keeps nobody else from being found.
//
// Covers S47.
func TestClaimsThatRaiseAnErrorHaveNoPartInWhatIsKept(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, strings.Replace(keepWorld, "current_setting('app.a')", "'u' || current_setting('app.a')::uuid::text", 1)).follow(t, "t", "members")
	tab := f.use(t, "t")[0]
	const good = "00000000-0000-4000-8000-000000000001"
	f.exec(t, "INSERT INTO members VALUES (1, 'u"+good+"')")
	joined := f.last(t)
	bad, other := f.as(0, "", "app.a", "x"), f.as(0, "", "app.a", good)
	if h := f.g.Handles(tab, bad); h != nil {
		t.Errorf("found by %q", h)
	}
	reached, all := f.g.Reached(tab, joined)
	if h := f.g.Handles(tab, other); all || len(h) != 1 || !slices.Contains(reached, h[0]) {
		t.Errorf("%q are reached, and the other found by %q", reached, h)
	}
	if told := f.g.Affected(tab, joined, []*authz.Principal{bad, other}); told[0] != authz.NoEffect || told[1] != authz.RowsMoved {
		t.Errorf("told %v", told)
	}
	got, err := f.g.Judge(t.Context(), authz.Question{XID: f.settled(t), Commit: joined, Table: tab, Principals: []*authz.Principal{bad, other}, Images: []cdc.Row{texts("1", "1")}, Old: []bool{false}})
	if err != nil {
		t.Fatal(err)
	}
	want(t, "claims that raise an error", got[0], "h")
	want(t, "others", got[1], "v")
}

// last feeds what has been committed and gives the last transaction that changed anything.
func (f *follower) last(t testing.TB) (commit cdc.LSN) {
	t.Helper()
	f.pump(t, func(b *cdc.Batch) {
		if len(b.Events) > 0 {
			commit = b.Commit
		}
	})
	return commit
}

// Updates of columns that no policy asks change nothing and take no memory: a table whose rows are touched
// all the time keeps its history.
func TestUpdatesThatNoPolicyAsksForAreNotKept(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld+"ALTER TABLE members ADD seen int; INSERT INTO members VALUES (1, 'u1')").follow(t, "t", "members")
	f.use(t, "t")
	before := f.bytes(t)
	for n := range 20 {
		f.exec(t, "UPDATE members SET seen = "+strconv.Itoa(n))
	}
	f.pump(t, func(*cdc.Batch) {
		if f.changed {
			t.Error("a membership is said to have changed")
		}
	})
	if after := f.bytes(t); after != before {
		t.Errorf("%d bytes are kept, and %d behind updates of another column", before, after)
	}
}

// Where a policy asks whether there is any row at all, and reads no column, the first row and the last are
// changes all the same.
func TestTheFirstRowAndTheLastAreChanges(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, `CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE TABLE doors (opened date);
		GRANT SELECT ON t, doors TO {0}; CREATE POLICY p ON t USING (EXISTS (SELECT FROM doors))`).follow(t, "t", "doors")
	tab := f.use(t, "t")[0]
	who := []*authz.Principal{f.as(0, "", "app.a", "u1")}
	for _, sql := range []string{"INSERT INTO doors VALUES ('2020-01-01')", "DELETE FROM doors"} {
		f.exec(t, sql)
		commit := f.last(t)
		if got := f.g.Affected(tab, commit, who)[0]; got != authz.RowsMoved {
			t.Errorf("%s: effect %d", sql, got)
		}
		if !f.changed {
			t.Errorf("%s: nothing is said to have changed", sql)
		}
	}
}

// Policies may ask dozens of tables: to read them the service does not take as many connections.
func TestManyTablesAreReadByFewConnections(t *testing.T) {
	t.Parallel()
	const tables = 24
	var sql strings.Builder
	sql.WriteString("CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ENABLE ROW LEVEL SECURITY; GRANT SELECT ON t TO {0};")
	published := []string{"t"}
	for n := range tables {
		name := "m" + strconv.Itoa(n)
		fmt.Fprintf(&sql, "CREATE TABLE %[1]s (id int); GRANT SELECT ON %[1]s TO {0}; CREATE POLICY %[1]s ON t USING (id IN (SELECT m.id FROM %[1]s m));", name)
		published = append(published, name)
	}
	f := newWorld(t, 1, sql.String()).follow(t, published...)
	// Sessions that were closed count until the server has noticed.
	f.exec(t, "ALTER ROLE {login} CONNECTION LIMIT 14")
	f.use(t, "t")
	if got := f.g.Stats().Sets; got.Kept != tables {
		t.Errorf("%+v are kept of %d", got, tables)
	}
	if said := f.log.String(); strings.Contains(said, "WARN") {
		t.Error(said)
	}
}
