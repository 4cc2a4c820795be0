package migrations_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// stream makes the slot where it is missing and streams both publications from it, as the service
// does. The returned function ends the stream.
func stream(t *testing.T, db *pgtest.DB, slot string) func() {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), db.Admin+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	_, err = pglogrepl.CreateReplicationSlot(t.Context(), conn, slot, "pgoutput", pglogrepl.CreateReplicationSlotOptions{})
	if err != nil {
		t.Fatal(err)
	}
	err = pglogrepl.StartReplication(t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", fmt.Sprintf("publication_names '%s'", names()), "messages 'true'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() { conn.Close(t.Context()) }
}

func names() string {
	return migrations.DefaultPublication + "," + migrations.InsertPublication(migrations.DefaultPublication)
}

// waitGone waits until the server has noticed that the stream ended.
func waitGone(t *testing.T, db *pgtest.DB, cfg migrations.SetupConfig) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for pgtest.One[bool](t, db, `SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active)
		OR EXISTS (SELECT FROM pg_stat_activity WHERE usename = $2)`, cfg.Slot, cfg.Login) {
		select {
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		case <-tick.C:
		}
	}
}

// changes reads what the slot has of both publications: a line for each insert, update, delete and
// truncate message, by its letter.
func changes(t *testing.T, db *pgtest.DB, slot string) []string {
	t.Helper()
	return strs(t, db, `SELECT chr(get_byte(data, 0)) FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', $2) WHERE chr(get_byte(data, 0)) IN ('I', 'U', 'D', 'T')`, slot, names())
}
