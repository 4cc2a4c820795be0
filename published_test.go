package rowtide_test

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestATableThatIsPublishedInPartIsNotServed has an administrator put a WHERE, or a list of columns, on
// a served table in the publication, or have it publish INSERT alone: then changes would be missing
// without a word.
//
// Covers C50, C76, C77.
func TestATableThatIsPublishedInPartIsNotServed(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"where":        "ALTER PUBLICATION rowtide SET TABLE notes WHERE (id < 10)",
		"columns":      "ALTER PUBLICATION rowtide SET TABLE notes (id, owner, text)",
		"inserts":      "ALTER PUBLICATION rowtide DROP TABLE notes; ALTER PUBLICATION rowtide_insert ADD TABLE notes",
		"no updates":   "ALTER PUBLICATION rowtide SET (publish = 'insert, delete, truncate')",
		"index":        "ALTER TABLE notes REPLICA IDENTITY USING INDEX notes_pkey",
		"index, later": "ALTER TABLE notes ADD key int NOT NULL UNIQUE; ALTER TABLE notes REPLICA IDENTITY USING INDEX notes_key_key; ALTER TABLE notes DROP CONSTRAINT notes_key_key",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db, role := serveNotes(t)
			c := liveNotes(t, s, role, "")
			db.Exec(t, sql)
			if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") {
				t.Errorf("want SCHEMA_CHANGED, got %s", got)
			}
		})
	}
}

// TestPartitionsArePublishedAsTheirTableOrNotServed has an administrator publish partitions as tables of their own:
// nothing then comes of the table that is served. A partition that is published beside it changes nothing, and no row
// comes twice.
//
// Covers C61.
func TestPartitionsArePublishedAsTheirTableOrNotServed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, `CREATE TABLE notes (id int PRIMARY KEY, text text) PARTITION BY LIST (id); CREATE TABLE notes_1 PARTITION OF notes FOR VALUES IN (1);
		CREATE TABLE rest PARTITION OF notes DEFAULT; GRANT SELECT ON notes TO `+role+`;
		COMMENT ON TABLE notes IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	s := start(t, settings(t, db, role))
	c := liveNotes(t, s, role, "")
	db.Exec(t, "ALTER PUBLICATION rowtide ADD TABLE notes_1")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'of the partition')")
	db.Exec(t, "INSERT INTO notes VALUES (2, 'of the rest')")
	for _, id := range []string{"1", "2"} {
		if f := next(t, c); f.Kind != "INSERT" || string(f.Row["id"]) != id {
			t.Errorf("want the insert of %s, got %s", id, f)
		}
	}
	db.Exec(t, "ALTER PUBLICATION rowtide SET (publish_via_partition_root = false); INSERT INTO notes VALUES (3, 'comes as of the partition')")
	if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") {
		t.Errorf("want SCHEMA_CHANGED, got %s", got)
	}
	db.Exec(t, "ALTER PUBLICATION rowtide SET (publish_via_partition_root = true)")
	eventually(t, "the table is served again", func() bool {
		c = subscribeNotes(t, s, role, "(snapshot: true)")
		m, err := c.Next(t.Context())
		return err == nil && m.Type == "next"
	})
	rows := 0
	until(t, c, func(f *feedtest.Frame) bool {
		if f.Kind == "SNAPSHOT" {
			rows++
		}
		return f.Kind == "LIVE"
	})
	if rows != 3 {
		t.Errorf("the snapshot has %d rows, want 3", rows)
	}
}

// TestATableThatLeavesThePublicationForAMomentStartsOver takes a table out and puts it back in one
// breath, or changes what is published and back, with a change between of which nobody hears.
//
// Covers C80.
func TestATableThatLeavesThePublicationForAMomentStartsOver(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string][2]string{
		"the table":    {"ALTER PUBLICATION rowtide DROP TABLE notes", "ALTER PUBLICATION rowtide ADD TABLE notes"},
		"what is done": {"ALTER PUBLICATION rowtide SET (publish = 'delete')", "ALTER PUBLICATION rowtide SET (publish = 'insert, update, delete, truncate')"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, db, role := serveNotes(t)
			p := subscribePair(t, s, role)
			db.Exec(t, sql[0]+"; INSERT INTO notes VALUES (1, 'ana', 'nobody hears of it'); "+sql[1])
			p.told(t, "1", "table_rewritten")
		})
	}
}

// TestAPublicationThatIsDroppedIsWaitedFor drops the publication under a service at work, and makes it
// again. Subscriptions end, /readyz says why, also before there is a change that is not sent; the slot
// does not move over that; and when the publication is back all goes on, with a new slot and nobody
// resuming over the hole.
//
// Covers C78, C79.
func TestAPublicationThatIsDroppedIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := subscribeNotes(t, s, role, "")
	cursor := until(t, c, isKind("LIVE")).Cursor
	missing := func() bool {
		why := strings.Join(s.reasons(t), " ")
		return strings.Contains(why, "publication") && strings.Contains(why, "rowtide sync")
	}
	db.Exec(t, "DROP PUBLICATION rowtide")
	if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") {
		t.Errorf("want SCHEMA_CHANGED, got %s", got)
	}
	eventually(t, "/readyz tells of it before there is a change", missing)
	before := pgtest.One[string](t, db, "SELECT pg_current_wal_flush_lsn()::text")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'nobody hears of it')")
	eventually(t, "the stream has ended", func() bool {
		return pgtest.One[bool](t, db, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1", s.cfg.Slot)
	})
	if moved := pgtest.One[string](t, db, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1 AND confirmed_flush_lsn > $2::text::pg_lsn UNION ALL SELECT '' LIMIT 1",
		s.cfg.Slot, before); moved != "" {
		t.Errorf("the slot stands at %s, over a change that was not published at %s", moved, before)
	}
	if !missing() {
		t.Errorf("/readyz gives %q", s.reasons(t))
	}

	report, err := rowtide.Sync(t.Context(), rowtide.SetupConfig{AdminURL: db.Admin, Login: "login_" + db.Name, Roles: []string{role}, Yes: true})
	if err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	eventually(t, "it is ready again", func() bool { return len(s.reasons(t)) == 0 })
	got := ended(t, subscribeNotes(t, s, role, `(after: "`+cursor+`")`))
	if !strings.Contains(got, "RESYNC_REQUIRED") || !containsAny(got, []string{"unpublished", "table_rewritten"}) {
		t.Errorf("want RESYNC_REQUIRED for a cursor of before, got %s", got)
	}
	c = subscribeNotes(t, s, role, "(snapshot: true)")
	if f := until(t, c, isKind("SNAPSHOT")); string(f.Row["id"]) != "1" {
		t.Errorf("want the row that nobody heard of, got %s", f)
	}
	until(t, c, isKind("LIVE"))
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'after')")
	until(t, c, isKind("INSERT"))
}

// TestTablesThatArePublishedAreNotServedUnlessAnnotated publishes a whole schema.
//
// Covers C81.
func TestTablesThatArePublishedAreNotServedUnlessAnnotated(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := liveNotes(t, s, role, "")
	db.Exec(t, "ALTER PUBLICATION rowtide ADD TABLES IN SCHEMA public")
	// Row-level security and a comment that mentions an address: nothing but the annotation is missing.
	db.Exec(t, `CREATE TABLE secrets (id int PRIMARY KEY); ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON secrets USING (true);
		COMMENT ON TABLE secrets IS 'Ask ops@example.com'; GRANT SELECT ON secrets TO `+role)
	db.Exec(t, "ALTER TABLE secrets REPLICA IDENTITY FULL; INSERT INTO secrets VALUES (1)")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', '')")
	if f := next(t, c); f.Kind != "INSERT" {
		t.Errorf("want the insert and nothing else, got %s", f)
	}
	other := s.dial(t, role, map[string]any{"sub": "ana"})
	if err := other.Subscribe(t.Context(), "1", "subscription { secrets { kind } }", nil); err != nil {
		t.Fatal(err)
	}
	if got := ended(t, other); !strings.Contains(got, "GRAPHQL_VALIDATION_FAILED") {
		t.Errorf("want the field to be unknown, got %s", got)
	}
}

// TestMembersThatArePublishedNoMoreAreNotTrusted takes the table that a policy asks out of the publication, for good
// or for a moment, and takes a member out, of which nobody hears: nothing is
// shown by the membership of before, nor kept.
//
// Covers S56.
func TestMembersThatArePublishedNoMoreAreNotTrusted(t *testing.T) {
	t.Parallel()
	const leave = "DELETE FROM members WHERE who = 'ana'"
	for name, sql := range map[string]string{
		"for good":     "ALTER PUBLICATION rowtide DROP TABLE members; " + leave,
		"for a moment": "ALTER PUBLICATION rowtide DROP TABLE members; " + leave + "; ALTER PUBLICATION rowtide ADD TABLE members",
		"no deletes":   "ALTER PUBLICATION rowtide SET (publish = 'insert'); " + leave + "; ALTER PUBLICATION rowtide SET (publish = 'insert, update, delete, truncate')",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			role := db.Role(t, "web_user")
			db.Exec(t, notes(role)+`CREATE TABLE members (who text PRIMARY KEY, of text);
				INSERT INTO members VALUES ('ana', 'club'), ('ben', 'club'); GRANT SELECT ON members TO `+role+`;
				CREATE POLICY shared ON notes FOR SELECT TO `+role+` USING (owner IN (SELECT m.of FROM members m WHERE m.who = current_setting('request.jwt.claims')::json ->> 'sub'))`)
			s := start(t, settings(t, db, role))
			const query = "subscription { notes(snapshot: true) { kind rowId reason row { id } } }"
			ana, ben := follow(t, s.dial(t, role, map[string]any{"sub": "ana"}), query), follow(t, s.dial(t, role, map[string]any{"sub": "ben"}), query)
			db.Exec(t, "INSERT INTO notes VALUES (1, 'club', 'for members')")
			ana.until(t, 1)
			db.Exec(t, sql)
			db.Exec(t, "INSERT INTO notes VALUES (2, 'club', 'for members')")
			db.Exec(t, "INSERT INTO notes VALUES (3, 'ana', 'own')")
			for ; !ana.has(3) || ana.arriving; ana.read(t) {
				if ana.has(2) {
					t.Fatalf("who is no member any more is shown what is for members: %v", ana.rows)
				}
			}
			if len(ana.rows) != 1 {
				t.Errorf("who is no member any more has %v", ana.rows)
			}
			ben.until(t, 2)
		})
	}
}
