package introspect_test

import (
	"fmt"
	"testing"

	"github.com/rowtide/rowtide/schema/introspect"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Covers R34.
func TestTheFingerprintFollowsEverythingThatLoadReads(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TYPE mood AS ENUM ('ok');
		CREATE TYPE pair AS (l mood);
		CREATE DOMAIN pairs AS pair[];
		CREATE FUNCTION me() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		CREATE SCHEMA deep; CREATE FUNCTION deep.er() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		CREATE FUNCTION deep.ly() RETURNS int LANGUAGE sql STABLE AS 'SELECT Deep.er()';
		CREATE FUNCTION twice(x int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT x * 2';
		CREATE TABLE teams (id int, name text);
		CREATE TABLE a (id int PRIMARY KEY, p pairs, t int GENERATED ALWAYS AS (twice(id)) STORED);
		CREATE TABLE later (id int);
		ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON a USING (id = me() AND id = deep.ly() AND id IN (SELECT teams.id FROM teams));
		COMMENT ON TABLE a IS '@subscribe'`)
	role, group := db.Role(t, "web_user"), db.Role(t, "grp")
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{role}}
	last, mark := fingerprintOf(t, conn, cfg), markOf(t, conn, cfg)
	if again := fingerprintOf(t, conn, cfg); again != last {
		t.Fatal("the fingerprint of an unchanged catalog changed")
	}
	for _, change := range []string{
		`ALTER TABLE a ADD COLUMN b int`,
		`ALTER TABLE a RENAME COLUMN b TO c`,
		`ALTER TABLE a DROP COLUMN c`,
		`ALTER TABLE a RENAME TO aa; ALTER TABLE aa RENAME TO a`,
		`ALTER TABLE a DISABLE ROW LEVEL SECURITY`,
		`ALTER TABLE a REPLICA IDENTITY FULL`,
		`ALTER TABLE a OWNER TO ` + role,
		`GRANT SELECT ON a TO ` + role,
		`GRANT SELECT (id) ON a TO ` + group,
		`REVOKE SELECT (id) ON a FROM ` + group,
		`GRANT USAGE ON SCHEMA public TO ` + role,
		`CREATE POLICY q ON a FOR SELECT USING (true)`,
		`ALTER POLICY q ON a TO ` + role,
		`ALTER POLICY q ON a USING (id > 7)`,
		`DROP POLICY q ON a`,
		`COMMENT ON TABLE a IS '@subscribe(field: "b")'`,
		`COMMENT ON COLUMN a.id IS 'the key'`,
		`COMMENT ON TABLE later IS '@subscribe'`,
		`COMMENT ON TABLE later IS NULL`,
		`CREATE UNIQUE INDEX a_t ON a (t)`,
		`ALTER INDEX a_t RENAME TO a_tt`,
		`DROP INDEX a_tt`,
		`ALTER TYPE mood ADD VALUE 'meh'`,
		`ALTER TYPE mood RENAME VALUE 'meh' TO 'hm'`,
		`COMMENT ON TYPE mood IS 'how it goes'`,
		`ALTER TYPE pair ADD ATTRIBUTE r int`,
		`COMMENT ON COLUMN pair.r IS 'right'`,
		`ALTER DOMAIN pairs SET NOT NULL`,
		// What deparsed expressions name, though nothing of table a changes.
		`ALTER TABLE teams RENAME TO groups`,
		`ALTER TABLE groups RENAME COLUMN id TO number`,
		`ALTER FUNCTION me() RENAME TO myself`,
		`ALTER FUNCTION twice(int) RENAME TO doubled`,
		`CREATE SCHEMA other; ALTER TABLE groups SET SCHEMA other`,
		`ALTER SCHEMA other RENAME TO another`,
		`CREATE OR REPLACE FUNCTION myself() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'`,
		`REVOKE EXECUTE ON FUNCTION myself() FROM PUBLIC`,
		`CREATE OR REPLACE FUNCTION deep.er() RETURNS int LANGUAGE sql STABLE AS 'SELECT 2'`,
		// What expressions mean, though nothing that they name changes.
		`CREATE FUNCTION another.length(text) RETURNS int LANGUAGE sql AS 'SELECT 7'`,
		`CREATE DOMAIN another.uuid AS text`,
		`CREATE FUNCTION another.same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR another.= (LEFTARG = int, RIGHTARG = int, FUNCTION = another.same)`,
		`REVOKE EXECUTE ON FUNCTION pg_catalog.uuid_eq(uuid, uuid) FROM PUBLIC`,
		`GRANT EXECUTE ON FUNCTION pg_catalog.uuid_eq(uuid, uuid) TO PUBLIC`,
		`CREATE FUNCTION pg_catalog.length(int) RETURNS int LANGUAGE sql AS 'SELECT 7'`,
		`CREATE FUNCTION another.touuid(int) RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid'; CREATE CAST (int AS uuid) WITH FUNCTION another.touuid(int)`,
		`DROP CAST (int AS uuid)`,
		// Roles, for which there are no event triggers.
		`GRANT ` + group + ` TO ` + role,
		`ALTER ROLE ` + group + ` BYPASSRLS`,
		`ALTER ROLE ` + role + ` BYPASSRLS`,
		`ALTER ROLE ` + role + ` NOINHERIT`,
		`REVOKE ` + group + ` FROM ` + role,
		`DROP TABLE a`,
	} {
		db.Exec(t, change)
		now := fingerprintOf(t, conn, cfg)
		if now == last {
			t.Errorf("not noticed: %s", change)
		}
		if !changedSince(t, &mark, conn, cfg) {
			t.Errorf("not noticed at a glance: %s", change)
		}
		last, mark = now, markOf(t, conn, cfg)
	}
}

func TestTheFingerprintIgnoresWhatLoadDoesNotRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int); COMMENT ON TABLE a IS '@subscribe'; CREATE TABLE other (id int)`)
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(t, "web_user")}}
	before, mark := fingerprintOf(t, conn, cfg), markOf(t, conn, cfg)
	for _, change := range []string{
		`ALTER TABLE other ADD COLUMN b int; COMMENT ON TABLE other IS 'nothing of ours'`,
		`CREATE TABLE another (id int); DROP TABLE another`,
		`CREATE TEMPORARY TABLE t (id int)`,
		`INSERT INTO a VALUES (1); ANALYZE a`,
		`CREATE INDEX ON other (id)`,
		`CREATE ROLE ` + db.Name + `; DROP ROLE ` + db.Name,
	} {
		db.Exec(t, change)
		if fingerprintOf(t, conn, cfg) != before {
			t.Errorf("changed by: %s", change)
		}
		if changedSince(t, &mark, conn, cfg) {
			t.Errorf("changed since the mark by: %s", change)
		}
	}
}

// A change that a mark was taken beside, of a transaction that was open then, is noticed as any other; and
// so is one that only takes something away.
func TestAMarkTellsWhatCommitsLater(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int, b int); COMMENT ON COLUMN a.b IS 'it goes'; COMMENT ON TABLE a IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(t, "web_user")}}
	tx, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SAVEPOINT s; ALTER TABLE a RENAME COLUMN id TO number`); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `CREATE TABLE between (id int)`)
	mark := markOf(t, conn, cfg)
	if changedSince(t, &mark, conn, cfg) {
		t.Error("changed by what has not been committed")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !changedSince(t, &mark, conn, cfg) {
		t.Error("what was committed later is not noticed")
	}
	mark = markOf(t, conn, cfg)
	db.Exec(t, `DELETE FROM pg_description WHERE objoid = 'a'::regclass AND objsubid = 2`)
	if !changedSince(t, &mark, conn, cfg) {
		t.Error("what was taken away is not noticed")
	}
}

func TestTemporaryTablesCostAGlance(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int); COMMENT ON TABLE a IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(t, "web_user")}}
	db.Exec(t, `CREATE TEMPORARY TABLE first (id int)`) // makes the schema of the session
	mark := markOf(t, conn, cfg)
	for _, step := range []struct {
		sql  string
		anew bool
	}{
		{`CREATE TEMPORARY TABLE t (id serial PRIMARY KEY, n int DEFAULT 7 CHECK (n > 0), j text); CREATE INDEX ON t (n)`, false},
		{`CREATE TEMPORARY TABLE u (id int); DROP TABLE u`, false},
		{`CREATE TABLE lasting (id int)`, true},
	} {
		before := mark
		db.Exec(t, step.sql)
		if changedSince(t, &mark, conn, cfg) || (before != mark) != step.anew {
			t.Errorf("the mark was made anew: %t, behind %s", before != mark, step.sql)
		}
	}
}

func markOf(t testing.TB, q introspect.DB, cfg introspect.Config) introspect.Mark {
	t.Helper()
	m, err := introspect.TakeMark(t.Context(), q, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func changedSince(t testing.TB, m *introspect.Mark, q introspect.DB, cfg introspect.Config) bool {
	t.Helper()
	changed, err := m.Changed(t.Context(), q, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func fingerprintOf(t testing.TB, q introspect.DB, cfg introspect.Config) string {
	t.Helper()
	f, err := introspect.Fingerprint(t.Context(), q, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// big makes a database of n annotated tables of 20 columns with two policies each.
func big(b *testing.B, n int) *pgtest.DB {
	b.Helper()
	return pgtest.New(b, fmt.Sprintf(`
		CREATE FUNCTION me() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		DO $$ BEGIN FOR i IN 1..%d LOOP
			EXECUTE format('CREATE TABLE t%%s (id int PRIMARY KEY, owner int, %%s)', i, (SELECT string_agg(format('c%%s text', c), ', ') FROM generate_series(1, 18) c));
			EXECUTE format('ALTER TABLE t%%s ENABLE ROW LEVEL SECURITY', i);
			EXECUTE format('CREATE POLICY p ON t%%s USING (owner = me())', i);
			EXECUTE format('CREATE POLICY q ON t%%s FOR SELECT USING (id IN (SELECT x.id FROM t1 x WHERE x.owner = me()))', i);
			EXECUTE format('COMMENT ON TABLE t%%s IS ''@subscribe''', i);
			EXECUTE format('GRANT SELECT ON t%%s TO PUBLIC', i);
		END LOOP; END $$`, n))
}

func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{20, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := big(b, n)
			cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(b, "a"), db.Role(b, "b")}}
			for b.Loop() {
				d, err := introspect.Load(b.Context(), db.Pool(b), cfg)
				if err != nil || len(d.Tables) != n {
					b.Fatal(len(d.Tables), err)
				}
			}
		})
	}
}

func BenchmarkGlance(b *testing.B) {
	for _, n := range []int{20, 300, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := big(b, n)
			cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(b, "a"), db.Role(b, "b")}, Related: true}
			pool := db.Pool(b)
			mark := markOf(b, pool, cfg)
			for b.Loop() {
				if changedSince(b, &mark, pool, cfg) {
					b.Fatal("changed")
				}
			}
		})
	}
}

func BenchmarkFingerprint(b *testing.B) {
	for _, n := range []int{20, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := big(b, n)
			cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(b, "a"), db.Role(b, "b")}}
			for b.Loop() {
				fingerprintOf(b, db.Pool(b), cfg)
			}
		})
	}
}
