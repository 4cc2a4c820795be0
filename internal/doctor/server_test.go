package doctor_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/internal/doctor"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestSettingsOfTheServerAreFoundAndMended(t *testing.T) {
	t.Parallel()
	c := cluster(t, map[string]string{
		"wal_level": "replica", "max_wal_senders": "0", "max_replication_slots": "0", "max_slot_wal_keep_size": "-1",
	})
	w := &world{DB: pgtest.On(t, c)}
	cfg := doctor.Config{AdminURL: w.Admin}
	checks := []string{"wal_level", "max_wal_senders", "max_replication_slots", "max_slot_wal_keep_size"}
	before := examine(t, cfg)
	for _, check := range checks {
		f := find(before, check, "")
		if f == nil || f.Severity != fatal {
			t.Fatalf("%s is not found in\n%s", check, lines(before))
		}
		w.mend(t, f)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := examine(t, cfg)
	for _, check := range checks {
		if f := find(after, check, ""); f != nil {
			t.Errorf("still %s", f)
		}
	}
}

func TestClocksThatAreApartAreFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Now = func() time.Time { return time.Now().Add(-time.Minute) }
	if f := find(examine(t, w.cfg), "clock", "1m0s ahead of"); f == nil || f.Severity != warning {
		t.Error("a minute is not found")
	}
	w.cfg.Now = time.Now
	if f := find(examine(t, w.cfg), "clock", ""); f != nil {
		t.Error(f)
	}
}

// Covers C25.
func TestASlotOnItsWayToBeLostIsFound(t *testing.T) {
	t.Parallel()
	c := cluster(t, map[string]string{"max_slot_wal_keep_size": "1MB", "max_prepared_transactions": "2", "checkpoint_timeout": "1h"})
	w := setUp(t, pgtest.On(t, c, tables))
	w.Exec(t, w.words(`SELECT pg_create_logical_replication_slot('$slot', 'pgoutput')`))
	if f := find(examine(t, w.cfg), "max_slot_wal_keep_size", ""); f != nil {
		t.Error(f)
	}
	for range 3 {
		w.Exec(t, `INSERT INTO secrets SELECT coalesce(max(id), 0) + 1 FROM secrets`)
		w.Exec(t, `SELECT pg_switch_wal()`)
	}
	if f := find(examine(t, w.cfg), "slot", "about to be lost"); f == nil || f.Severity != fatal {
		t.Errorf("an unreserved slot: %v", f)
	}
	w.Exec(t, `CHECKPOINT`)
	w.provoke(t, w.cfg, doctor.Finding{Severity: fatal, Check: "slot", Object: "it is lost"}, "")
	w.preparedTransaction(t)
}

func (w *world) preparedTransaction(t *testing.T) {
	t.Helper()
	conn := connect(t, w.Admin)
	for _, sql := range []string{"BEGIN", "INSERT INTO secrets VALUES (100)", "PREPARE TRANSACTION 'it''s'"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.cfg.LongTransaction = time.Nanosecond
	w.provoke(t, w.cfg, doctor.Finding{Severity: warning, Check: "transaction", Object: "prepared transaction 'it''s'"}, "")
}

func TestWhatHoldsBackTheLogIsFound(t *testing.T) {
	t.Parallel()
	w := setUp(t, pgtest.On(t, cluster(t, nil), tables))
	cfg := w.cfg
	cfg.RetainedWAL, cfg.LongTransaction = 50_000, time.Nanosecond
	// In a transaction, whose commit writes it: pg_current_wal_lsn() tells of nothing else.
	const much = `SELECT pg_logical_emit_message(true, 'x', repeat('x', 100000))`
	w.Exec(t, w.words(`SELECT pg_create_logical_replication_slot('$slot', 'pgoutput')`))
	w.Exec(t, much)
	if f := find(examine(t, w.cfg), "slot", ""); f != nil {
		t.Errorf("a little WAL: %s", f)
	}

	stop := w.stream(t)
	if f := find(examine(t, cfg), "slot", "does not keep up"); f == nil || f.Severity != warning {
		t.Errorf("a reader that does not confirm: %s", lines(examine(t, cfg)))
	}
	stop()

	conn := connect(t, w.Admin)
	for _, sql := range []string{"BEGIN", "INSERT INTO secrets /* the one */ VALUES (2)"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	w.Exec(t, much)
	w.Exec(t, w.words(`SELECT pg_replication_slot_advance('$slot', pg_current_wal_lsn())`))
	if f := find(examine(t, cfg), "slot", "for a transaction that is still open"); f == nil || f.Severity != warning {
		t.Errorf("a lag by a transaction: %s", lines(examine(t, cfg)))
	}
	w.provoke(t, cfg, doctor.Finding{Severity: warning, Check: "transaction", Object: "/* the one */"}, "")

	w.Exec(t, w.words(`SELECT pg_drop_replication_slot('$slot')`))
	w.Exec(t, w.words(`SELECT pg_create_logical_replication_slot('$slot', 'pgoutput')`))
	w.Exec(t, much)
	w.provoke(t, cfg, doctor.Finding{Severity: warning, Check: "slot", Object: "nobody reads it"}, "")
}

// stream starts to read the slot and confirms nothing.
func (w *world) stream(t *testing.T) (stop func()) {
	t.Helper()
	parsed, err := migrations.ParseURL("--database-url", w.cfg.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	parsed.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), &parsed.Config)
	if err != nil {
		t.Fatal(err)
	}
	conn.Frontend().Send(&pgproto3.Query{String: w.words(`START_REPLICATION SLOT "$slot" LOGICAL 0/0 (proto_version '1', publication_names 'rowtide')`)})
	if err := conn.Frontend().Flush(); err != nil {
		t.Fatal(err)
	}
	for {
		m, err := conn.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := m.(*pgproto3.CopyBothResponse); ok {
			break
		}
	}
	return func() {
		w.Exec(t, w.words(`SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = '$slot'`))
		_ = conn.Close(context.WithoutCancel(t.Context()))
	}
}

func TestATemporarySlotIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	conn := connect(t, w.Admin)
	if _, err := conn.Exec(t.Context(), w.words(`SELECT pg_create_logical_replication_slot('$slot', 'pgoutput', true)`)); err != nil {
		t.Fatal(err)
	}
	if f := find(examine(t, w.cfg), "slot", "it is temporary"); f == nil || f.Severity != fatal {
		t.Errorf("a temporary slot: %v", f)
	}
	if _, err := conn.Exec(t.Context(), w.words(`SELECT pg_drop_replication_slot('$slot')`)); err != nil {
		t.Fatal(err)
	}
	if f := find(examine(t, w.cfg), "slot", "it is temporary"); f != nil {
		t.Error(f)
	}
}
