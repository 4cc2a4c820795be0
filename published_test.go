package rowtide_test

import (
	"strings"
	"testing"

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
