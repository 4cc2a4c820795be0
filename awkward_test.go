package rowtide_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Tables that are not as tables in textbooks are: after each step the subscriber has what SELECT
// gives.
//
// Covers C45, C47, C60, C62, C83.
func TestAwkwardTablesAreFollowedExactly(t *testing.T) {
	t.Parallel()
	wide := make([]string, 1500)
	for i := range wide {
		wide[i] = fmt.Sprintf("c%d int DEFAULT %d", i, i)
	}
	const comment = `COMMENT ON TABLE %s IS '@subscribe(field: "rows", type: "Row", rowSecurity: NOT_REQUIRED)';`
	for name, x := range map[string]struct {
		table, ddl, fields, sql string
		steps                   []string
		sentinel                string
		resets                  string // the reason that RESETs have, of which there must be one
	}{
		"partitions": {
			table: "part", fields: "v", sql: "'v', v",
			ddl: `CREATE TABLE part (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k);
				CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1); CREATE TABLE part_2 (v text, junk int, k int NOT NULL, id int NOT NULL);
				ALTER TABLE part_2 DROP junk; ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES IN (2); CREATE TABLE rest PARTITION OF part DEFAULT`,
			steps: []string{
				"INSERT INTO part VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 7, 'c')", "UPDATE part SET v = v || '!'", "UPDATE part SET k = 2 WHERE id = 1",
				"UPDATE part_2 SET k = 2, v = 'direct' WHERE id = 2", "DELETE FROM rest", "INSERT INTO part_1 VALUES (9, 1, 'leaf')",
				// What is made empty disturbs nobody.
				"CREATE TABLE part_3 PARTITION OF part FOR VALUES IN (3)", "INSERT INTO part VALUES (5, 3, 'new')", "UPDATE part SET k = 3 WHERE id = 9",
			},
			sentinel: "INSERT INTO part VALUES (-1, 1, 's')",
		},
		"a partition attached": {
			table: "part", fields: "v", sql: "'v', v",
			ddl: `CREATE TABLE part (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
				CREATE TABLE part_2 (LIKE part); INSERT INTO part_2 VALUES (2, 2, 'was there'); INSERT INTO part VALUES (1, 1, 'a')`,
			steps:    []string{"ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES IN (2)", "UPDATE part SET v = v || '!'"},
			sentinel: "INSERT INTO part VALUES (-1, 1, 's')", resets: "table_rewritten",
		},
		"a partition made, filled and attached at once": {
			table: "part", fields: "v", sql: "'v', v",
			ddl: `CREATE TABLE part (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
				INSERT INTO part VALUES (1, 1, 'a')`,
			steps: []string{`BEGIN; CREATE TABLE part_2 (LIKE part); INSERT INTO part_2 VALUES (2, 2, 'was there');
				ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES IN (2); COMMIT`},
			sentinel: "INSERT INTO part VALUES (-1, 1, 's')", resets: "table_rewritten",
		},
		"values rewritten in the same type": {
			table: "same", fields: "v", sql: "'v', v",
			ddl:      `CREATE TABLE same (id int PRIMARY KEY, v text, w text); INSERT INTO same VALUES (1, 'a')`,
			steps:    []string{"VACUUM FULL same", "ALTER TABLE same ALTER w TYPE text USING 'x'", "ALTER TABLE same ALTER v TYPE text USING upper(v)"},
			sentinel: "INSERT INTO same VALUES (-1, 's')", resets: "table_rewritten",
		},
		"values rewritten in the same type, in partitions": {
			table: "part", fields: "v", sql: "'v', v",
			ddl: `CREATE TABLE part (id int PRIMARY KEY, v text) PARTITION BY LIST (id); CREATE TABLE rest PARTITION OF part DEFAULT;
				INSERT INTO part VALUES (1, 'a')`,
			steps:    []string{"ALTER TABLE part ALTER v TYPE text USING upper(v)"},
			sentinel: "INSERT INTO part VALUES (-1, 's')", resets: "table_rewritten",
		},
		"a partition detached": {
			table: "part", fields: "v", sql: "'v', v",
			ddl: `CREATE TABLE part (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
				CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2); INSERT INTO part VALUES (1, 1, 'a'), (2, 2, 'b')`,
			steps:    []string{"ALTER TABLE part DETACH PARTITION part_2", "UPDATE part_2 SET v = 'not seen'", "UPDATE part SET v = 'seen'"},
			sentinel: "INSERT INTO part VALUES (-1, 1, 's')", resets: "table_rewritten",
		},
		"a partition dropped": {
			table: "part", fields: "v", sql: "'v', v",
			ddl: `CREATE TABLE part (id int, k int, v text, PRIMARY KEY (id, k)) PARTITION BY LIST (k); CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
				CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2); INSERT INTO part VALUES (1, 1, 'a'), (2, 2, 'b')`,
			steps:    []string{"DROP TABLE part_2"},
			sentinel: "INSERT INTO part VALUES (-1, 1, 's')", resets: "table_rewritten",
		},
		"names": {
			table: `"Grö""ße ✓"`, fields: "name text", sql: `'name', "n""A me", 'text', "select"`,
			ddl: `CREATE TABLE "Grö""ße ✓" (id int PRIMARY KEY, "n""A me" text, "select" text);
				COMMENT ON COLUMN "Grö""ße ✓"."n""A me" IS '@name(as: "name")'; COMMENT ON COLUMN "Grö""ße ✓"."select" IS '@name(as: "text")'`,
			steps:    []string{`INSERT INTO "Grö""ße ✓" VALUES (1, 'a', 'b')`, `UPDATE "Grö""ße ✓" SET "select" = 'c'`, `UPDATE "Grö""ße ✓" SET id = 2`},
			sentinel: `INSERT INTO "Grö""ße ✓" VALUES (-1)`,
		},
		"a key of several columns": {
			table: "multi", fields: "b c", sql: "'b', b, 'c', c",
			ddl:      `CREATE TABLE multi (b text, id int, c text, PRIMARY KEY (id, b))`,
			steps:    []string{"INSERT INTO multi VALUES ('a', 1, 'x')", "UPDATE multi SET b = 'b'", "BEGIN; DELETE FROM multi; INSERT INTO multi VALUES ('b', 1, 'y'); COMMIT"},
			sentinel: "INSERT INTO multi VALUES ('', -1, '')",
		},
		"a unique index for a key": {
			table: "uniq", fields: "v", sql: "'v', v",
			ddl:      `CREATE TABLE uniq (id int NOT NULL, v text); CREATE UNIQUE INDEX ON uniq (id); CREATE UNIQUE INDEX ON uniq (v) WHERE v <> ''`,
			steps:    []string{"INSERT INTO uniq VALUES (1, 'x'), (2, 'y')", "UPDATE uniq SET id = id + 10", "DELETE FROM uniq WHERE v = 'x'"},
			sentinel: "INSERT INTO uniq VALUES (-1)",
		},
		"1,502 columns": {
			table: "wide", fields: "v c0 c1499", sql: "'v', v, 'c0', c0, 'c1499', c1499",
			ddl:      `CREATE TABLE wide (id int PRIMARY KEY, v text, ` + strings.Join(wide, ", ") + `)`,
			steps:    []string{"INSERT INTO wide (id, v) VALUES (1, 'x')", "UPDATE wide SET c1499 = -1", "ALTER TABLE wide DROP c700", "UPDATE wide SET c0 = -2"},
			sentinel: "INSERT INTO wide (id) VALUES (-1)",
		},
		"values out of line": {
			table: "toast", fields: "v n", sql: "'v', v, 'n', n",
			ddl: `CREATE TABLE toast (id int PRIMARY KEY, v text, n int); ALTER TABLE toast ALTER v SET STORAGE EXTERNAL`,
			steps: []string{
				"INSERT INTO toast VALUES (1, repeat('x', 100000), 1), (2, repeat('y', 9000), 1)", "UPDATE toast SET n = n + 1",
				"BEGIN; UPDATE toast SET n = n + 1; UPDATE toast SET n = n + 1 WHERE id = 2; COMMIT", "UPDATE toast SET id = id + 10",
			},
			sentinel: "INSERT INTO toast VALUES (-1, '', 0)",
		},
		"a generated column": {
			table: "gen", fields: "v", sql: "'v', v",
			ddl:      `CREATE TABLE gen (id int PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED)`,
			steps:    []string{"INSERT INTO gen VALUES (1, 2), (2, 3)", "UPDATE gen SET v = v + 1", "ALTER TABLE gen ALTER twice DROP EXPRESSION", "UPDATE gen SET v = v + 1"},
			sentinel: "INSERT INTO gen (id) VALUES (-1)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t, x.ddl)
			role := db.Role(t, "web_user")
			annotate := fmt.Sprintf(comment, x.table)
			if name == "a unique index for a key" {
				annotate = strings.Replace(annotate, "@subscribe", `@key(columns: ["id"]) @subscribe`, 1)
			}
			db.Exec(t, annotate+"GRANT SELECT ON "+x.table+" TO "+role)
			s := start(t, settings(t, db, role))
			m := follow(t, s.dial(t, role, map[string]any{"sub": "ana"}), "subscription { rows(snapshot: true) { kind rowId reason row { id "+x.fields+" } } }")
			for _, step := range x.steps {
				db.Exec(t, step)
			}
			db.Exec(t, x.sentinel)
			m.until(t, -1)
			if m.ended != "" {
				t.Fatal(m.ended)
			}
			conn, err := pgx.Connect(t.Context(), db.Admin)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close(t.Context())
			if d := m.differs(asRole(t, conn, role, "ana", "SELECT json_build_object('id', id, "+x.sql+") FROM "+x.table)); d != "" {
				t.Error(d)
			}
			if got := strings.Join(m.resets, " "); got != x.resets {
				t.Errorf("reset for %q, want %q", got, x.resets)
			}
		})
	}
}

// A table that leaves the publication is not served any more, and what commits meanwhile is not
// missed in silence: who resumes from before starts over.
//
// Covers C80, C122.
func TestATableThatLeavesThePublicationEndsItsSubscriptions(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := subscribeNotes(t, s, role, "")
	live := until(t, c, isKind("LIVE"))
	db.Exec(t, "ALTER PUBLICATION rowtide DROP TABLE notes")
	if got := ended(t, c); !strings.Contains(got, "SCHEMA_CHANGED") {
		t.Errorf("want SCHEMA_CHANGED, got %s", got)
	}
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'nobody hears of it')")
	db.Exec(t, "ALTER PUBLICATION rowtide ADD TABLE notes")
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'heard of again')")
	// The table is served again as soon as the stream has come there.
	again := s.dial(t, role, map[string]any{"sub": "ana"})
	for n := range 10_000 {
		if err := again.Subscribe(t.Context(), strconv.Itoa(n), `subscription { notes(after: "`+live.Cursor+`") { kind } }`, nil); err != nil {
			t.Fatal(err)
		}
		m, err := again.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(m.Payload), "GRAPHQL_VALIDATION_FAILED") {
			pgtest.One[int](t, db, "SELECT 1") // a round trip between two tries
			continue
		}
		if !strings.Contains(string(m.Payload), "RESYNC_REQUIRED") {
			t.Errorf("resumed over what was not published: %s", m.Payload)
		}
		return
	}
	t.Error("the table is not served again")
}
