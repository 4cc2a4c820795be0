package rowtide_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// standbyOf makes a hot standby of a primary that has a physical slot "standby", by the low-level
// backup API. The slots that the primary has do not come with it.
func standbyOf(t *testing.T, primary *testcontainers.Cluster, settings string) *testcontainers.Cluster {
	t.Helper()
	standby := pgtest.Cluster(t, testcontainers.Config{})
	stopped(t, standby, "fast")
	conn, err := pgx.Connect(t.Context(), primary.URL(testcontainers.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_backup_start('standby', true)"); err != nil {
		t.Fatal(err)
	}
	data := standby.DataDir()
	copyData(t, primary.DataDir(), data)
	var label string
	if err := conn.QueryRow(t.Context(), "SELECT labelfile FROM pg_backup_stop(false)").Scan(&label); err != nil {
		t.Fatal(err)
	}
	slots, err := filepath.Glob(filepath.Join(data, "pg_replslot", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range slots {
		if err := os.RemoveAll(s); err != nil {
			t.Fatal(err)
		}
	}
	// Files that the server owns are made by copying one that it owns.
	for _, name := range []string{"backup_label", "standby.signal"} {
		copyData(t, filepath.Join(data, "PG_VERSION"), filepath.Join(data, name))
		if err := os.Truncate(filepath.Join(data, name), 0); err != nil {
			t.Fatal(err)
		}
	}
	appendFile(t, filepath.Join(data, "backup_label"), label)
	at, err := pgx.ParseConfig(primary.URL(testcontainers.Superuser, "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	appendFile(t, filepath.Join(data, "postgresql.auto.conf"), fmt.Sprintf(`
primary_conninfo = 'host=%s port=%d user=%s dbname=postgres'
primary_slot_name = 'standby'
hot_standby_feedback = on
%s`, at.Host, at.Port, at.User, settings))
	restarted(t, standby)
	return standby
}

// TestAStandbyIsPromoted kills the primary and promotes its standby, under a service whose URL
// names both. Where the slot is one that standbys have, which is from PostgreSQL 17 on, nothing is
// lost and nobody is told anything; elsewhere everybody is told, for the reason that the slot is not there
// (one that was made anew would be noticed too, by its position).
//
// Covers C31, C32.
func TestAStandbyIsPromoted(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	version, err := strconv.Atoi(pgtest.One[string](t, db, "SHOW server_version_num"))
	if err != nil {
		t.Fatal(err)
	}
	for _, failover := range []bool{true, false} {
		if failover && version < 170000 {
			continue // there it has no such slots
		}
		name := map[bool]string{true: "with failover slots", false: "without"}[failover]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			promote(t, failover)
		})
	}
}

func promote(t *testing.T, failover bool) {
	t.Helper()
	primary := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
	const database, role = "app", "web_user"
	superuser := func(c *testcontainers.Cluster, db string) string { return c.URL(testcontainers.Superuser, db) }
	execute(t, superuser(primary, "postgres"), "CREATE DATABASE "+database)
	execute(t, superuser(primary, "postgres"), "CREATE ROLE "+role)
	admin := superuser(primary, database)
	execute(t, admin, notes(role))
	if report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{AdminURL: admin, Roles: []string{role}, Login: "service", Yes: true}); err != nil {
		t.Fatalf("set up: %v\n%s", err, report)
	}
	execute(t, admin, "SELECT pg_create_physical_replication_slot('standby', true)")
	settings := ""
	if failover {
		settings = "sync_replication_slots = on\n"
	}
	standby := standbyOf(t, primary, settings)
	if failover {
		execute(t, admin, "ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
		execute(t, admin, "SELECT pg_reload_conf()")
	}
	first, err := pgx.ParseConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	second, err := pgx.ParseConfig(superuser(standby, database))
	if err != nil {
		t.Fatal(err)
	}
	// The standby comes first: it is not the primary, and so not the one that is meant.
	losses := lossLog{Handler: testLogger(t).Handler()}
	s := start(t, rowtide.Config{
		DatabaseURL: fmt.Sprintf("postgres://service@%s:%d,%s:%d/%s?sslmode=disable", second.Host, second.Port, first.Host, first.Port, database),
		Roles:       []string{role}, JWTSecret: testSecret, Logger: slog.New(&losses), ExposePositions: true,
	})
	p := subscribePair(t, s, role)
	for i := range 3 {
		execute(t, admin, fmt.Sprintf("INSERT INTO notes VALUES (%d, 'ana', 'on the primary')", i+1))
	}
	old := ""
	for range 3 {
		old = until(t, p.heals, isKind("INSERT")).Cursor
	}
	on := connection(t, superuser(standby, database))
	eventually(t, "the standby has the rows", func() bool { return one[int](t, on, "SELECT count(*)::int FROM notes") == 3 })
	if failover {
		eventually(t, "the standby has the slot", func() bool {
			return one[bool](t, on, "SELECT EXISTS (SELECT FROM pg_replication_slots s WHERE slot_name = 'rowtide' AND NOT temporary AND to_jsonb(s) ->> 'synced' = 'true')")
		})
	}
	stopped(t, primary, "immediate")
	one[bool](t, on, "SELECT pg_promote()")
	execute(t, superuser(standby, database), "INSERT INTO notes VALUES (4, 'ana', 'on the one that was promoted')")
	if !failover {
		p.told(t, "1 2 3 4", "timeline", "slot_lost")
		if why := losses.why(); !strings.Contains(why, "does not exist") && !strings.Contains(why, "was promoted at") {
			t.Errorf("the loss is %q, want one that names the slot or the timeline", why)
		}
		execute(t, superuser(standby, database), "INSERT INTO notes VALUES (5, 'ana', 'behind it')")
		if f := next(t, p.heals); f.Kind != feedtest.Insert || string(f.Row["id"]) != "5" {
			t.Errorf("want the insert of 5, got %s", f)
		}
		return
	}
	if f := next(t, p.heals); f.Kind != feedtest.Insert || string(f.Row["id"]) != "4" {
		t.Errorf("want the insert of 4 and nothing else, got %s", f)
	}
	for i := range 4 {
		if f := next(t, p.ends); f.Kind != feedtest.Insert || string(f.Row["id"]) != strconv.Itoa(i+1) {
			t.Errorf("want the insert of %d, got %s", i+1, f)
		}
	}
	if f := next(t, subscribeNotes(t, s, role, fmt.Sprintf("(after: %q)", old))); f.Kind != feedtest.Insert || string(f.Row["id"]) != "4" {
		t.Errorf("the cursor from the primary gives %s, want the insert of 4", f)
	}
	eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
}

// A lossLog keeps why the stream could not go on.
type lossLog struct {
	slog.Handler
	mu  sync.Mutex
	all []string
}

func (l *lossLog) WithAttrs([]slog.Attr) slog.Handler { return l }
func (l *lossLog) WithGroup(string) slog.Handler      { return l }

func (l *lossLog) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "changes are lost" {
		l.mu.Lock()
		defer l.mu.Unlock()
		r.Attrs(func(a slog.Attr) bool { l.all = append(l.all, a.Value.String()); return true })
	}
	return l.Handler.Handle(ctx, r)
}

func (l *lossLog) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.all, "; ")
}

// connection gives a connection for the length of the test.
func connection(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

// one gives the only value of a query.
func one[T any](t *testing.T, conn *pgx.Conn, sql string) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
