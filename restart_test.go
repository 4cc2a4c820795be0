package rowtide_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestCursorsHoldOverARestart resumes, in a service that was started anew, from cursors of before:
// LIVE's, one in the middle of a transaction, and the newest. Each gets the rest, once and in order.
//
// Covers C19.
func TestCursorsHoldOverARestart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	cfg := settings(t, db, role)
	s := start(t, cfg)
	c := subscribeNotes(t, s, role, "")
	cursors := []string{until(t, c, isKind("LIVE")).Cursor}
	db.Exec(t, "INSERT INTO notes SELECT n, 'ana', 'one transaction' FROM generate_series(1, 3) n")
	for range 3 {
		cursors = append(cursors, until(t, c, isKind("INSERT")).Cursor)
	}
	s.stop()
	db.Exec(t, "INSERT INTO notes VALUES (4, 'ana', 'while it was down')")

	began := time.Now()
	s = start(t, cfg)
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	for had, cursor := range cursors {
		c := subscribeNotes(t, s, role, fmt.Sprintf("(after: %q)", cursor))
		for id := had + 1; id <= 4; id++ {
			if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != strconv.Itoa(id) {
				t.Fatalf("behind cursor %d: want the insert of %d, got %s", had, id, f)
			} else if id < len(cursors) && f.Cursor != cursors[id] {
				t.Errorf("the cursor of %d was %s and is %s", id, cursors[id], f.Cursor)
			}
		}
		if f := next(t, c); f.Kind != "LIVE" {
			t.Errorf("behind cursor %d: want LIVE, got %s", had, f)
		}
	}
}

// TestWhatTheBusHadAndLostIsReadAgainOrTold ends a service when all is acknowledged and nothing but its memory has it.
// The next one reads it again from the window slots; where they are gone too its bus begins anew, and cursors of the
// one before are refused for a reason: they are never taken for places in the new one.
//
// Covers C13, C14.
func TestWhatTheBusHadAndLostIsReadAgainOrTold(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := subscribeNotes(t, s, role, "")
	cursor := until(t, c, isKind("LIVE")).Cursor
	const rows = 5
	for id := range rows {
		db.Exec(t, "INSERT INTO notes VALUES ($1, 'ana', 'handed on')", id)
		until(t, c, isKind("INSERT"))
	}
	end := pgtest.One[string](t, db, "SELECT pg_current_wal_insert_lsn()::text")
	eventually(t, "all of it is acknowledged", func() bool {
		return pgtest.One[bool](t, db, "SELECT confirmed_flush_lsn >= $2::text::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", s.cfg.Slot, end)
	})
	s.stop()
	s = start(t, s.cfg)
	c = subscribeNotes(t, s, role, fmt.Sprintf("(after: %q)", cursor))
	for id := range rows {
		if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != strconv.Itoa(id) {
			t.Errorf("want the insert of %d again, got %s", id, f)
		}
	}
	s.stop()
	db.Exec(t, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE starts_with(slot_name, $1 || '_w')`, s.cfg.Slot)
	s = start(t, s.cfg)
	if got := ended(t, subscribeNotes(t, s, role, fmt.Sprintf("(after: %q)", cursor))); !strings.Contains(got, "RESYNC_REQUIRED") || !strings.Contains(got, "retention") {
		t.Errorf("want RESYNC_REQUIRED, got %s", got)
	}
	c = subscribeNotes(t, s, role, fmt.Sprintf("(snapshot: true, after: %q)", cursor))
	if f := next(t, c); f.Kind != feedtest.Reset || f.Reason != "retention" {
		t.Errorf("want RESET, got %s", f)
	}
}

// TestACommitRightBehindTheSlotIsDelivered restarts while a transaction is open whose last record is
// what was acknowledged last: its commit is then the very next record that is read.
func TestACommitRightBehindTheSlotIsDelivered(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	cfg := settings(t, db, role)
	s := start(t, cfg)
	conn, err := db.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO notes VALUES (1, 'ana', 'open')"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "SELECT txid_current()") // its commit flushes the WAL, which else nobody would
	eventually(t, "all that was written is acknowledged", func() bool {
		return pgtest.One[bool](t, db, `SELECT confirmed_flush_lsn >= pg_current_wal_insert_lsn() FROM pg_replication_slots WHERE slot_name = $1`, cfg.Slot)
	})
	s.stop()
	db.Exec(t, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE starts_with(slot_name, $1 || '_w')`, cfg.Slot)
	s = start(t, cfg)
	c := liveNotes(t, s, role, "")
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if f := next(t, c); f.Kind != feedtest.Insert {
		t.Errorf("want the insert, got %s", f)
	}
}

// eventually waits for a condition that nothing tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(3 * time.Minute); !ok(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("did not come about: %s", what)
		}
	}
}

// TestACursorMissesNothingThatWasOpen resumes behind a transaction that began later and committed
// earlier than another: the other comes.
//
// Covers C111.
func TestACursorMissesNothingThatWasOpen(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := liveNotes(t, s, role, "")
	conn, err := db.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO notes VALUES (1, 'ana', 'began first')"); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'committed first')")
	cursor := until(t, c, isKind("INSERT")).Cursor
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	again := subscribeNotes(t, s, role, fmt.Sprintf("(after: %q)", cursor))
	if f := until(t, again, isKind("INSERT")); string(f.Row["id"]) != "1" {
		t.Errorf("want the insert of 1, got %s", f)
	}
}

// TestACommitThatWaitsForItsStandbyIsInTheSnapshot hands on a commit that no other session sees yet, since
// it waits for a synchronous standby, and starts anew: whoever then takes a snapshot gets the row, as it
// is not streamed again.
//
// Covers C121.
func TestACommitThatWaitsForItsStandbyIsInTheSnapshot(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, cluster)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	cfg := settings(t, db, role)
	s := start(t, cfg)
	c := liveNotes(t, s, role, "")
	quick := connection(t, db.Admin)
	if _, err := quick.Exec(t.Context(), "SET synchronous_commit = local"); err != nil {
		t.Fatal(err)
	}
	standby := func(name string) {
		for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + name + "'", "SELECT pg_reload_conf()"} {
			if _, err := quick.Exec(t.Context(), sql); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "the setting is in force", func() bool { return one[string](t, quick, "SHOW synchronous_standby_names") == name })
	}
	standby("nobody")
	written := make(chan error, 1)
	waiting := connection(t, db.Admin)
	go func() {
		_, err := waiting.Exec(context.WithoutCancel(t.Context()), "INSERT INTO notes VALUES (1, 'ana', 'waits')")
		written <- err
	}()
	if f := next(t, c); f.Kind != feedtest.Insert {
		t.Fatalf("want the insert, got %s", f)
	}
	mark := one[string](t, quick, "SELECT pg_current_wal_flush_lsn()::text")
	eventually(t, "the commit is acknowledged", func() bool {
		return one[bool](t, quick, "SELECT confirmed_flush_lsn >= '"+mark+"'::pg_lsn FROM pg_replication_slots WHERE slot_name = '"+cfg.Slot+"'")
	})
	s.stop()
	// Without window slots the restart knows nothing of what was handed on before.
	if _, err := quick.Exec(t.Context(), `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE starts_with(slot_name, $1 || '_w')`, cfg.Slot); err != nil {
		t.Fatal(err)
	}
	s = start(t, cfg)
	c = subscribeNotes(t, s, role, "(snapshot: true)")
	until(t, c, isKind("LIVE")) // the row is in no snapshot yet
	standby("")
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	until(t, c, func(f *feedtest.Frame) bool { return f.Kind == "SNAPSHOT" && string(f.Row["id"]) == "1" })
}
