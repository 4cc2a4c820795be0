package rowtide_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// commitAt commits an INSERT into notes at a time that it chooses, as replication from another server
// does: in the log, that is the time of the commit.
func commitAt(t *testing.T, conn *pgx.Conn, id int, at string) {
	t.Helper()
	for _, sql := range []string{
		"BEGIN", fmt.Sprintf("SELECT pg_replication_origin_xact_setup('0/%d', '%s')", id, at),
		fmt.Sprintf("INSERT INTO notes VALUES (%d, 'ana', '')", id), "COMMIT",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// TestClocksThatGoBackwardsChangeNothing has commits of 1970, of 2090 and of now: they come in the order
// in which they were committed, with the time that they have, and each cursor resumes behind its own, also in
// a service that was started anew.
//
// Covers C43.
func TestClocksThatGoBackwardsChangeNothing(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT pg_replication_origin_create($1)", db.Name); err != nil {
		t.Fatal(err)
	}
	defer func() { // origins belong to the cluster
		if _, err := conn.Exec(t.Context(), "SELECT pg_replication_origin_session_reset(), pg_replication_origin_drop($1)", db.Name); err != nil {
			t.Error(err)
		}
	}()
	if _, err := conn.Exec(t.Context(), "SELECT pg_replication_origin_session_setup($1)", db.Name); err != nil {
		t.Fatal(err)
	}
	c := s.dial(t, role, map[string]any{"sub": "ana"})
	if err := c.Subscribe(t.Context(), "1", "subscription { notes { kind row { id } cursor transaction { commitTime commitLsn } } }", nil); err != nil {
		t.Fatal(err)
	}
	cursors := []string{until(t, c, isKind("LIVE")).Cursor}
	times := []string{"1970-01-01T00:00:00Z", "2090-01-01T00:00:00Z", time.Now().UTC().Format(time.RFC3339), "2089-12-31T00:00:00Z", "2001-01-01T00:00:00Z"}
	var before *feedtest.Frame
	for i, at := range times {
		commitAt(t, conn, i+1, at)
		f := next(t, c)
		if string(f.Row["id"]) != strconv.Itoa(i+1) || f.Transaction.CommitTime != at {
			t.Errorf("want the insert of %d at %s, got %s at %s", i+1, at, f, f.Transaction.CommitTime)
		}
		if before != nil && f.Commit() <= before.Commit() {
			t.Errorf("%s is behind %s", f, before)
		}
		before, cursors = f, append(cursors, f.Cursor)
	}
	for range 2 {
		for had, cursor := range cursors {
			c := subscribeNotes(t, s, role, fmt.Sprintf("(after: %q)", cursor))
			for id := had + 1; id <= len(times); id++ {
				if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != strconv.Itoa(id) {
					t.Fatalf("behind cursor %d: want the insert of %d, got %s", had, id, f)
				}
			}
			if f := next(t, c); f.Kind != feedtest.Live {
				t.Errorf("behind cursor %d: want LIVE, got %s", had, f)
			}
		}
		if why := s.reasons(t); len(why) != 0 {
			t.Errorf("not ready: %q", why)
		}
		s.stop()
		s = start(t, s.cfg)
	}
}

// TestAClientFindsItsOwnCommit has a client that wrote wait for what it wrote: its transaction's id is on the frames
// of that and of nothing else, and their commitLsn lies between the ends of the WAL before and behind the commit.
// A snapshot that is asked for behind the commit has it.
//
// Covers C107.
func TestAClientFindsItsOwnCommit(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t, "INSERT INTO notes VALUES (0, 'ana', '')")
	c := liveNotes(t, s, role, "")
	for id := 1; id < 60; id += 2 {
		db.Exec(t, "INSERT INTO notes VALUES ($1, 'ana', 'of somebody else')", id)
		xid, from := ownCommit(t, db, id+1)
		to := pgtest.One[string](t, db, "SELECT pg_current_wal_lsn()::text")
		own := until(t, c, func(f *feedtest.Frame) bool { return string(f.Transaction.XID) == xid })
		if string(own.Row["id"]) != strconv.Itoa(id+1) {
			t.Errorf("xid %s is on %s", xid, own)
		}
		if !pgtest.One[bool](t, db, "SELECT $1::text::pg_lsn >= $2::text::pg_lsn AND $1::text::pg_lsn < $3::text::pg_lsn", string(own.Transaction.CommitLSN), from, to) {
			t.Errorf("the commit at %s is not between %s and %s", own.Transaction.CommitLSN, from, to)
		}
		if id%20 != 1 {
			continue
		}
		anew := subscribeNotes(t, s, role, "(snapshot: true)")
		rows := 0
		until(t, anew, func(f *feedtest.Frame) bool {
			if f.Kind == feedtest.Snapshot {
				rows++
			}
			return f.Kind == feedtest.Live
		})
		if rows != id+2 {
			t.Errorf("a snapshot behind the commit of %d has %d rows, want %d", id+1, rows, id+2)
		}
	}
}

// ownCommit inserts a note and gives the transaction's id, as 32 bits, and where the WAL ended before the commit.
func ownCommit(t *testing.T, db *pgtest.DB, id int) (xid, from string) {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), db.Pool(t), func(tx pgx.Tx) error {
		return tx.QueryRow(t.Context(), `INSERT INTO notes VALUES ($1, 'ana', 'own')
			RETURNING pg_current_xact_id()::xid::text, pg_current_wal_insert_lsn()::text`, id).Scan(&xid, &from)
	})
	if err != nil {
		t.Fatal(err)
	}
	return xid, from
}
