package audit_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/audit"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// withTable is a database with the audit table, and the URL of a login that may insert.
func withTable(t *testing.T) (db *pgtest.DB, url string) {
	t.Helper()
	up, err := os.ReadFile(filepath.Join("..", "..", "migrations", "sql", "0004_operations.up.sql"))
	if err != nil {
		t.Fatal(err)
	}
	db = pgtest.New(t, "CREATE SCHEMA rowtide")
	db.Exec(t, string(up))
	login := db.Login(t, "svc")
	db.Exec(t, "GRANT USAGE ON SCHEMA rowtide TO "+login+"; GRANT INSERT ON rowtide.audit TO "+login)
	return db, db.URL(login)
}

// keep runs a log with a table, and gives what ends it.
func keep(t *testing.T, url string, queue int) (log *audit.Log, end func()) {
	t.Helper()
	table := audit.NewTable()
	table.Open(url)
	log = audit.New(audit.Config{Sinks: []audit.Sink{table}, Queue: queue})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = log.Run(ctx)
		_ = table.Close(context.WithoutCancel(ctx))
	}()
	return log, func() { cancel(); <-done }
}

func number(t *testing.T, db *pgtest.DB, sql string) (n int) {
	t.Helper()
	if err := db.Pool(t).QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	late := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("after a minute it is not so that %s", what)
		}
	}
}

// Covers S67, S60.
func TestRecordsBecomeRowsOfTheTable(t *testing.T) {
	t.Parallel()
	db, url := withTable(t)
	log, end := keep(t, url, 0)
	log.Record(authz.Record{
		Event: authz.EventDeny, Role: "web_user", Subject: "a\x00\"b\\u0000'; DROP TABLE rowtide.audit; --\xff", Address: "10.0.0.1", Transport: "websocket",
		Table: "public.notes", Operation: "abcd", Filter: []string{"owner", "a,b\"}"}, Reason: "FORBIDDEN", SQLState: "22012", Count: 3, Detail: "d",
	})
	for range 1000 {
		log.Record(authz.Record{Event: authz.EventConnect})
	}
	end()
	var event, subject, role, reason, table string
	var filter []string
	var images int
	err := db.Pool(t).QueryRow(t.Context(), `SELECT event, subject, role, reason, table_name, filter, count FROM rowtide.audit WHERE event = 'deny' AND at > now() - interval '1 hour'`).
		Scan(&event, &subject, &role, &reason, &table, &filter, &images)
	if err != nil {
		t.Fatal(err)
	}
	if want := "a\ufffd\"b\\ufffd'; DROP TABLE rowtide.audit; --\ufffd"; subject != want {
		t.Errorf("subject %q, want %q", subject, want)
	}
	if role != "web_user" || reason != "FORBIDDEN" || table != "public.notes" || len(filter) != 2 || filter[1] != "a,b\"}" || images != 3 {
		t.Errorf("%s %s %s %q %d", role, reason, table, filter, images)
	}
	if n := number(t, db, "SELECT count(*) FROM rowtide.audit WHERE event = 'connect' AND role IS NULL"); n != 1000 {
		t.Errorf("%d of 1000 records are there", n)
	}
	if _, dropped := log.Counts(); dropped != 0 {
		t.Errorf("%d dropped", dropped)
	}
}

// TestATableThatDoesNotAnswerHoldsUpNobody has the table locked, which recording does not notice,
// and what the queue could not take counted, told in the table itself, and nothing else lost.
//
// Covers S67.
func TestATableThatDoesNotAnswerHoldsUpNobody(t *testing.T) {
	t.Parallel()
	db, url := withTable(t)
	lock, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := lock.Exec(t.Context(), "LOCK TABLE rowtide.audit"); err != nil {
		t.Fatal(err)
	}
	log, end := keep(t, url, 10)
	defer end()
	log.Record(authz.Record{Event: authz.EventConnect})
	eventually(t, "a batch waits for the table", func() bool {
		return number(t, db, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowtide audit' AND wait_event_type = 'Lock' AND datname = current_database()") == 1
	})
	const records = 500
	for range records {
		log.Record(authz.Record{Event: authz.EventConnect}) // would not come back, were it to wait: the lock is ours
	}
	_, dropped := log.Counts()
	if dropped < records-10 {
		t.Errorf("%d dropped, with room for 10", dropped)
	}
	if err := lock.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rest is there and what is lost is told", func() bool {
		log.Record(authz.Record{Event: authz.EventRefresh})
		_, now := log.Counts()
		return number(t, db, "SELECT coalesce(sum(count), 0)::int FROM rowtide.audit WHERE event = 'dropped'") == int(now) && //nolint:gosec // a count
			number(t, db, "SELECT count(*) FROM rowtide.audit WHERE event = 'connect'") == records+1-int(dropped) //nolint:gosec // a count
	})
}

// TestALostConnectionLosesNoRecord ends the table's session again and again.
//
// Covers S67.
func TestALostConnectionLosesNoRecord(t *testing.T) {
	t.Parallel()
	db, url := withTable(t)
	log, end := keep(t, url, 0)
	for range 3 {
		log.Record(authz.Record{Event: authz.EventConnect})
		eventually(t, "there is a session to end", func() bool {
			return number(t, db, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'rowtide audit' AND datname = current_database()") == 1
		})
		log.Record(authz.Record{Event: authz.EventConnect})
	}
	eventually(t, "all records are there", func() bool { return number(t, db, "SELECT count(*) FROM rowtide.audit") >= 6 })
	end()
	if _, dropped := log.Counts(); dropped != 0 {
		t.Errorf("%d dropped", dropped)
	}
}

// TestTheLoginCannotChangeTheLog has the login that writes the log try everything else.
//
// Covers S67.
func TestTheLoginCannotChangeTheLog(t *testing.T) {
	t.Parallel()
	_, url := withTable(t)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "INSERT INTO rowtide.audit (at, event) VALUES (now(), 'connect')"); err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		"SELECT * FROM rowtide.audit", "UPDATE rowtide.audit SET event = ''", "DELETE FROM rowtide.audit", "TRUNCATE rowtide.audit", "DROP TABLE rowtide.audit",
		"ALTER TABLE rowtide.audit DISABLE TRIGGER ALL", "INSERT INTO rowtide.audit (at, event) VALUES (now(), 'x') RETURNING id",
	} {
		if _, err := conn.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s is done", sql)
		}
	}
}
