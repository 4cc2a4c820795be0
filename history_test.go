package rowtide_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// reasons are those that /readyz gives; none where the service is ready.
func (s *service) reasons(t *testing.T) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.addr+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body struct{ Reasons []string }
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	if (resp.StatusCode == http.StatusOK) != (len(body.Reasons) == 0) {
		t.Errorf("status %d with the reasons %q", resp.StatusCode, body.Reasons)
	}
	return body.Reasons
}

// A pair is a subscription that heals by itself, and one that cannot.
type pair struct{ heals, ends *client.Client }

func subscribePair(t *testing.T, s *service, role string) pair {
	t.Helper()
	p := pair{subscribeNotes(t, s, role, "(snapshot: true)"), subscribeNotes(t, s, role, "")}
	until(t, p.heals, isKind("LIVE"))
	until(t, p.ends, isKind("LIVE"))
	return p
}

// told waits until both were told to resync for one of the reasons, and the first is live again
// with the rows.
func (p pair) told(t *testing.T, rows string, reasons ...string) {
	t.Helper()
	f := until(t, p.heals, isKind("RESET"))
	if !slices.Contains(reasons, f.Reason) {
		t.Errorf("RESET has the reason %q, want one of %q", f.Reason, reasons)
	}
	var got []string
	until(t, p.heals, func(f *feedtest.Frame) bool {
		if f.Kind == "SNAPSHOT" {
			got = append(got, string(f.Row["id"]))
		}
		return f.Kind == "LIVE"
	})
	for len(got) < len(strings.Fields(rows)) { // it was written after the service had come back
		got = append(got, string(until(t, p.heals, isKind("INSERT")).Row["id"]))
	}
	if strings.Join(got, " ") != rows {
		t.Errorf("snapshot and what followed have the rows %q, want %q", got, rows)
	}
	for {
		m, err := p.ends.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Type == "next" {
			continue
		}
		if m.Type != "error" || !strings.Contains(string(m.Payload), "RESYNC_REQUIRED") || !containsAny(string(m.Payload), reasons) {
			t.Errorf("got %s %s, want RESYNC_REQUIRED for one of %q", m.Type, m.Payload, reasons)
		}
		return
	}
}

func containsAny(s string, list []string) bool {
	for _, l := range list {
		if strings.Contains(s, `"`+l+`"`) {
			return true
		}
	}
	return false
}

// steal runs SQL on the slot, $1, in the moment in which nobody streams from it.
func steal(t *testing.T, db *pgtest.DB, slot, sql string) {
	t.Helper()
	db.Exec(t, `DO $$ DECLARE s text := '`+slot+`'; BEGIN
		FOR i IN 1..5000 LOOP
			BEGIN
				PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = s;
				`+sql+`;
				RETURN;
			EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001);
			END;
		END LOOP;
		RAISE 'the slot was always in use';
	END $$`)
}

// TestASlotThatIsLostIsToldToEverybody drops the slot, and has somebody move it, under a service
// at work: another one is made and everybody told, in band where they can; what commits from
// then on arrives. (That a slot is made anew is also noticed by its position: for C23 alone see
// TestDroppedSlotIsNotMadeAnewInSilence.)
//
// Covers C03.
func TestASlotThatIsLostIsToldToEverybody(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"dropped": "PERFORM pg_drop_replication_slot(s)",
		"moved":   "PERFORM pg_logical_emit_message(true, 'x', 'y'); PERFORM pg_replication_slot_advance(s, pg_switch_wal())",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			role := db.Role(t, "web_user")
			db.Exec(t, notes(role))
			cfg := settings(t, db, role)
			s := start(t, cfg)
			p := subscribePair(t, s, role)
			db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'before')")
			old := until(t, p.heals, isKind("INSERT")).Cursor
			steal(t, db, cfg.Slot, sql)
			p.told(t, "1", "slot_lost")
			db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'after')")
			until(t, p.heals, func(f *feedtest.Frame) bool { return f.Kind == "INSERT" && string(f.Row["id"]) == "2" })
			if f := next(t, subscribeNotes(t, s, role, fmt.Sprintf("(snapshot: true, after: %q)", old))); f.Kind != "RESET" {
				t.Errorf("the cursor from before the loss gives %s", f)
			}
			eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
		})
	}
}

// TestAnInvalidatedSlotIsReplaced has the server throw away the WAL that the slot needs while the
// stream is cut: /readyz says why, and the slot is made anew.
//
// Covers C24.
func TestAnInvalidatedSlotIsReplaced(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}})
	db := pgtest.On(t, cluster)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role)+"CREATE TABLE other (id int)")
	cfg := settings(t, db, role)
	s := start(t, cfg)
	p := subscribePair(t, s, role)
	blocker, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer blocker.Close(t.Context())
	// A transaction that is open holds the restart point back, and what the slot needs behind it.
	if _, err := blocker.Exec(t.Context(), "BEGIN; INSERT INTO notes VALUES (1, 'ana', 'before')"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the slot is invalidated", func() bool {
		for range 4 {
			db.Exec(t, "INSERT INTO other VALUES (1)")
			db.Exec(t, "SELECT pg_switch_wal()")
		}
		db.Exec(t, "CHECKPOINT")
		return pgtest.One[bool](t, db, "SELECT NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND wal_status <> 'lost')", cfg.Slot)
	})
	eventually(t, "/readyz gives the reason", func() bool { return strings.Contains(strings.Join(s.reasons(t), " "), "invalidated") })
	if _, err := blocker.Exec(t.Context(), "COMMIT"); err != nil { // the new slot waits for it
		t.Fatal(err)
	}
	p.told(t, "1", "slot_lost")
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'after')")
	until(t, p.heals, func(f *feedtest.Frame) bool { return f.Kind == "INSERT" && string(f.Row["id"]) == "2" })
	eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
}

// copyData copies a server's data.
func copyData(t *testing.T, from, to string) {
	t.Helper()
	for _, args := range [][]string{{"rm", "-rf", to}, {"cp", "-a", from, to}, {"rm", "-f", filepath.Join(to, "postmaster.pid")}} {
		if out, err := exec.CommandContext(t.Context(), args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
}

// stopped stops a server and leaves its data.
func stopped(t *testing.T, c *testcontainers.Cluster, mode string) {
	t.Helper()
	if err := c.StopMode(t.Context(), mode); err != nil {
		t.Fatal(err)
	}
}

func restarted(t *testing.T, c *testcontainers.Cluster) {
	t.Helper()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestABackupThatIsPutBackIsToldToEverybody puts the server's files back to an earlier day: the
// system identifier and the timeline are the same, and positions come again.
//
// Covers C20, C36.
func TestABackupThatIsPutBackIsToldToEverybody(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
	db := pgtest.On(t, cluster)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	s := start(t, settings(t, db, role))
	p := subscribePair(t, s, role)
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'in the backup')")
	until(t, p.heals, isKind("INSERT"))
	stopped(t, cluster, "fast")
	backup := cluster.DataDir() + ".backup"
	copyData(t, cluster.DataDir(), backup)
	restarted(t, cluster)
	afresh(t, db, "INSERT INTO notes SELECT n, 'ben', 'not in the backup' FROM generate_series(10, 5000) n")
	afresh(t, db, "INSERT INTO notes VALUES (2, 'ana', 'not in the backup')")
	old := until(t, p.heals, func(f *feedtest.Frame) bool { return f.Kind == "INSERT" && string(f.Row["id"]) == "2" }).Cursor

	stopped(t, cluster, "fast")
	copyData(t, backup, cluster.DataDir())
	restarted(t, cluster)
	p.told(t, "1", "timeline")
	afresh(t, db, "INSERT INTO notes VALUES (3, 'ana', 'at a position that was there')")
	until(t, p.heals, func(f *feedtest.Frame) bool { return f.Kind == "INSERT" && string(f.Row["id"]) == "3" })
	afresh(t, db, "INSERT INTO notes SELECT n, 'ben', 'another' FROM generate_series(10, 9000) n")
	afresh(t, db, "INSERT INTO notes VALUES (4, 'ana', 'behind the old cursor')")
	until(t, p.heals, func(f *feedtest.Frame) bool { return f.Kind == "INSERT" && string(f.Row["id"]) == "4" })
	if f := next(t, subscribeNotes(t, s, role, fmt.Sprintf("(snapshot: true, after: %q)", old))); f.Kind != "RESET" {
		t.Errorf("the cursor of what never was gives %s", f)
	}
	eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
}

// TestAnotherClusterAtTheAddressIsToldToEverybody puts another cluster with the same tables where
// the server was, as an upgrade by dump or by pg_upgrade does.
//
// Covers C20, C35.
func TestAnotherClusterAtTheAddressIsToldToEverybody(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
	other := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
	const database, role = "app", "web_user"
	for _, c := range []*testcontainers.Cluster{other, cluster} {
		conn, err := pgx.Connect(t.Context(), c.URL(testcontainers.Superuser, "postgres"))
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{"CREATE DATABASE " + database, "CREATE ROLE " + role} {
			if _, err := conn.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		_ = conn.Close(t.Context())
		admin := c.URL(testcontainers.Superuser, database)
		execute(t, admin, notes(role)+"INSERT INTO notes VALUES (1, 'ana', 'x')")
		if report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{AdminURL: admin, Roles: []string{role}, Login: "service", Yes: true}); err != nil {
			t.Fatalf("set up: %v\n%s", err, report)
		}
	}
	s := start(t, rowtide.Config{
		DatabaseURL: cluster.URL("service", database), Roles: []string{role}, JWTSecret: testSecret, Logger: testLogger(t), ExposePositions: true,
	}) // the servers trust everybody on this machine
	p := subscribePair(t, s, role)
	stopped(t, other, "fast")
	stopped(t, cluster, "fast")
	copyData(t, other.DataDir(), cluster.DataDir())
	restarted(t, cluster)
	p.told(t, "1", "timeline")
	execute(t, cluster.URL(testcontainers.Superuser, database), "INSERT INTO notes VALUES (2, 'ana', 'after')")
	until(t, p.heals, func(f *feedtest.Frame) bool { return f.Kind == "INSERT" && string(f.Row["id"]) == "2" })
	eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
}

// execute runs SQL on a connection of its own.
func execute(t *testing.T, url, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// appendFile adds text to a file of a server, whose owner stays the same.
func appendFile(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}
