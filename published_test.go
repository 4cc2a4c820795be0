package rowtide_test

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide"
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
			db := pgtest.New(t)
			role := db.Role(t, "web_user")
			db.Exec(t, notes(role))
			s := start(t, settings(t, db, role))
			c := subscribeNotes(t, s, role, "")
			until(t, c, isKind("LIVE"))
			db.Exec(t, sql)
			if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") {
				t.Errorf("want SCHEMA_CHANGED, got %s", got)
			}
		})
	}
}

// TestATableThatLeavesThePublicationForAMomentStartsOver takes a table out and puts it back in one
// breath, with a change between of which nobody hears.
//
// Covers C80.
func TestATableThatLeavesThePublicationForAMomentStartsOver(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	s := start(t, settings(t, db, role))
	p := subscribePair(t, s, role)
	db.Exec(t, `ALTER PUBLICATION rowtide DROP TABLE notes; INSERT INTO notes VALUES (1, 'ana', 'nobody hears of it');
		ALTER PUBLICATION rowtide ADD TABLE notes`)
	p.told(t, "1", "table_rewritten")
}

// TestAPublicationThatIsDroppedIsWaitedFor drops the publication under a service at work, and makes it
// again. Subscriptions end, /readyz says why, also before there is a change that is not sent; the slot
// does not move over that; and when the publication is back all goes on, with a new slot and nobody
// resuming over the hole.
//
// Covers C78, C79.
func TestAPublicationThatIsDroppedIsWaitedFor(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	s := start(t, settings(t, db, role))
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
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, notes(role))
	s := start(t, settings(t, db, role))
	c := subscribeNotes(t, s, role, "")
	until(t, c, isKind("LIVE"))
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
