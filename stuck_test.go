package rowtide_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestAValueThatCannotBeDecodedIsSkippedByTheOperator writes a value that, in text and twice, is more
// than a message of the server can hold, so that decoding fails each time. /readyz gives the commit and
// the statement; when somebody has run that, everybody is told.
//
// Covers C71.
func TestAValueThatCannotBeDecodedIsSkippedByTheOperator(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role)+"ALTER TABLE notes ADD large bytea; INSERT INTO notes VALUES (1, 'ana', '', convert_to(repeat('x', 270000000), 'UTF8'))")
	cfg := settings(t, db, role)
	s := start(t, cfg)
	// No snapshot, which would read the value too.
	c := liveNotes(t, s, role, "(where: {id: {gt: 1}})")
	db.Exec(t, "UPDATE notes SET large = convert_to(repeat('y', 270000000), 'UTF8')")
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'behind it')")
	// Who reads nothing for long answers no ping: a busy machine takes minutes over the value.
	told := make(chan string, 1)
	go func() {
		for {
			m, err := c.Next(t.Context())
			switch {
			case err != nil:
				told <- err.Error()
				return
			case m.Type == "error":
				told <- string(m.Payload)
				return
			}
		}
	}()
	advance := regexp.MustCompile(`SELECT (pg_replication_slot_advance\('` + cfg.Slot + `', '[0-9A-F]+/[0-9A-F]+'\))`)
	var m []string
	eventually(t, "/readyz gives the statement that helps", func() bool {
		m = advance.FindStringSubmatch(strings.Join(s.reasons(t), " "))
		return m != nil
	})
	steal(t, db, cfg.Slot, "PERFORM "+m[1])
	if got := <-told; !strings.Contains(got, `"undecodable"`) {
		t.Errorf("got %s", got)
	}
	c = liveNotes(t, s, role, "(where: {id: {gt: 1}})")
	db.Exec(t, "INSERT INTO notes VALUES (3, 'ana', 'and on')")
	until(t, c, func(f *feedtest.Frame) bool { return string(f.Row["id"]) == "3" })
	eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
}

// TestADiskThatFailsHoldsTheSlotBack takes the folder for large transactions away: nothing of such a
// one is acknowledged, /readyz says why, what needs no changes is served on, and when the folder is
// there again nothing was lost.
//
// Covers C118.
func TestADiskThatFailsHoldsTheSlotBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role)+"INSERT INTO notes VALUES (0, 'ana', 'before')")
	cfg := settings(t, db, role)
	cfg.SpillDir = filepath.Join(t.TempDir(), "spill")
	if err := os.Mkdir(cfg.SpillDir, 0o700); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	c := liveNotes(t, s, role, "")
	if err := os.Remove(cfg.SpillDir); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `INSERT INTO notes SELECT n, 'ben', repeat('x', 300) FROM generate_series(1, 30000) n; INSERT INTO notes VALUES (-1, 'ana', 'with them')`)
	committed := pgtest.One[string](t, db, "SELECT pg_current_wal_lsn()::text")
	eventually(t, "/readyz gives the reason", func() bool { return strings.Contains(strings.Join(s.reasons(t), " "), "spill") })
	if f := next(t, subscribeNotes(t, s, role, "(snapshot: true)")); f.Kind != "RESET" {
		t.Errorf("want a snapshot meanwhile, got %s", f)
	}
	if !pgtest.One[bool](t, db, `SELECT confirmed_flush_lsn < $2::pg_lsn FROM pg_replication_slots WHERE slot_name = $1`, cfg.Slot, committed) {
		t.Error("the transaction is acknowledged")
	}
	if err := os.Mkdir(cfg.SpillDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != "-1" {
		t.Errorf("want the insert of -1, got %s", f)
	}
	eventually(t, "ready", func() bool { return len(s.reasons(t)) == 0 })
}
