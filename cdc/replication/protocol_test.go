package replication

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Protocol 1 without two_phase: the server sends whole transactions, when they have committed, in the
// order of their commits. These tests provoke what would be hard with the later protocols.

// smallWorkMem has the server decode large transactions through its disk, as it does very large ones.
const smallWorkMem = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET logical_decoding_work_mem = ''64kB''', current_database()); END $$`

// Covers C63.
func TestWhatWasRolledBackToASavepointDoesNotCome(t *testing.T) {
	t.Parallel()
	db := database(t, smallWorkMem)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	db.Exec(t, `BEGIN;
		INSERT INTO t SELECT n, 'kept' FROM generate_series(1, 3000) n;
		SAVEPOINT a;
		INSERT INTO t SELECT n, 'gone' FROM generate_series(3001, 8000) n;
		SAVEPOINT b;
		INSERT INTO t SELECT n, 'gone too' FROM generate_series(8001, 9000) n;
		ROLLBACK TO a;
		INSERT INTO t SELECT n, 'kept' FROM generate_series(3001, 5050) n;
		COMMIT`)
	rows := strings.Split(r.wait(t, 1)[0], ";")
	if len(rows) != 5050 || slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, "gone") }) {
		t.Errorf("%d rows came, want the 5050 that are there", len(rows))
	}
}

// A description that a rolled back part of a large transaction had of a table is not used for the rows of others, nor
// for the rest of its own: none of it comes.
//
// Covers C53.
func TestARelationOfWhatWasRolledBackDescribesNothing(t *testing.T) {
	t.Parallel()
	db := database(t, smallWorkMem)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	insert(t, db, 1, 1)
	const other = `ALTER TABLE t ADD more text DEFAULT 'gone', DROP v; INSERT INTO t SELECT n, 'gone' FROM generate_series(%d, %[1]d + 5000) n`
	db.Exec(t, "BEGIN; "+fmt.Sprintf(other, 10_000)+"; ROLLBACK")
	db.Exec(t, "BEGIN; INSERT INTO t VALUES (2, 'v2'); SAVEPOINT a; "+fmt.Sprintf(other, 20_000)+"; ROLLBACK TO a; INSERT INTO t VALUES (3, 'v3'); COMMIT")
	insert(t, db, 4, 4)
	if got, want := r.wait(t, 3), []string{"1,v1", "2,v2;3,v3", "4,v4"}; !slices.Equal(got, want) {
		t.Errorf("came %q, want %q", got, want)
	}
}

// Covers C65.
func TestTransactionsThatOverlapComeInTheOrderOfTheirCommits(t *testing.T) {
	t.Parallel()
	db := database(t, smallWorkMem)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	var conns [3]*pgx.Conn
	exec := func(i int, sql string) {
		if _, err := conns[i].Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for i := range conns {
		var err error
		if conns[i], err = pgx.Connect(t.Context(), db.Admin); err != nil {
			t.Fatal(err)
		}
		defer conns[i].Close(t.Context())
		exec(i, "BEGIN")
	}
	const chunks, size = 5, 1000
	for chunk := range chunks {
		for i := range conns {
			exec(i, fmt.Sprintf("INSERT INTO t SELECT n, 'of %d' FROM generate_series(%d, %d) n", i, (chunk*3+i)*size, (chunk*3+i+1)*size-1))
		}
	}
	order := []int{2, 0, 1}
	for _, i := range order {
		exec(i, "COMMIT")
	}
	for n, tx := range r.wait(t, 3) {
		rows, own := strings.Split(tx, ";"), fmt.Sprintf("of %d", order[n])
		if len(rows) != chunks*size || slices.ContainsFunc(rows, func(row string) bool { return !strings.HasSuffix(row, own) }) {
			t.Errorf("transaction %d has %d rows, want the %d %q", n, len(rows), chunks*size, own)
		}
	}
}

// A prepared transaction comes when it is committed, once, and never when it is rolled back. A slot
// that was made for two phases would hand it on before: it is refused and left alone.
//
// Covers C67, C68.
func TestPreparedTransactionsComeWhenTheyAreCommitted(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_prepared_transactions": "10"}})
	db := pgtest.On(t, cluster, schema)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	db.Exec(t, "BEGIN; INSERT INTO t VALUES (1, 'prepared'); PREPARE TRANSACTION 'a'")
	db.Exec(t, "BEGIN; INSERT INTO t VALUES (2, 'rolled back'); PREPARE TRANSACTION 'b'")
	insert(t, db, 3, 3)
	if got := r.wait(t, 1); got[0] != "3,v3" {
		t.Errorf("first came %q, want the one that was committed first", got)
	}
	db.Exec(t, "ROLLBACK PREPARED 'b'")
	db.Exec(t, "COMMIT PREPARED 'a'")
	insert(t, db, 4, 4)
	if got, want := r.wait(t, 3), []string{"3,v3", "1,prepared", "4,v4"}; !slices.Equal(got, want) {
		t.Errorf("came %q, want %q", got, want)
	}

	db.Exec(t, "SELECT pg_create_logical_replication_slot('two_phases', 'pgoutput', false, true)")
	other := config(t, db, newFeed())
	other.Slot = "two_phases"
	run(t, other).fails(t, SlotUnfit, "two-phase")
	if !pgtest.One[bool](t, db, "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = 'two_phases')") {
		t.Error("the slot is gone")
	}
}

// Covers C16, C27.
func TestWhatTheServerSaysOfTheSlotIsTaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		slot map[int]string
		want Reason
		say  string
	}{
		"rows were removed on a standby": {map[int]string{9: "rows_removed"}, SlotLost, "rows_removed"},
		"wal_level was lowered":          {map[int]string{9: "wal_level_insufficient"}, SlotLost, "wal_level_insufficient"},
		"nobody used it":                 {map[int]string{9: "idle_timeout"}, SlotLost, "idle_timeout"},
		"the WAL is gone":                {map[int]string{5: "lost", 6: "", 7: "0/1000"}, SlotLost, "wal_removed"},
		"it is being made":               {map[int]string{7: "", 8: "123"}, SlotInUse, "process 123"},
	} {
		s := &scripted{t: t, slot: tt.slot}
		s.serve()
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := s.config()
			cfg.Handler, cfg.SlotTimeout = ignore{}, time.Millisecond
			run(t, cfg).fails(t, tt.want, tt.say)
		})
	}
}

// A transaction with much DDL, which the server takes long to decode, and large objects and rows by
// COPY in it: the rows come, all of them and in order, and the connection stays.
func TestDDLLargeObjectsAndCopyInOneTransaction(t *testing.T) {
	t.Parallel()
	db := database(t, smallWorkMem)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, sql := range []string{
		"BEGIN",
		`DO $$ BEGIN FOR i IN 1..300 LOOP
			EXECUTE format('CREATE TABLE ddl_%s (id int PRIMARY KEY, v text)', i);
			EXECUTE format('INSERT INTO ddl_%s VALUES (1, ''not published'')', i);
			EXECUTE format('ALTER TABLE t ALTER v SET DEFAULT %L', i);
			EXECUTE format('INSERT INTO t (id) VALUES (%s)', i);
		END LOOP; END $$`,
		"SELECT lo_put(lo_create(0), 0, convert_to(repeat('x', 100000), 'UTF8'))",
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	rows := pgx.CopyFromSlice(2000, func(i int) ([]any, error) { return []any{1000 + i, "copied"}, nil })
	if _, err := conn.CopyFrom(t.Context(), pgx.Identifier{"t"}, []string{"id", "v"}, rows); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "COMMIT"); err != nil {
		t.Fatal(err)
	}
	insert(t, db, 5000, 5000)
	txs := r.wait(t, 2)
	got := strings.Split(txs[0], ";")
	if len(got) != 2300 || got[0] != "1,1" || got[299] != "300,300" || got[300] != "1000,copied" || txs[1] != "5000,v5000" {
		t.Errorf("%d rows came: %.80s …", len(got), txs[0])
	}
	if n := r.State().Connections; n != 1 {
		t.Errorf("%d connections, want the first to last", n)
	}
}
