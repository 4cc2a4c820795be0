package introspect_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema/introspect"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// What an Update takes from before is what a Load would read, after each change of whatever a
// definition is read from; and it goes on from each.
//
// Covers R34.
func TestAnUpdateFollowsEverythingThatLoadReads(t *testing.T) {
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
		CREATE TYPE tone AS ENUM ('low');
		CREATE COLLATION mine FROM "C";
		CREATE FUNCTION known(x int) RETURNS bool LANGUAGE sql STABLE RETURN EXISTS (SELECT FROM teams WHERE teams.id = x AND 'low'::tone = 'low'::tone);
		CREATE TABLE root (id int PRIMARY KEY, m mood, n text COLLATE mine) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
		CREATE TABLE lowest (id int NOT NULL, m mood, n text COLLATE mine);
		ALTER TABLE root ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON root USING (known(id) AND 'low'::tone = 'low'::tone);
		COMMENT ON TABLE root IS '@subscribe';
		CREATE TABLE parent (id int PRIMARY KEY); COMMENT ON TABLE parent IS '@subscribe';
		ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON a USING (id = me() AND id = deep.ly() AND id IN (SELECT teams.id FROM teams));
		COMMENT ON TABLE a IS '@subscribe'`)
	role, group := db.Role(t, "web_user"), db.Role(t, "grp")
	conn := connect(t, db, db.Login(t, "svc", role))
	cfgs := []introspect.Config{{Schemas: []string{"public"}, Roles: []string{role}, Publications: []string{db.Name}}}
	cfgs = append(cfgs, cfgs[0])
	cfgs[1].Related = true
	var last [2]*introspect.Reading
	for i, cfg := range cfgs {
		last[i] = update(t, conn, cfg, nil)
		if again := update(t, conn, cfg, last[i]); again != last[i] {
			t.Fatal("an unchanged catalog was read anew")
		}
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
		// A tree of partitions, and tables that inherit.
		`ALTER TABLE low ATTACH PARTITION lowest DEFAULT`,
		`ALTER TABLE root REPLICA IDENTITY FULL; ALTER TABLE low REPLICA IDENTITY FULL`,
		`ALTER TABLE lowest REPLICA IDENTITY FULL`,
		`ALTER TABLE low DETACH PARTITION lowest`,
		`CREATE TABLE child () INHERITS (parent)`,
		`DROP TABLE child`,
		// What functions and expressions name in turn.
		`ALTER TYPE tone RENAME VALUE 'low' TO 'deep'`,
		`ALTER COLLATION mine RENAME TO ours`,
		`ALTER TABLE another.groups RENAME COLUMN number TO num`,
		// Publications.
		`CREATE PUBLICATION ` + db.Name + ` FOR TABLE a`,
		`ALTER PUBLICATION ` + db.Name + ` ADD TABLE parent WHERE (id > 0)`,
		`ALTER PUBLICATION ` + db.Name + ` SET (publish = 'insert')`,
		`ALTER PUBLICATION ` + db.Name + ` SET TABLES IN SCHEMA public`,
		`DROP PUBLICATION ` + db.Name,
		// Roles, for which there are no event triggers.
		`GRANT ` + group + ` TO ` + role,
		`ALTER ROLE ` + group + ` BYPASSRLS`,
		`ALTER ROLE ` + role + ` BYPASSRLS`,
		`ALTER ROLE ` + role + ` NOINHERIT`,
		`REVOKE ` + group + ` FROM ` + role,
		`DROP TABLE a`,
	} {
		db.Exec(t, change)
		for i, cfg := range cfgs {
			now := update(t, conn, cfg, last[i])
			if now == last[i] {
				t.Errorf("not noticed: %s", change)
			}
			if d := cmp.Diff(update(t, conn, cfg, nil).Database, now.Database); d != "" {
				t.Fatalf("%s: reading on is another than reading anew (-anew +on):\n%s", change, d)
			}
			last[i] = now
		}
	}
}

func TestAnUpdateIgnoresWhatLoadDoesNotRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int); COMMENT ON TABLE a IS '@subscribe'; CREATE TABLE other (id int)`)
	role := db.Role(t, "web_user")
	conn := connect(t, db, db.Login(t, "svc", role))
	cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{role}}
	before := update(t, conn, cfg, nil)
	for _, change := range []string{
		`ALTER TABLE other ADD COLUMN b int; COMMENT ON TABLE other IS 'nothing of ours'`,
		`CREATE TABLE another (id int); DROP TABLE another`,
		`CREATE TEMPORARY TABLE t (id int)`,
		`INSERT INTO a VALUES (1); ANALYZE a`,
		`CREATE INDEX ON other (id)`,
		`CREATE ROLE ` + db.Name + `; DROP ROLE ` + db.Name,
	} {
		db.Exec(t, change)
		if update(t, conn, cfg, before) != before {
			t.Errorf("read anew after: %s", change)
		}
	}
}

// A change that a mark was taken beside, of a transaction that was open then, is noticed as any other; and
// so is one that only takes something away.
func TestAnUpdateTellsWhatCommitsLater(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int, b int); COMMENT ON COLUMN a.b IS 'it goes'; COMMENT ON TABLE a IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}}
	tx, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SAVEPOINT s; ALTER TABLE a RENAME COLUMN id TO number`); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, `CREATE TABLE between (id int)`)
	last := update(t, conn, cfg, nil)
	if update(t, conn, cfg, last) != last {
		t.Error("changed by what has not been committed")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := update(t, conn, cfg, last)
	if next == last {
		t.Error("what was committed later is not noticed")
	}
	db.Exec(t, `DELETE FROM pg_description WHERE objoid = 'a'::regclass AND objsubid = 2`)
	if update(t, conn, cfg, next) == next {
		t.Error("what was taken away is not noticed")
	}
}

// It runs alone: a mark also looks at memberships in roles, which all databases of the server share.
func TestTemporaryTablesCostAGlance(t *testing.T) {
	db := pgtest.New(t, `CREATE TABLE a (id int); COMMENT ON TABLE a IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	db.Exec(t, `CREATE TEMPORARY TABLE first (id int)`) // makes the schema of the session
	mark, err := introspect.TakeMark(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		sql    string
		stands bool
	}{
		{`CREATE TEMPORARY TABLE t (id serial PRIMARY KEY, n int DEFAULT 7 CHECK (n > 0), j text); CREATE INDEX ON t (n)`, true},
		{`CREATE TEMPORARY TABLE u (id int); DROP TABLE u`, true},
		{`CREATE TABLE lasting (id int)`, false},
	} {
		db.Exec(t, step.sql)
		if stands, err := mark.Stands(t.Context(), conn); stands != step.stands || err != nil {
			t.Errorf("the mark stands: %t, behind %s (%v)", stands, step.sql, err)
		}
	}
}

func update(t testing.TB, q introspect.DB, cfg introspect.Config, last *introspect.Reading) *introspect.Reading {
	t.Helper()
	r, err := introspect.Update(t.Context(), q, cfg, last)
	if err != nil {
		t.Fatal(err)
	}
	return r
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

// A meter tells what CPU time the server's process of one connection took, which hardly depends on what
// else runs on the machine.
type meter struct {
	conn *pgx.Conn
	of   string
}

func newMeter(b *testing.B, db *pgtest.DB) meter {
	b.Helper()
	conn, err := pgx.Connect(b.Context(), db.Admin)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(context.Background()) })
	return meter{conn, fmt.Sprintf("/proc/%d/schedstat", conn.PgConn().PID())}
}

// cpu is in nanoseconds; 0 where the system does not tell.
func (m meter) cpu() (n float64) {
	text, err := os.ReadFile(m.of)
	if err != nil {
		return 0
	}
	if _, err := fmt.Sscan(string(text), &n); err != nil {
		return 0
	}
	return n
}

// measure runs f and reports its CPU time in the server, for each run.
func (m meter) measure(b *testing.B, f func(i int)) {
	b.Helper()
	var spent float64
	for i := 0; b.Loop(); i++ {
		before := m.cpu()
		f(i)
		spent += m.cpu() - before
	}
	b.ReportMetric(spent/1e6/float64(b.N), "server-CPU-ms/op")
}

// What it costs to read everything, to look whether anything changed, and to read on where one table
// did.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{20, 1000} {
		db := big(b, n)
		m := newMeter(b, db)
		cfg := introspect.Config{Schemas: []string{"public"}, Roles: []string{db.Role(b, "a"), db.Role(b, "b")}}
		last := update(b, m.conn, cfg, nil)
		b.Run(fmt.Sprintf("all/%d", n), func(b *testing.B) {
			m.measure(b, func(int) { update(b, m.conn, cfg, nil) })
		})
		b.Run(fmt.Sprintf("nothing/%d", n), func(b *testing.B) {
			m.measure(b, func(int) {
				if update(b, m.conn, cfg, last) != last {
					b.Fatal("read anew")
				}
			})
		})
		b.Run(fmt.Sprintf("column/%d", n), func(b *testing.B) {
			m.measure(b, func(i int) {
				db.Exec(b, fmt.Sprintf("ALTER TABLE t7 DROP COLUMN IF EXISTS more%d, ADD COLUMN more%d int", i, i+1))
				next := update(b, m.conn, cfg, last)
				if next == last {
					b.Fatal("not noticed")
				}
				last = next
			})
		})
	}
}
