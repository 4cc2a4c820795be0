package rls_test

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/fold"
	"github.com/rowtide/rowtide/cdc/pgoutput"
	"github.com/rowtide/rowtide/schema"
)

// A follower is a service that is fed the stream of its database, one transaction at a time.
type follower struct {
	*world
	g       *rls.Postgres
	conn    *pgx.Conn
	decoder *pgoutput.Decoder
	folder  *fold.Folder
	tables  map[uint32]*schema.Table
	xid     uint32
	changed bool   // as the last batch told
	space   string // the schema of its tables
	slot    string // slots belong to the whole cluster
	log     logged
}

// A logged is what a service has told.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// follow publishes the tables and makes a service that keeps what policies ask.
func (w *world) follow(t testing.TB, published ...string) *follower {
	t.Helper()
	return w.followWithin(t, 0, published...)
}

// followWithin is follow within a number of bytes, 0 for the default.
func (w *world) followWithin(t testing.TB, most int, published ...string) *follower {
	t.Helper()
	rows, err := os.ReadFile("../../migrations/sql/0003_rows.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	near, err := os.ReadFile("../../migrations/sql/0005_near.up.sql")
	if err != nil {
		t.Fatal(err)
	}
	var sql strings.Builder
	sql.WriteString("CREATE SCHEMA rowtide; GRANT USAGE ON SCHEMA rowtide TO {login}; CREATE TABLE rowtide.created (kind text, name text); INSERT INTO rowtide.created VALUES ('publication', 'p');")
	sql.Write(append(rows, near...))
	sql.WriteString("; GRANT EXECUTE ON FUNCTION rowtide.rows_of(oid, text[]), rowtide.rows_near(oid, text[], jsonb, bigint) TO {login}; CREATE PUBLICATION p;")
	for _, p := range published {
		sql.WriteString("ALTER TABLE " + p + " REPLICA IDENTITY FULL; ALTER PUBLICATION p ADD TABLE " + p + ";")
	}
	w.exec(t, sql.String())
	f := &follower{world: w, space: "public", slot: "rls_" + w.db.Name, decoder: pgoutput.NewDecoder(), tables: map[uint32]*schema.Table{}}
	f.g = w.newJudge(t, func(c *rls.Config) {
		c.Compile, c.Sets, c.Publication, c.Logger = true, true, "p", slog.New(slog.NewTextHandler(&f.log, nil))
		c.SetBytes = most
	})
	if f.conn, err = pgx.Connect(t.Context(), w.db.Admin); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		if _, err := f.conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", f.slot); err != nil {
			t.Error(err) // the database could not be dropped
		}
		_ = f.conn.Close(ctx)
	})
	if _, err := f.conn.Exec(t.Context(), "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", f.slot); err != nil {
		t.Fatal(err)
	}
	w.exec(t, "SELECT pg_logical_emit_message(true, 'x', 'the stream begins')")
	// Most transactions of a few writes come in several batches.
	f.folder, err = fold.New(fold.Config{Key: f.key, Ahead: f.g.Asked, BatchEvents: 2})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *follower) key(rel *cdc.Relation) []int {
	if tab := f.tables[rel.OID]; tab != nil && len(tab.Def.Keys) > 0 {
		return []int{rel.Column(tab.Def.Keys[0].Columns[0])}
	}
	return nil
}

// use describes tables of schema public anew, and waits until what their policies ask is kept or
// plainly will not be.
func (f *follower) use(t testing.TB, names ...string) []*schema.Table {
	t.Helper()
	loaded := f.load(t, f.space)
	out := make([]*schema.Table, len(names))
	clear(f.tables)
	for i, n := range names {
		out[i] = loaded[n]
		f.tables[out[i].Def.OID] = out[i]
	}
	f.g.UseTables(out...)
	f.pump(t, nil)
	deadline := time.Now().Add(time.Minute)
	for _, tab := range out {
		for _, role := range f.names {
			for {
				f.pump(t, nil)
				why, _ := f.g.Unkept(tab, role)
				if why == "" || strings.Contains(why, "rowtide") {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("%s is not kept: %s", tab.Def.Name, why)
				}
			}
		}
	}
	return out
}

// pump feeds what has been committed, and hands on each batch.
func (f *follower) pump(t testing.TB, each func(*cdc.Batch)) {
	t.Helper()
	rows, err := f.conn.Query(t.Context(), "SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'p', 'messages', 'true')", f.slot)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	for _, data := range messages {
		m, err := f.decoder.Decode(data)
		if err != nil {
			t.Fatal(err)
		}
		switch m := m.(type) {
		case *pgoutput.Begin:
			f.xid = m.XID
			f.folder.Begin()
		case *pgoutput.Change:
			f.folder.Add(m.Event)
		case *pgoutput.Truncate:
			f.folder.Truncate(m.Relations...)
		case *pgoutput.Commit:
			tx := cdc.Transaction{XID: f.xid, Commit: m.Commit, End: m.End, Time: m.Time}
			err := f.folder.Finish(t.Context(), tx, func(b *cdc.Batch) error {
				f.changed = f.g.Follow(b)
				if each != nil {
					each(b)
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}
