package rowtide_test

import (
	"testing"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// serveNotes runs a service on a database of its own, which has notes and what more SQL makes, and gives
// the role that may read them.
func serveNotes(t *testing.T, more ...string) (s *service, db *pgtest.DB, role string) {
	t.Helper()
	db = pgtest.New(t)
	role = db.Role(t, "web_user")
	db.Exec(t, notes(role))
	for _, sql := range more {
		db.Exec(t, sql)
	}
	return start(t, settings(t, db, role)), db, role
}

// notes is a table whose rows are seen by their owner.
func notes(role string) string {
	return `CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, text text);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY own ON notes FOR SELECT TO ` + role + `
			USING (owner = nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub');
		GRANT SELECT ON notes TO ` + role + `;
		COMMENT ON TABLE notes IS '@subscribe';`
}

const followNotes = `{ kind rowId row { id text } old { id text } changed cursor reason transaction { id last xid commitLsn } }`

// subscribeNotes subscribes ana.
func subscribeNotes(t *testing.T, s *service, role, arguments string) *client.Client {
	t.Helper()
	c := s.dial(t, role, map[string]any{"sub": "ana"})
	if err := c.Subscribe(t.Context(), "1", "subscription { notes"+arguments+" "+followNotes+" }", nil); err != nil {
		t.Fatal(err)
	}
	return c
}

// liveNotes subscribes ana, and reads up to LIVE.
func liveNotes(t *testing.T, s *service, role, arguments string) *client.Client {
	t.Helper()
	c := subscribeNotes(t, s, role, arguments)
	until(t, c, isKind("LIVE"))
	return c
}

// until reads frames up to one that is wanted.
func until(t *testing.T, c *client.Client, wanted func(*feedtest.Frame) bool) *feedtest.Frame {
	t.Helper()
	for {
		if f := next(t, c); wanted(f) {
			return f
		}
	}
}

func isKind(kind string) func(*feedtest.Frame) bool {
	return func(f *feedtest.Frame) bool { return f.Kind == kind }
}
