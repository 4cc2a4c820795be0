package pgoutput_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/pgoutput"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A recorder is a publication and a slot of a test's database.
type recorder struct {
	db   *pgtest.DB
	slot string
}

// record makes a database with the given schema, a publication and a slot. What follows FOR in
// the publication is up to the test.
func record(t *testing.T, publication, schema string) *recorder {
	t.Helper()
	r := &recorder{db: pgtest.New(t, schema)}
	r.slot = r.db.Name
	r.db.Exec(t, "CREATE PUBLICATION recorded FOR "+publication)
	r.db.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", r.slot)
	return r
}

// frames gives all that the server has to send since the last call.
func (r *recorder) frames(t *testing.T) []frame {
	t.Helper()
	return r.framesOf(t, "'proto_version', '1'")
}

// framesOf is frames, of a protocol that Rowtide may not ask for.
func (r *recorder) framesOf(t *testing.T, protocol string) []frame {
	t.Helper()
	conn, err := r.db.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(t.Context(), "SET logical_decoding_work_mem = '64kB'"); err != nil {
		t.Fatal(err)
	}
	rows, err := conn.Query(t.Context(), `SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL,
		`+protocol+`, 'publication_names', 'recorded', 'messages', 'true')`, r.slot)
	if err != nil {
		t.Fatalf("read slot: %v", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[frame])
	if err != nil {
		t.Fatalf("read slot: %v", err)
	}
	return out
}

// run runs SQL as one transaction, reads what the server sends of it, holds pglogrepl against
// this decoder, and gives the messages.
func (r *recorder) run(t *testing.T, sql string) []pgoutput.Message {
	t.Helper()
	r.db.Exec(t, sql)
	frames := r.frames(t)
	agree(t, frames)
	d := pgoutput.NewDecoder()
	var out []pgoutput.Message
	for _, f := range frames {
		out = append(out, decode(t, d, f))
	}
	return out
}

// changes is run, of the changes alone and in text.
func (r *recorder) changes(t *testing.T, sql string) string {
	t.Helper()
	var b strings.Builder
	for _, m := range r.run(t, sql) {
		switch m.(type) {
		case *pgoutput.Change, *pgoutput.Truncate, *pgoutput.Logical, *pgoutput.Origin:
			fmt.Fprintln(&b, describe(m))
		}
	}
	return b.String()
}

// describe says in one line what a message says.
func describe(m pgoutput.Message) string {
	switch m := m.(type) {
	case *pgoutput.Begin:
		return fmt.Sprintf("begin %d commit %s time %s", m.XID, m.Commit, m.Time.Format("2006-01-02T15:04:05.000000Z"))
	case *pgoutput.Commit:
		return fmt.Sprintf("commit %s end %s", m.Commit, m.End)
	case *pgoutput.Origin:
		return fmt.Sprintf("origin %s at %s", m.Name, m.LSN)
	case *pgoutput.Type:
		return fmt.Sprintf("type %s.%s", m.Schema, m.Name)
	case *pgoutput.Logical:
		return fmt.Sprintf("message transactional=%t %s %q", m.Transactional, m.Prefix, m.Content)
	case *pgoutput.StreamAbort:
		return fmt.Sprintf("stream abort %d %d", m.XID, m.SubXID)
	case *pgoutput.Truncate:
		var names []string
		for _, r := range m.Relations {
			names = append(names, r.String())
		}
		return fmt.Sprintf("truncate %s cascade=%t restart=%t", strings.Join(names, " "), m.Cascade, m.RestartIdentity)
	case *pgoutput.Relation:
		var b strings.Builder
		fmt.Fprintf(&b, "relation %s identity=%c", m.Relation, m.Identity)
		for _, c := range m.Columns {
			fmt.Fprintf(&b, " %s", c.Name)
			if c.Identity {
				b.WriteByte('*')
			}
			if c.Modifier != -1 {
				fmt.Fprintf(&b, "(%d)", c.Modifier)
			}
		}
		return b.String()
	case *pgoutput.Change:
		return fmt.Sprintf("%s %s%s%s", m.Op, m.Relation, describeRow(" old", m.Old), describeRow(" new", m.New))
	}
	return fmt.Sprintf("%T", m)
}

func describeRow(what string, r cdc.Row) string {
	if r == nil {
		return ""
	}
	var values []string
	for _, v := range r {
		s := "?"
		switch v.Kind() {
		case cdc.Null:
			s = "NULL"
		case cdc.Unchanged:
			s = "unchanged"
		case cdc.Absent:
			s = "absent"
		case cdc.Text:
			s = v.Text()
			if len(s) > 40 {
				s = fmt.Sprintf("%s…%d", s[:8], len(s))
			}
			s = "'" + s + "'"
		}
		values = append(values, s)
	}
	return what + "(" + strings.Join(values, ", ") + ")"
}
