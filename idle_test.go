package rowtide_test

import (
	"testing"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestAnIdleDatabaseStaysFresh writes to another database of the cluster alone: the slot moves, so
// that the WAL can go, and who asked for PROGRESS gets cursors that move too and are good.
//
// Covers C07, C114.
func TestAnIdleDatabaseStaysFresh(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	other := pgtest.New(t, "CREATE TABLE busy (id int)")
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role)+"INSERT INTO notes VALUES (1, 'ana', '')")
	cfg := settings(t, db, role)
	s := start(t, cfg)
	c := subscribeNotes(t, s, role, "(progress: true)")
	first := until(t, c, isKind("LIVE"))
	seen := map[string]bool{first.Cursor: true}
	var last *feedtest.Frame
	for range 3 {
		other.Exec(t, "INSERT INTO busy VALUES (1)")
		mark := pgtest.One[string](t, other, "SELECT pg_current_wal_lsn()::text")
		eventually(t, "the slot has moved past it", func() bool {
			return pgtest.One[bool](t, db, "SELECT confirmed_flush_lsn >= $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1", cfg.Slot, mark)
		})
		last = until(t, c, isKind("PROGRESS"))
		if seen[last.Cursor] {
			t.Error("PROGRESS has a cursor that was there before")
		}
		seen[last.Cursor] = true
	}
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', '')")
	for _, cursor := range []string{first.Cursor, last.Cursor} {
		again := subscribeNotes(t, s, role, `(after: "`+cursor+`")`)
		// It may come before LIVE or behind it: it has committed, and may be on its way.
		f := until(t, again, func(f *feedtest.Frame) bool { return f.Kind != "LIVE" })
		if f.Kind != feedtest.Insert || string(f.Row["id"]) != "2" {
			t.Errorf("behind a cursor from before: want the insert of 2, got %s", f)
		}
	}
}
