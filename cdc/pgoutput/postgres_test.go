package pgoutput_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/pgoutput"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func expect(t *testing.T, got string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(strings.Join(want, "\n")+"\n", got); diff != "" {
		t.Errorf("stream differs (-want +got):\n%s", diff)
	}
}

// long is a text that does not compress well and so goes out of line (TOAST).
const long = `(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 80) i)`

// Covers C45, C46.
func TestUnchangedLongValueIsNeitherNullNorEmpty(t *testing.T) {
	t.Parallel()
	const schema = `
		CREATE DOMAIN prose AS text;
		CREATE TABLE docs (id int PRIMARY KEY, n int, t text, d prose, a text[], j jsonb);
		ALTER TABLE docs ALTER t SET STORAGE EXTERNAL, ALTER d SET STORAGE EXTERNAL, ALTER a SET STORAGE EXTERNAL, ALTER j SET STORAGE EXTERNAL;
		INSERT INTO docs SELECT 1, 0, ` + long + `, ` + long + `, ARRAY[` + long + `], to_jsonb(` + long + `);
		INSERT INTO docs VALUES (2, 0, NULL, '', '{}', 'null')`
	const update = `UPDATE docs SET n = n + 1`
	t.Run("default", func(t *testing.T) {
		t.Parallel()
		r := record(t, "ALL TABLES", schema)
		expect(t, r.changes(t, update),
			"update public.docs new('1', '1', unchanged, unchanged, unchanged, unchanged)",
			"update public.docs new('2', '1', NULL, '', '{}', 'null')")
	})
	t.Run("full", func(t *testing.T) {
		t.Parallel()
		r := record(t, "ALL TABLES", schema+"; ALTER TABLE docs REPLICA IDENTITY FULL")
		var got []*pgoutput.Change
		for _, m := range r.run(t, update) {
			if c, ok := m.(*pgoutput.Change); ok {
				got = append(got, c)
			}
		}
		if len(got) != 2 {
			t.Fatalf("%d changes, want 2", len(got))
		}
		want := pgtest.One[[]string](t, r.db, `SELECT ARRAY[id::text, n::text, t, d, a::text, j::text] FROM docs WHERE id = 1`)
		for i, v := range got[0].New {
			if v.Kind() != cdc.Text || v.Text() != want[i] {
				t.Errorf("column %d of the new image is not what the table holds: kind %d, %d bytes", i, v.Kind(), len(v.Text()))
			}
		}
		expect(t, describe(got[1])+"\n", "update public.docs old('2', '0', NULL, '', '{}', 'null') new('2', '1', NULL, '', '{}', 'null')")
	})
}

// Covers C47, C48, C51.
func TestOldImageFollowsTheReplicaIdentity(t *testing.T) {
	t.Parallel()
	r := record(t, "ALL TABLES", `
		CREATE TABLE kv (k int PRIMARY KEY, v text, u int NOT NULL);
		CREATE UNIQUE INDEX kv_u ON kv (u)`)
	expect(t, r.changes(t, `INSERT INTO kv VALUES (1, 'a', 10); UPDATE kv SET v = NULL; UPDATE kv SET k = 2; DELETE FROM kv`),
		"insert public.kv new('1', 'a', '10')",
		"update public.kv new('1', NULL, '10')",
		"update public.kv old('1', absent, absent) new('2', NULL, '10')",
		"delete public.kv old('2', absent, absent)")
	expect(t, r.changes(t, `INSERT INTO kv VALUES (1, 'a', 10);
		UPDATE kv SET v = 'b';
		ALTER TABLE kv REPLICA IDENTITY FULL;
		UPDATE kv SET v = 'c';
		ALTER TABLE kv REPLICA IDENTITY USING INDEX kv_u;
		UPDATE kv SET u = 11;
		DELETE FROM kv`),
		"insert public.kv new('1', 'a', '10')",
		"update public.kv new('1', 'b', '10')",
		"update public.kv old('1', 'b', '10') new('1', 'c', '10')",
		"update public.kv old(absent, absent, '10') new('1', 'c', '11')",
		"delete public.kv old(absent, absent, '11')")
}

// Covers C52, C83.
func TestDDLInsideATransactionChangesTheRelationFromThereOn(t *testing.T) {
	t.Parallel()
	r := record(t, "ALL TABLES", `
		CREATE TABLE t (a int, gone int, id int PRIMARY KEY, "Weird ""name" text);
		ALTER TABLE t DROP COLUMN gone`)
	var relations []*cdc.Relation
	var names []string
	for _, m := range r.run(t, `
		INSERT INTO t VALUES (1, 10, 'x');
		ALTER TABLE t ADD COLUMN b text DEFAULT 'd';
		INSERT INTO t VALUES (2, 20, 'y', 'z');
		ALTER TABLE t RENAME COLUMN b TO c;
		ALTER TABLE t DROP COLUMN a;
		INSERT INTO t VALUES (30, 'y', 'z')`) {
		c, ok := m.(*pgoutput.Change)
		if !ok {
			continue
		}
		relations = append(relations, c.Relation)
		var columns []string
		for i := range c.Relation.Columns {
			columns = append(columns, c.Relation.Columns[i].Name+"="+c.New[i].Text())
		}
		names = append(names, strings.Join(columns, ", "))
	}
	want := []string{`a=1, id=10, Weird "name=x`, `a=2, id=20, Weird "name=y, b=z`, `id=30, Weird "name=y, c=z`}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Fatalf("columns differ (-want +got):\n%s", diff)
	}
	if relations[0].OID != relations[2].OID || relations[0] == relations[1] || len(relations[0].Columns) != 3 {
		t.Errorf("relations are %v, want three descriptions of one table", relations)
	}
}

// Covers C57, C58.
func TestTruncateNamesThePublishedTables(t *testing.T) {
	t.Parallel()
	r := record(t, "TABLE parent, child", `
		CREATE TABLE parent (id serial PRIMARY KEY);
		CREATE TABLE child (id serial PRIMARY KEY, p int REFERENCES parent);
		CREATE TABLE secret (id serial PRIMARY KEY, p int REFERENCES parent)`)
	expect(t, r.changes(t, `TRUNCATE parent CASCADE`), "truncate public.parent public.child cascade=true restart=false")
	expect(t, r.changes(t, `TRUNCATE child RESTART IDENTITY`), "truncate public.child cascade=false restart=true")
	expect(t, r.changes(t, `TRUNCATE ONLY child`), "truncate public.child cascade=false restart=false")
}

// Covers C58, C60.
func TestPartitionsAppearAsTheirRootWherePublishedSo(t *testing.T) {
	t.Parallel()
	const schema = `
		CREATE TABLE m (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
		CREATE TABLE m_a PARTITION OF m FOR VALUES IN ('a');
		CREATE TABLE m_b PARTITION OF m FOR VALUES IN ('b');
		INSERT INTO m VALUES (1, 'a')`
	const move, empty = `UPDATE m SET region = 'b'`, `TRUNCATE m`
	t.Run("root", func(t *testing.T) {
		t.Parallel()
		r := record(t, "TABLE m WITH (publish_via_partition_root)", schema)
		expect(t, r.changes(t, move), "delete public.m old('1', 'a')", "insert public.m new('1', 'b')")
		expect(t, r.changes(t, empty), "truncate public.m cascade=false restart=false")
	})
	t.Run("leaves", func(t *testing.T) {
		t.Parallel()
		r := record(t, "TABLE m", schema)
		expect(t, r.changes(t, move), "delete public.m_a old('1', 'a')", "insert public.m_b new('1', 'b')")
		expect(t, r.changes(t, empty), "truncate public.m_a public.m_b cascade=false restart=false")
	})
}

func TestCascadeOfADeleteComesAfterIt(t *testing.T) {
	t.Parallel()
	r := record(t, "ALL TABLES", `
		CREATE TABLE teams (id int PRIMARY KEY);
		CREATE TABLE members (id int PRIMARY KEY, team int REFERENCES teams ON DELETE CASCADE);
		INSERT INTO teams VALUES (1);
		INSERT INTO members VALUES (7, 1)`)
	expect(t, r.changes(t, `DELETE FROM teams`), "delete public.teams old('1')", "delete public.members old('7', absent)")
}

// What a server sends by protocols that were not asked for stops the stream before anything of it is taken for a
// change: their messages are others, or longer, than those of protocol 1.
//
// Covers C69.
func TestMessagesOfLaterProtocolsAreNotTakenForThoseOfTheFirst(t *testing.T) {
	t.Parallel()
	r := record(t, "TABLE t", `CREATE TABLE t (id int PRIMARY KEY, filler text)`)
	protocols := map[string]int{"'proto_version', '2', 'streaming', 'on'": 9}
	version, err := strconv.Atoi(pgtest.One[string](t, r.db, "SHOW server_version_num"))
	if err != nil {
		t.Fatal(err)
	}
	if version >= 160000 {
		protocols["'proto_version', '4', 'streaming', 'parallel'"] = 25 // with where, and when, it was aborted
	}
	for protocol, abort := range protocols {
		r.db.Exec(t, `BEGIN; INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, 2000) n;
			SAVEPOINT a; INSERT INTO t SELECT n, repeat('y', 100) FROM generate_series(2001, 4000) n; ROLLBACK TO a; COMMIT; DELETE FROM t`)
		frames := r.framesOf(t, protocol)
		if frames[0][0] != 'S' {
			t.Fatalf("%s: the first message is %q, and no transaction that is streamed", protocol, frames[0][0])
		}
		if m, err := pgoutput.NewDecoder().Decode(frames[0]); err == nil {
			t.Errorf("%s: the first message is taken for %s", protocol, describe(m))
		}
		aborts := 0
		for _, f := range frames {
			if f[0] != 'A' {
				continue
			}
			aborts++
			m, err := pgoutput.NewDecoder().Decode(f)
			if _, ok := m.(*pgoutput.StreamAbort); len(f) != abort || ok != (abort == 9) || ok != (err == nil) {
				t.Errorf("%s: a stream abort of %d bytes gives %v, %v", protocol, len(f), m, err)
			}
			if longer := slices.Concat(f, make(frame, 16)); abort == 9 { // as protocol 4 has it, where the server does not speak it
				if m, err := pgoutput.NewDecoder().Decode(longer); err == nil {
					t.Errorf("%s: a longer stream abort gives %v", protocol, m)
				}
			}
		}
		if aborts == 0 {
			t.Errorf("%s: nothing was aborted", protocol)
		}
	}
}

// Covers C71.
func TestTablesOfNoColumnAndOf1600(t *testing.T) {
	t.Parallel()
	var columns []string
	for i := range 1600 {
		columns = append(columns, fmt.Sprintf("c%d int DEFAULT %d", i, i))
	}
	r := record(t, "ALL TABLES", `
		CREATE TABLE none ();
		ALTER TABLE none REPLICA IDENTITY FULL;
		CREATE TABLE many (`+strings.Join(columns, ",")+`);
		ALTER TABLE many REPLICA IDENTITY FULL`)
	expect(t, r.changes(t, `INSERT INTO none DEFAULT VALUES; DELETE FROM none`),
		"insert public.none new()", "delete public.none old()")
	for _, m := range r.run(t, `INSERT INTO many DEFAULT VALUES; UPDATE many SET c1599 = -1`) {
		if c, ok := m.(*pgoutput.Change); ok && c.Op == cdc.Update {
			if len(c.Old) != 1600 || c.Old[1599].Text() != "1599" || c.New[1599].Text() != "-1" || c.New[0].Text() != "0" {
				t.Errorf("update has images of %d and %d columns, last %q and %q", len(c.Old), len(c.New), c.Old[1599].Text(), c.New[1599].Text())
			}
			return
		}
	}
	t.Error("no update was streamed")
}

// Covers C73.
func TestOriginIsDecoded(t *testing.T) {
	t.Parallel()
	r := record(t, "ALL TABLES", `CREATE TABLE t (id int PRIMARY KEY)`)
	name := r.db.Name // origins belong to the whole cluster
	conn, err := r.db.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, sql := range []string{
		`SELECT pg_replication_origin_create('` + name + `')`,
		`SELECT pg_replication_origin_session_setup('` + name + `')`,
		`BEGIN`,
		`SELECT pg_replication_origin_xact_setup('1/23', now())`,
		`INSERT INTO t VALUES (1)`,
		`COMMIT`,
		`SELECT pg_replication_origin_session_reset()`,
		`SELECT pg_replication_origin_drop('` + name + `')`,
	} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Errorf("%s: %v", sql, err)
		}
	}
	conn.Release()
	expect(t, r.changes(t, `SELECT 1`), "origin "+name+" at 1/23", "insert public.t new('1')")
}

// Covers C74, C75.
func TestLogicalMessagesInsideAndOutsideOfTransactions(t *testing.T) {
	t.Parallel()
	r := record(t, "TABLE t", `CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)`)
	got := r.run(t, `
		SELECT pg_logical_emit_message(true, 'app', 'in');
		SELECT pg_logical_emit_message(false, 'app', '\x00ff'::bytea)`)
	var lines []string
	for _, m := range got {
		line, _, _ := strings.Cut(describe(m), " commit ")
		lines = append(lines, strings.Fields(line)[0])
	}
	// The message that belongs to no transaction goes out at once, before the commit.
	if diff := cmp.Diff("message begin message commit", strings.Join(lines, " ")); diff != "" {
		t.Errorf("order differs: %s", diff)
	}
	// Nothing flushes it but a commit that comes later; it stays outside of that.
	r.db.Exec(t, `SELECT pg_logical_emit_message(false, 'app', '\x00ff'::bytea)`)
	expect(t, r.changes(t, `INSERT INTO t VALUES (1)`), `message transactional=false app "\x00\xff"`, `insert public.t new('1')`)
	if got := r.run(t, `INSERT INTO other VALUES (1)`); len(got) != 0 {
		t.Errorf("a transaction of an unpublished table gave %d messages, want none since PostgreSQL 15", len(got))
	}
}

func TestOnlyWhatCommittedIsStreamed(t *testing.T) {
	t.Parallel()
	r := record(t, "ALL TABLES", `CREATE TABLE t (id int PRIMARY KEY, v text)`)
	expect(t, r.changes(t, `
		INSERT INTO t VALUES (1, 'a');
		DO $$ BEGIN INSERT INTO t VALUES (2, 'lost'); RAISE EXCEPTION 'no'; EXCEPTION WHEN OTHERS THEN NULL; END $$;
		INSERT INTO t VALUES (1, 'b') ON CONFLICT (id) DO UPDATE SET v = excluded.v;
		INSERT INTO t VALUES (1, 'c') ON CONFLICT DO NOTHING`),
		"insert public.t new('1', 'a')",
		"update public.t new('1', 'b')")
}
