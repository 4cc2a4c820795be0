package migrations_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A message is a logical message in our prefix as the slot has it.
type message struct {
	xid     uint32
	content string
}

// A tap reads a database's logical messages.
type tap struct {
	db   *pgtest.DB
	slot string
	key  []byte
}

func newTap(t *testing.T, db *pgtest.DB) *tap {
	t.Helper()
	i, err := migrations.ReadInstallation(t.Context(), db.Pool(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &tap{db: db, slot: db.Name + "_tap", key: i.MessageKey}
	db.Exec(t, `SELECT pg_create_logical_replication_slot('`+p.slot+`', 'test_decoding')`)
	return p
}

// read takes what has come since the last read.
func (p *tap) read(t *testing.T) []message {
	t.Helper()
	rows, err := p.db.Pool(t).Query(t.Context(), `SELECT xid::text::int8, substring(data FROM 'content:(.*)$')
		FROM pg_logical_slot_get_changes($1, NULL, NULL) WHERE data LIKE 'message: transactional: 1 prefix: rowtide,%'`, p.slot)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m message, err error) {
		return m, row.Scan(&m.xid, &m.content)
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (p *tap) verifies(m message) bool {
	return migrations.Verify([]byte(m.content), p.key, m.xid)
}

func TestEveryChangeOfTheCatalogIsAnnouncedInItsTransaction(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `
		CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TYPE mood AS ENUM ('ok'); CREATE DOMAIN d AS int;
		CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; CREATE SCHEMA s; CREATE VIEW w AS SELECT 1 AS x`)
	role := db.Role(t, "web_user")
	p := newTap(t, db)
	for _, ddl := range []string{
		`CREATE TABLE b (id int)`, `ALTER TABLE a ADD COLUMN x int`, `ALTER TABLE a RENAME COLUMN x TO y`, `ALTER TABLE a DROP COLUMN y`,
		`ALTER TABLE a ENABLE ROW LEVEL SECURITY`, `CREATE POLICY p ON a USING (true)`, `ALTER POLICY p ON a USING (false)`, `DROP POLICY p ON a`,
		`COMMENT ON TABLE a IS '@subscribe'`, `COMMENT ON COLUMN a.v IS '@omit'`, `GRANT SELECT ON a TO ` + role, `REVOKE SELECT ON a FROM ` + role,
		`GRANT USAGE ON SCHEMA s TO ` + role, `ALTER TYPE mood ADD VALUE 'meh'`, `ALTER DOMAIN d SET NOT NULL`,
		`CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'`, `ALTER FUNCTION f() RENAME TO g`, `DROP FUNCTION g()`,
		`ALTER SCHEMA s RENAME TO ss`, `DROP SCHEMA ss`, `CREATE UNIQUE INDEX i ON a (v)`, `ALTER INDEX i RENAME TO j`, `DROP INDEX j`,
		`CREATE INDEX CONCURRENTLY c ON a (v)`, `ALTER VIEW w RENAME TO ww`, `ALTER TABLE a REPLICA IDENTITY FULL`,
		`ALTER PUBLICATION rowtide ADD TABLE a`, `DROP OWNED BY ` + role, `DROP TABLE a`,
	} {
		db.Exec(t, ddl)
		got := p.read(t)
		if len(got) == 0 {
			t.Errorf("not announced: %s", ddl)
		}
		for _, m := range got {
			if !p.verifies(m) {
				t.Errorf("%s: %s does not verify in transaction %d", ddl, m.content, m.xid)
			}
		}
	}
	tx, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // committed below
	if _, err := tx.Exec(t.Context(), `CREATE TABLE c (id int); SAVEPOINT s; ALTER TABLE c ADD x int; ROLLBACK TO s`); err != nil {
		t.Fatal(err)
	}
	xid := uint32(one[int64](t, tx, `SELECT pg_current_xact_id()::text::int8`))
	if early := p.read(t); len(early) != 0 {
		t.Error("announced before the commit")
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := p.read(t); len(got) != 1 || got[0].xid != xid || !p.verifies(got[0]) {
		t.Errorf("messages %+v of transaction %d", got, xid)
	}
	db.Exec(t, `BEGIN; CREATE TABLE e (id int); ROLLBACK`)
	if got := p.read(t); len(got) != 0 {
		t.Errorf("announced though rolled back: %+v", got)
	}
}

func one[T any](t *testing.T, q interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, sql string,
) T {
	t.Helper()
	var v T
	if err := q.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// A message names the relations that its command concerns, the tables of indexes and policies and the
// roots of partitions among them; it names none where it may be more than relations.
func TestAnAnnouncementNamesTheRelationsConcerned(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int) PARTITION BY LIST (id);
		CREATE TABLE c (id int REFERENCES a); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'`)
	role := db.Role(t, "web_user")
	p := newTap(t, db)
	for _, x := range []struct{ ddl, want string }{
		{`ALTER TABLE a ADD x int`, "a"},
		{`ALTER TABLE a DROP x`, "a"},
		{`COMMENT ON COLUMN a.v IS 'x'`, "a"},
		{`CREATE POLICY p ON a USING (true)`, "a"},
		{`ALTER POLICY p ON a USING (false)`, "a"},
		{`CREATE INDEX i ON a (v)`, "a"},
		{`CREATE TABLE b1 PARTITION OF b FOR VALUES IN (1)`, "b"},
		{`ALTER TABLE b1 REPLICA IDENTITY FULL`, "b"},
		{`ALTER TABLE c ADD x int`, "c"},
		{`DROP POLICY p ON a`, "*"},
		{`GRANT SELECT ON a TO ` + role, "*"},
		{`CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'`, "*"},
		{`CREATE SCHEMA s`, "*"},
		{`DROP SCHEMA s`, "*"},
		{`ALTER PUBLICATION rowtide ADD TABLE a`, "*"},
		{`DROP OWNED BY ` + role, "*"},
		{`DROP TABLE a CASCADE`, "a"},
	} {
		oid := pgtest.One[uint32](t, db, `SELECT coalesce(to_regclass($1)::oid, 0)`, x.want)
		db.Exec(t, x.ddl)
		named := false
		for _, m := range p.read(t) {
			relations, known := migrations.Announced([]byte(m.content))
			if known != (x.want != "*") {
				t.Errorf("%s: says which relations: %t", x.ddl, known)
			}
			named = named || slices.Contains(relations, oid)
		}
		if named != (x.want != "*") {
			t.Errorf("%s: %s is named: %t", x.ddl, x.want, named)
		}
	}
}

// What the event triggers cost an application that makes and drops temporary tables, or permanent ones,
// all the time.
func BenchmarkTablesMadeAndDropped(b *testing.B) {
	for name, sql := range map[string]string{
		"temporary": "CREATE TEMPORARY TABLE x (id int PRIMARY KEY, v text); DROP TABLE x",
		"permanent": "CREATE TABLE x (id int PRIMARY KEY, v text); DROP TABLE x",
	} {
		b.Run(name, func(b *testing.B) {
			plain := pgtest.New(b)
			db, _ := installed(b)
			took := map[*pgtest.DB][]time.Duration{}
			for b.Loop() {
				for _, of := range []*pgtest.DB{plain, db} {
					began := time.Now()
					of.Exec(b, sql)
					took[of] = append(took[of], time.Since(began))
				}
			}
			median := func(of *pgtest.DB) float64 {
				slices.Sort(took[of])
				return took[of][len(took[of])/2].Seconds() * 1000
			}
			b.ReportMetric(median(plain), "ms-without")
			b.ReportMetric(median(db), "ms-with")
			b.ReportMetric(median(db)/median(plain), "ratio")
		})
	}
}

func TestWhatConcernsNobodyIsNotAnnounced(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE a (id int PRIMARY KEY)`)
	p := newTap(t, db)
	db.Exec(t, `
		CREATE TEMPORARY TABLE t (id serial PRIMARY KEY, v text); ALTER TABLE t ADD COLUMN x int; CREATE INDEX ON t (x);
		COMMENT ON TABLE t IS '@subscribe'; COMMENT ON COLUMN t.x IS '@omit'; ALTER TABLE t DROP COLUMN x; DROP TABLE t;
		CREATE TEMPORARY TABLE u AS SELECT 1 AS x; CREATE TEMPORARY VIEW v AS SELECT 1;
		CREATE TEMPORARY TABLE w (id int) ON COMMIT DROP`)
	db.Exec(t, `INSERT INTO a VALUES (1); ANALYZE a; TRUNCATE a; REINDEX TABLE a`)
	if got := p.read(t); len(got) != 0 {
		t.Errorf("messages %+v", got)
	}
}

func TestSessionsOfReplicasAnnounceToo(t *testing.T) {
	t.Parallel()
	db, _ := installed(t)
	p := newTap(t, db)
	db.Exec(t, `SET LOCAL session_replication_role = replica; CREATE TABLE a (id int)`)
	if got := p.read(t); len(got) != 1 {
		t.Errorf("%d messages", len(got))
	}
}

// Whatever happens to Rowtide's objects, the application's migrations go on.
func TestAFailureOfOursNeverFailsTheUsersDDL(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{
		`DELETE FROM rowtide.installation`,
		`DROP TABLE rowtide.installation`,
		`DROP FUNCTION rowtide.hmac_sha256`,
		`DROP FUNCTION rowtide.follow_partitions`,
		`DROP TABLE rowtide.replica_identity`,
		`DROP TABLE rowtide.created`,
		`CREATE OR REPLACE FUNCTION rowtide.hmac_sha256(key bytea, message bytea) RETURNS bytea LANGUAGE sql AS 'SELECT (1 / 0)::text::bytea'`,
		`ALTER TABLE rowtide.installation OWNER TO nobody_special`,
		`DROP SCHEMA rowtide CASCADE`,
	} {
		db, _ := installed(t, `CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)`)
		syncTables(t, db, full("parts"))
		role := db.Role(t, "maker")
		db.Exec(t, strings.ReplaceAll(broken, "nobody_special", role))
		db.Exec(t, fmt.Sprintf(`GRANT CREATE ON SCHEMA public TO %s; SET LOCAL ROLE %[1]s; CREATE TABLE a (id int);
			ALTER TABLE a ADD x int; COMMENT ON TABLE a IS 'x'; DROP TABLE a`, role))
		db.Exec(t, `CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1); UPDATE parts SET id = 2`)
	}
}

func TestAPartitionThatCannotFollowIsAnnouncedAllTheSame(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id)`)
	syncTables(t, db, full("parts"))
	p := newTap(t, db)
	db.Exec(t, `DROP TABLE rowtide.replica_identity`)
	p.read(t)
	db.Exec(t, `CREATE TABLE part PARTITION OF parts DEFAULT`)
	if got := p.read(t); len(got) != 1 || !p.verifies(got[0]) {
		t.Errorf("messages %+v", got)
	}
}

// Whoever may make tables needs no right on Rowtide's objects for being announced, and gets none.
func TestOrdinaryRolesAreAnnouncedWithoutRightsOfTheirOwn(t *testing.T) {
	t.Parallel()
	db, _ := installed(t)
	p := newTap(t, db)
	role := db.Role(t, "maker")
	db.Exec(t, `GRANT CREATE ON SCHEMA public TO `+role)
	p.read(t)
	// The trigger runs as a superuser: what the role puts before pg_catalog must not be called.
	db.Exec(t, `SET LOCAL ROLE `+role+`; SET LOCAL search_path = public, pg_catalog;
		CREATE FUNCTION public.encode(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT 'called by ' || current_user $$`)
	if got := p.read(t); len(got) != 1 || !p.verifies(got[0]) {
		t.Errorf("messages %+v", got)
	}
	for _, sql := range []string{
		`SELECT * FROM rowtide.installation`, `SELECT rowtide.hmac_sha256('', '')`, `SELECT rowtide.follow_partitions()`, `INSERT INTO rowtide.created VALUES ('slot', 'x')`,
	} {
		if _, err := db.Pool(t).Exec(t.Context(), `BEGIN; SET LOCAL ROLE `+role+`; `+sql+`; COMMIT`); err == nil {
			t.Errorf("%s: the role may do that", sql)
		}
	}
}

// Any login can write a logical message with our prefix.
//
// Covers S63.
func TestForgedMessagesAreRejected(t *testing.T) {
	t.Parallel()
	db, _ := installed(t)
	p := newTap(t, db)
	db.Exec(t, `CREATE TABLE a (id int)`)
	genuine := p.read(t)
	if len(genuine) != 1 || !p.verifies(genuine[0]) {
		t.Fatalf("messages %+v", genuine)
	}
	stranger := connect(t, db.URL(db.Login(t, "stranger")))
	for _, content := range []string{
		genuine[0].content, // in another transaction
		"", "v1", "v1 ", "v1  ", "v1 00 1 catalog", strings.Replace(genuine[0].content, "v1", "v2", 1),
		strings.Replace(genuine[0].content, "catalog", "catalogue", 1), genuine[0].content + " ", strings.ToUpper(genuine[0].content),
	} {
		if _, err := stranger.Exec(t.Context(), `SELECT pg_logical_emit_message(true, 'rowtide', $1::text)`, content); err != nil {
			t.Fatal(err)
		}
		if got := p.read(t); len(got) != 1 || p.verifies(got[0]) {
			t.Errorf("%q is taken for genuine: %+v", content, got)
		}
	}
	// Rewritten for the transaction that it is sent in: the signature is of another.
	parts := strings.Fields(genuine[0].content)
	sql := fmt.Sprintf(`SELECT pg_logical_emit_message(true, 'rowtide', 'v1 %s ' || pg_current_xact_id()::text || ' catalog')`, parts[1])
	if _, err := stranger.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
	if got := p.read(t); len(got) != 1 || p.verifies(got[0]) {
		t.Errorf("messages %+v", got)
	}
	if migrations.Verify([]byte(genuine[0].content), nil, genuine[0].xid) || migrations.Verify([]byte(genuine[0].content), make([]byte, 32), genuine[0].xid) {
		t.Error("verified with another key")
	}
}
