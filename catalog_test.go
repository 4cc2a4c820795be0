package rowtide_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// ended waits for the error that ends the only subscription on a socket.
func ended(t *testing.T, c *client.Client) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		m, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("wait for the end: %v", err)
		}
		if m.Type == "error" {
			return string(m.Payload)
		}
	}
}

// TestPolicyChangesAtItsCommit writes rows before, in and behind a transaction that changes a
// policy: none is shown to somebody whom the policy of that moment does not let see it, and the
// subscription heals by itself.
//
// Covers S56, S57.
func TestPolicyChangesAtItsCommit(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := liveNotes(t, s, role, "(snapshot: true)")

	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'seen')")
	if f := next(t, c); f.Kind != feedtest.Insert {
		t.Fatalf("want the insert, got %s", f)
	}
	db.Exec(t, `BEGIN; ALTER POLICY own ON notes USING (false); INSERT INTO notes VALUES (2, 'ana', 'hidden'); COMMIT;`)
	db.Exec(t, "INSERT INTO notes VALUES (3, 'ana', 'hidden')")
	f := next(t, c)
	if f.Kind != feedtest.Reset || f.Reason != "policy_changed" {
		t.Fatalf("want RESET policy_changed, got %s", f)
	}
	if f := next(t, c); f.Kind != feedtest.Live {
		t.Fatalf("nothing is visible under the new policy, so LIVE should follow: got %s", f)
	}
	db.Exec(t, "ALTER POLICY own ON notes USING (true)")
	seen := 0
	until(t, c, func(f *feedtest.Frame) bool {
		if f.Kind == feedtest.Snapshot {
			seen++
		}
		return f.Kind == feedtest.Live && seen == 3
	})
}

// TestRevokedPrivilegeEndsWhatItAllowed takes the privilege to read away from a role.
//
// Covers S29, R05.
func TestRevokedPrivilegeEndsWhatItAllowed(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := liveNotes(t, s, role, "")
	db.Exec(t, "BEGIN; REVOKE SELECT ON notes FROM "+role+"; INSERT INTO notes VALUES (1, 'ana', 'not for ana any more'); COMMIT")
	if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") || strings.Contains(got, "not for ana") {
		t.Errorf("want SCHEMA_CHANGED, got %s", got)
	}
}

// TestRoleMembershipIsPolled takes a role's own membership away, for which no event trigger
// fires: within the polling interval the policies for that group bind no more.
//
// Covers S29, R03.
func TestRoleMembershipIsPolled(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role, group := db.Role(t, "web_user"), db.Role(t, "staff")
	db.Exec(t, notes(role)+"CREATE POLICY staff ON notes FOR SELECT TO "+group+" USING (true); GRANT "+group+" TO "+role)
	s := start(t, settings(t, db, role))
	c := liveNotes(t, s, role, "(snapshot: true)")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ben', 'for staff')")
	until(t, c, isKind("INSERT"))
	db.Exec(t, "REVOKE "+group+" FROM "+role)
	if f := until(t, c, isKind("RESET")); f.Reason != "policy_changed" {
		t.Errorf("want RESET policy_changed, got %s", f)
	}
	until(t, c, isKind("LIVE"))
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ben', 'hidden'), (3, 'ana', 'seen')")
	if f := next(t, c); string(f.Row["id"]) != "3" {
		t.Errorf("want the row of ana alone, got %s", f)
	}
}

// TestColumnsComeAndGo changes a table under a subscription: one that does not use what changed
// goes on, one that does ends.
//
// Covers C52, C54.
func TestColumnsComeAndGo(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t, "ALTER TABLE notes ADD extra int")
	c := liveNotes(t, s, role, "")
	other := s.dial(t, role, map[string]any{"sub": "ana"})
	if err := other.Subscribe(t.Context(), "1", "subscription { notes { kind row { extra } } }", nil); err != nil {
		t.Fatal(err)
	}
	if m, err := other.Next(t.Context()); err != nil || !strings.Contains(string(m.Payload), "LIVE") {
		t.Fatal(m, err)
	}
	wantRow := func(id int, text string) {
		if f := next(t, c); string(f.Row["id"]) != strconv.Itoa(id) || string(f.Row["text"]) != text {
			t.Errorf("want row %d with text %s, got %s %s", id, text, f, f.Row)
		}
	}
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'a', 1)")
	wantRow(1, `"a"`)
	db.Exec(t, `BEGIN; ALTER TABLE notes DROP extra, ADD note text DEFAULT 'n'; INSERT INTO notes VALUES (2, 'ana', 'b', 'm'); COMMIT`)
	if got := ended(t, other); !strings.Contains(got, "SCHEMA_CHANGED") {
		t.Errorf("want SCHEMA_CHANGED, got %s", got)
	}
	db.Exec(t, "INSERT INTO notes VALUES (3, 'ana', 'c', 'o')")
	wantRow(2, `"b"`)
	wantRow(3, `"c"`)
	if err := other.Subscribe(t.Context(), "2", "subscription { notes { kind row { note } } }", nil); err != nil {
		t.Fatal(err)
	}
	if m, err := other.Next(t.Context()); err != nil || !strings.Contains(string(m.Payload), "LIVE") {
		t.Fatal(m, err)
	}
	db.Exec(t, "ALTER TABLE notes ALTER note DROP DEFAULT, ALTER note TYPE int USING 1")
	if got := ended(t, other); !strings.Contains(got, "SCHEMA_CHANGED") {
		t.Errorf("want SCHEMA_CHANGED for the column of another type, got %s", got)
	}
	db.Exec(t, "INSERT INTO notes VALUES (4, 'ana', 'd', 2)")
	wantRow(4, `"d"`)
}

// TestATableRenamedOrMadeAnewIsNotFollowed drops a table and makes one of the same name: the
// subscription was to the old one.
//
// Covers C55.
func TestATableRenamedOrMadeAnewIsNotFollowed(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := liveNotes(t, s, role, "")
	db.Exec(t, "DROP TABLE notes; "+notes(role)+" ALTER TABLE notes REPLICA IDENTITY FULL; ALTER PUBLICATION rowtide ADD TABLE notes; INSERT INTO notes VALUES (1, 'ana', 'in the new one')")
	if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") {
		t.Errorf("want SCHEMA_CHANGED, got %s", got)
	}
	c = subscribeNotes(t, s, role, "(snapshot: true)")
	until(t, c, isKind("SNAPSHOT"))
}

// TestPolicyFunctionsFindWhatTheyName has a policy whose function names a table without its
// schema, as people write them: it finds it where a session of the application would, and not
// where a subscriber could put another one.
func TestPolicyFunctionsFindWhatTheyName(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role)+`
		CREATE TABLE friends (owner text, friend text); INSERT INTO friends VALUES ('ben', 'ana'); GRANT SELECT ON friends TO `+role+`;
		CREATE FUNCTION is_friend(who text) RETURNS bool LANGUAGE plpgsql STABLE AS $$
			BEGIN RETURN EXISTS (SELECT FROM friends WHERE owner = who AND friend = current_setting('request.jwt.claims', true)::json ->> 'sub'); END $$;
		CREATE POLICY friends ON notes FOR SELECT TO `+role+` USING (is_friend(owner))`)
	s := start(t, settings(t, db, role))
	c := liveNotes(t, s, role, "(snapshot: true)")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'cleo', 'hidden'), (2, 'ben', 'for friends')")
	if f := next(t, c); string(f.Row["id"]) != "2" {
		t.Errorf("want the row of a friend, got %s", f)
	}
	s.stop()

	// Where the role may create tables it could make its own friends.
	db.Exec(t, "GRANT CREATE ON SCHEMA public TO "+role)
	s = start(t, s.cfg)
	c = liveNotes(t, s, role, "")
	db.Exec(t, "INSERT INTO notes VALUES (3, 'ben', 'cannot be judged'), (4, 'ana', 'own')")
	if f := next(t, c); string(f.Row["id"]) != "4" {
		t.Errorf("want the own row alone, got %s", f)
	}
}

// TestInsertOnlyTableNeedsNoReplicaIdentity serves a table whose annotation asks for INSERT alone:
// its rows come, its UPDATE and DELETE go on working, and its replica identity is left as it was.
func TestInsertOnlyTableNeedsNoReplicaIdentity(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, `CREATE TABLE notes (id int PRIMARY KEY, text text); GRANT SELECT ON notes TO `+role+`;
		COMMENT ON TABLE notes IS '@subscribe(kinds: [INSERT], rowSecurity: NOT_REQUIRED)'`)
	s := start(t, settings(t, db, role))
	if got := pgtest.One[string](t, db, "SELECT relreplident::text FROM pg_class WHERE relname = 'notes'"); got != "d" {
		t.Errorf("the replica identity was changed to %s", got)
	}
	c := s.dial(t, role, map[string]any{})
	if err := c.Subscribe(t.Context(), "1", "subscription { notes { kind row { id text } cursor } }", nil); err != nil {
		t.Fatal(err)
	}
	until(t, c, isKind("LIVE"))
	db.Exec(t, "INSERT INTO notes VALUES (1, 'a'), (2, 'b')")
	db.Exec(t, "UPDATE notes SET text = 'c'; DELETE FROM notes WHERE id = 1")
	db.Exec(t, "INSERT INTO notes VALUES (3, 'd')")
	for _, id := range []string{"1", "2", "3"} {
		if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != id {
			t.Errorf("want the insert of %s, got %s %s", id, f, f.Row)
		}
	}
}

// TestReplacedFunctionChangesPoliciesAtItsCommit replaces a function that a policy calls: rows
// are judged by what it says at their commit, though the policy reads as it did.
//
// Covers S56, S57.
func TestReplacedFunctionChangesPoliciesAtItsCommit(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	me := func(who string) string {
		return "CREATE OR REPLACE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT coalesce(" + who + ", current_setting('request.jwt.claims')::json ->> 'sub') $$;"
	}
	db.Exec(t, me("NULL::text")+notes(role)+"ALTER POLICY own ON notes USING (owner = me())")
	s := start(t, settings(t, db, role))
	c := liveNotes(t, s, role, "(snapshot: true)")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ben', 'hidden'), (2, 'ana', 'seen')")
	if f := next(t, c); string(f.Row["id"]) != "2" {
		t.Fatalf("want the row of ana alone, got %s", f)
	}
	db.Exec(t, "BEGIN; "+me("'ben'")+" INSERT INTO notes VALUES (3, 'ana', 'hidden'); COMMIT; INSERT INTO notes VALUES (4, 'ana', 'hidden')")
	if f := next(t, c); f.Kind != feedtest.Reset || f.Reason != "policy_changed" {
		t.Fatalf("want RESET policy_changed, got %s", f)
	}
	until(t, c, func(f *feedtest.Frame) bool {
		if f.Kind == feedtest.Snapshot && string(f.Row["id"]) != "1" {
			t.Errorf("the snapshot shows %s", f)
		}
		return f.Kind == feedtest.Live
	})
	db.Exec(t, "INSERT INTO notes VALUES (5, 'ana', 'hidden'), (6, 'ben', 'seen')")
	if f := next(t, c); string(f.Row["id"]) != "6" {
		t.Errorf("want the row of ben alone, got %s", f)
	}
}

// TestATableMoreResyncsNobody annotates a table that no policy asks, and drops it, under a subscription
// whose policy calls a function and asks another table.
func TestATableMoreResyncsNobody(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role)+`CREATE TABLE friends (of text PRIMARY KEY); GRANT SELECT ON friends TO `+role+`;
		CREATE FUNCTION sub() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('request.jwt.claims')::json ->> 'sub' $$;
		CREATE POLICY shared ON notes FOR SELECT TO `+role+` USING (owner IN (SELECT f.of FROM friends f WHERE f.of = sub()))`)
	cfg := settings(t, db, role)
	s := start(t, cfg)
	c := liveNotes(t, s, role, "(snapshot: true)")
	for id, sql := range []string{
		"CREATE TABLE extra (id int PRIMARY KEY); COMMENT ON TABLE extra IS '@subscribe(rowSecurity: NOT_REQUIRED)'",
		"DROP TABLE extra",
		"ALTER TABLE friends ENABLE ROW LEVEL SECURITY", // now the policy means something else
	} {
		db.Exec(t, sql)
		db.Exec(t, "INSERT INTO notes VALUES ($1, 'ana', '')", id)
		want := "INSERT"
		if id == 2 {
			want = "RESET"
		}
		if f := next(t, c); f.Kind != want {
			t.Errorf("behind %q: want %s, got %s", sql, want, f)
		}
	}
}

// TestAColumnWithADefaultIsInOldRows adds a column with a default, which no event tells of: who follows the table is
// not disturbed, who asks for the column has the default in rows from before, in snapshots and in both images of a
// change, and a replay does not make up what the log does not have.
//
// Covers C56.
func TestAColumnWithADefaultIsInOldRows(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t, "INSERT INTO notes SELECT n, 'ana', 'from before' FROM generate_series(1, 3) n")
	old := subscribeNotes(t, s, role, "")
	cursor := until(t, old, isKind("LIVE")).Cursor
	db.Exec(t, "UPDATE notes SET text = 'before the column' WHERE id = 3")
	until(t, old, isKind("UPDATE"))
	db.Exec(t, "ALTER TABLE notes ADD extra int NOT NULL DEFAULT 7")
	const document = "subscription ($after: Cursor, $snapshot: Boolean) { notes(after: $after, snapshot: $snapshot, where: {extra: {gte: 7}}) { kind reason row { id extra } old { id extra } changed cursor } }"
	subscribe := func(variables map[string]any) *client.Client {
		c := s.dial(t, role, map[string]any{"sub": "ana"})
		if err := c.Subscribe(t.Context(), "1", document, variables); err != nil {
			t.Fatal(err)
		}
		return c
	}
	var c *client.Client
	eventually(t, "the column is served", func() bool {
		c = subscribe(map[string]any{"snapshot": true})
		m, err := c.Next(t.Context())
		return err == nil && m.Type == "next"
	})
	rows := 0
	until(t, c, func(f *feedtest.Frame) bool {
		if f.Kind == feedtest.Snapshot {
			if rows++; string(f.Row["extra"]) != "7" {
				t.Errorf("the snapshot has %s with extra %s", f, f.Row["extra"])
			}
		}
		return f.Kind == feedtest.Live
	})
	if rows != 3 {
		t.Errorf("the snapshot has %d rows, want 3", rows)
	}
	db.Exec(t, "UPDATE notes SET text = 'behind it' WHERE id = 1")
	if f := next(t, c); f.Kind != feedtest.Update || string(f.Row["extra"]) != "7" || string(f.Old["extra"]) != "7" || len(f.Changed) != 1 {
		t.Errorf("want an update of the text with 7 in both images, got %s: %s %s %q", f, f.Row, f.Old, f.Changed)
	}
	if f := next(t, old); f.Kind != feedtest.Update {
		t.Errorf("who does not ask for the column should get the update and nothing else, got %s", f)
	}
	if got := ended(t, subscribe(map[string]any{"after": cursor})); !strings.Contains(got, "RESYNC_REQUIRED") {
		t.Errorf("behind a cursor from before the column: want RESYNC_REQUIRED, got %s", got)
	}
}
