package migrations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A published table without a replica identity makes the application's own UPDATE and DELETE fail.
//
// Covers C49.
func TestTheApplicationsUpdatesNeverFailForBeingPublished(t *testing.T) {
	t.Parallel()
	const write = `INSERT INTO %[1]s VALUES (1, 'a'); UPDATE %[1]s SET v = 'b'; DELETE FROM %[1]s`
	tables := map[string]string{
		"no_key":  `CREATE TABLE no_key (id int, v text)`,
		"nothing": `CREATE TABLE nothing (id int PRIMARY KEY, v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING`,
		"index_gone": `CREATE TABLE index_gone (id int NOT NULL, v text); CREATE UNIQUE INDEX x ON index_gone (id);
			ALTER TABLE index_gone REPLICA IDENTITY USING INDEX x; DROP INDEX x`,
		"deferred": `CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE, v text)`,
		"keyed":    `CREATE TABLE keyed (id int PRIMARY KEY, v text)`,
	}
	for name, create := range tables {
		db, _ := installed(t, create)
		was := identity(t, db, name)
		if name == "index_gone" {
			was = "d" // there is no index to go back to
		}
		try := func(when string) {
			if _, err := db.Pool(t).Exec(t.Context(), fmt.Sprintf(write, name)); err != nil {
				t.Errorf("%s, %s: %v", name, when, err)
			}
		}
		try("before")
		syncTables(t, db, full(name))
		equal(t, members(t, db, "rowtide"), name)
		try("published")
		syncTables(t, db, insertOnly(name))
		equal(t, members(t, db, "rowtide"))
		equal(t, members(t, db, "rowtide_insert"), name)
		if identity(t, db, name) != was {
			t.Errorf("%s has identity %s as a table of inserts, before %s", name, identity(t, db, name), was)
		}
		try("published for inserts")
		syncTables(t, db, full(name))
		try("published again")
		syncTables(t, db)
		equal(t, members(t, db, "rowtide"))
		equal(t, members(t, db, "rowtide_insert"))
		try("withdrawn")
	}
}

// Restored to what it was, the table could not serve a publication that came later.
//
// Covers C49.
func TestAnIdentityThatAnotherPublicationNeedsIsNotRestored(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE a (id int); CREATE TABLE keyed (id int PRIMARY KEY)`)
	syncTables(t, db, full("a"), full("keyed"))
	db.Exec(t, `CREATE PUBLICATION theirs FOR ALL TABLES`)
	syncTables(t, db)
	db.Exec(t, `INSERT INTO a VALUES (1); UPDATE a SET id = 2; INSERT INTO keyed VALUES (1); UPDATE keyed SET id = 2`)
	if identity(t, db, "a") != "f" || identity(t, db, "keyed") != "d" {
		t.Errorf("identities %s and %s", identity(t, db, "a"), identity(t, db, "keyed"))
	}
	db.Exec(t, `DROP PUBLICATION theirs`)
	if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Fatal(err)
	}
	if identity(t, db, "a") != "d" {
		t.Error("it was forgotten")
	}
}

// The publications are there before any slot can be, and before there is any table: a slot that is
// older than a publication cannot be read, ever.
//
// Covers C79.
func TestASlotMadeAfterSetupReadsBothPublications(t *testing.T) {
	t.Parallel()
	db, cfg := installed(t, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE log (id int); CREATE TABLE b (id int)`)
	if n := pgtest.One[int](t, db, `SELECT count(*) FROM pg_replication_slots WHERE database = current_database()`); n != 0 {
		t.Error("setup made a slot")
	}
	db.Exec(t, `SELECT pg_create_logical_replication_slot('`+cfg.Slot+`', 'pgoutput')`)
	db.Exec(t, `INSERT INTO a VALUES (1)`) // not published
	equal(t, changes(t, db, cfg.Slot))
	syncTables(t, db, full("a"), insertOnly("log"))
	db.Exec(t, `INSERT INTO a VALUES (2)`)
	db.Exec(t, `UPDATE a SET id = 3 WHERE id = 2`)
	db.Exec(t, `INSERT INTO log VALUES (1)`)
	db.Exec(t, `UPDATE log SET id = 2`) // inserts alone
	db.Exec(t, `TRUNCATE log`)
	db.Exec(t, `INSERT INTO b VALUES (1)`)
	equal(t, changes(t, db, cfg.Slot), "I", "U", "I", "T")
}

func TestMembershipIsExactlyTheWantedTables(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int)`)
	a := migrations.Table{Schema: "app", Name: "a", Full: true}
	syncTables(t, db, a, full("b"), insertOnly("c"))
	db.Exec(t, `CREATE TABLE app.later (id int)`)
	equal(t, members(t, db, "rowtide"), "app.a", "b")
	equal(t, members(t, db, "rowtide_insert"), "c")
	db.Exec(t, `ALTER PUBLICATION rowtide ADD TABLE app.later`)
	syncTables(t, db, full("b"), full("c"))
	equal(t, members(t, db, "rowtide"), "b", "c")
	equal(t, members(t, db, "rowtide_insert"))
	if identity(t, db, "app.a") != "d" || identity(t, db, "c") != "f" {
		t.Error("identities are not those of the annotations")
	}
	for _, hand := range []string{
		`ALTER PUBLICATION rowtide SET (publish = 'insert')`,
		`ALTER PUBLICATION rowtide SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)`,
		`ALTER PUBLICATION rowtide SET (publish_via_partition_root = true); ALTER PUBLICATION rowtide ADD TABLES IN SCHEMA app`,
	} {
		db.Exec(t, hand)
		_, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.Admin, Tables: []migrations.Table{full("b")}})
		if err == nil || !strings.Contains(err.Error(), "changed by hand") {
			t.Errorf("%s: %v", hand, err)
		}
	}
}

func TestAPublicationOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	for _, theirs := range []string{`CREATE PUBLICATION rowtide FOR ALL TABLES`, `CREATE PUBLICATION rowtide_insert FOR TABLE a`} {
		db := pgtest.New(t, `CREATE TABLE a (id int PRIMARY KEY)`, theirs)
		before := strs(t, db, `SELECT p::text FROM pg_publication p UNION ALL SELECT r::text FROM pg_publication_rel r`)
		cfg := setupConfig(db, db.Role(t, "web_user"))
		cfg.Tables = []migrations.Table{full("a")}
		_, err := migrations.Setup(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), "choose another --publication") {
			t.Errorf("error %v", err)
		}
		if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
			t.Error(err)
		}
		equal(t, strs(t, db, `SELECT p::text FROM pg_publication p UNION ALL SELECT r::text FROM pg_publication_rel r`), before...)
	}
}

// Covers C77, C84.
func TestTablesThatCannotBePublishedAreRefusedAndTheOthersDone(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `
		CREATE TABLE good (id int PRIMARY KEY);
		CREATE VIEW v AS SELECT * FROM good;
		CREATE UNLOGGED TABLE u (id int PRIMARY KEY);
		CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE part PARTITION OF parts DEFAULT;
		CREATE TABLE keyless (id int) PARTITION BY RANGE (id);
		CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child () INHERITS (parent);
		CREATE TABLE listed (id int PRIMARY KEY, v text); CREATE PUBLICATION theirs FOR TABLE listed (id)`)
	want := map[string]string{
		"gone": "does not exist", "v": "no table", "u": "SET LOGGED", "part": "is a partition",
		"keyless": "needs a primary key", "parent": "inheritance", "listed": "publication theirs publishes only some of its columns",
	}
	tables := []migrations.Table{full("good")}
	for name := range want {
		tables = append(tables, full(name))
	}
	r, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.Admin, Tables: tables})
	var refused *migrations.RefusedError
	if !errors.As(err, &refused) || len(refused.Steps) != len(want) {
		t.Fatalf("%v\n%s", err, r)
	}
	for _, s := range refused.Steps {
		for name, why := range want {
			if strings.Contains(s.What, `."`+name+`"`) && !strings.Contains(s.Why, why) {
				t.Errorf("%s, want %s", s, why)
			}
		}
	}
	equal(t, members(t, db, "rowtide"), "good")
	db.Exec(t, `INSERT INTO listed VALUES (1, 'a'); UPDATE listed SET v = 'b'; INSERT INTO child VALUES (1); UPDATE child SET id = 2`)
	// Inserts alone need no identity, so a column list elsewhere is in nobody's way.
	syncTables(t, db, full("good"), insertOnly("listed"), insertOnly("keyless"))
	equal(t, members(t, db, "rowtide_insert"), "keyless", "listed")
}

func TestATableOfAnotherOwnerIsRefusedByName(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE a (id int PRIMARY KEY)`)
	admin := db.Login(t, "admin")
	db.Exec(t, fmt.Sprintf(`GRANT ALL ON SCHEMA rowtide TO %[1]s; GRANT ALL ON ALL TABLES IN SCHEMA rowtide TO %[1]s;
		ALTER PUBLICATION rowtide OWNER TO %[1]s; ALTER PUBLICATION rowtide_insert OWNER TO %[1]s`, admin))
	_, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.URL(admin), Tables: []migrations.Table{full("a")}})
	if err == nil || !strings.Contains(err.Error(), "does not own it") {
		t.Errorf("error %v", err)
	}
}

// ALTER TABLE ... REPLICA IDENTITY does not reach the partitions, and rows are written to them.
func TestPartitionsAreFullTooAlsoThoseMadeLater(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `
		CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (id);
		CREATE TABLE lowest PARTITION OF low DEFAULT;
		CREATE TABLE other (id int PRIMARY KEY) PARTITION BY RANGE (id)`)
	syncTables(t, db, full("parts"))
	all := func(want string) {
		t.Helper()
		for _, name := range strs(t, db, `SELECT relid::regclass::text FROM pg_partition_tree('parts')`) {
			if identity(t, db, name) != want {
				t.Errorf("%s has identity %s", name, identity(t, db, name))
			}
		}
	}
	all("f")
	db.Exec(t, `
		CREATE TABLE mid PARTITION OF parts FOR VALUES FROM (10) TO (20);
		CREATE TABLE high (id int PRIMARY KEY, v text); ALTER TABLE parts ATTACH PARTITION high FOR VALUES FROM (20) TO (30);
		CREATE TABLE top (id int NOT NULL, v text) PARTITION BY RANGE (id);
		CREATE TABLE topmost PARTITION OF top DEFAULT;
		ALTER TABLE parts ATTACH PARTITION top FOR VALUES FROM (30) TO (40);
		CREATE TABLE not_ours PARTITION OF other DEFAULT`)
	all("f")
	if identity(t, db, "not_ours") != "d" {
		t.Error("a partition of a table that is not published was changed")
	}
	db.Exec(t, `DROP EVENT TRIGGER rowtide_ddl; CREATE TABLE rest PARTITION OF parts DEFAULT`)
	if identity(t, db, "rest") != "d" {
		t.Fatal("who changed it?")
	}
	syncTables(t, db, full("parts"))
	all("f")
	syncTables(t, db)
	all("d")
}

func TestWideValuesWantAYes(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `
		CREATE TABLE docs (id int PRIMARY KEY, n int, body text);
		ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
		INSERT INTO docs SELECT i, i, repeat('x', 100000) FROM generate_series(1, 5) i;
		CREATE TABLE narrow (id int PRIMARY KEY, v text); INSERT INTO narrow SELECT i, 'value' FROM generate_series(1, 5) i;
		CREATE TABLE empty (id int PRIMARY KEY, v text)`)
	tables := []migrations.Table{full("docs"), full("narrow"), full("empty")}
	r, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.Admin, Tables: tables})
	if err == nil || !strings.Contains(err.Error(), "--yes") || !strings.Contains(err.Error(), `"docs"`) {
		t.Fatalf("%v\n%s", err, r)
	}
	equal(t, members(t, db, "rowtide"), "empty", "narrow")
	if identity(t, db, "docs") != "d" {
		t.Error("the identity was changed all the same")
	}
	if !strings.Contains(r.String(), `"narrow" in publication rowtide, with REPLICA IDENTITY FULL (the WAL of its updates about 1.`) {
		t.Errorf("no estimate:\n%s", r)
	}
	if _, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.Admin, Tables: tables, Yes: true}); err != nil {
		t.Fatal(err)
	}
	equal(t, members(t, db, "rowtide"), "docs", "empty", "narrow")
	// Once it is so, nobody is asked again.
	syncTables(t, db, tables...)
}

// Where one that nobody is served cannot be published, PostgreSQL is asked, and that is no error: setup
// of a database that went well before goes well now.
func TestWhatPoliciesAskIsLeftOutWhereItCannotBePublished(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `
		CREATE TABLE served (id int PRIMARY KEY);
		CREATE TABLE members (team int, who text);
		CREATE UNLOGGED TABLE u (id int PRIMARY KEY);
		CREATE TABLE docs (id int PRIMARY KEY, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL;
		INSERT INTO docs SELECT i, repeat('x', 100000) FROM generate_series(1, 5) i`)
	tables := []migrations.Table{full("served")}
	for _, name := range []string{"members", "u", "docs"} {
		tables = append(tables, migrations.Table{Schema: "public", Name: name, Full: true, Asked: true})
	}
	r := syncTables(t, db, tables...)
	equal(t, members(t, db, "rowtide"), "members", "served")
	if identity(t, db, "members") != "f" || identity(t, db, "docs") != "d" {
		t.Errorf("identities %s and %s", identity(t, db, "members"), identity(t, db, "docs"))
	}
	why := whyOf(r, migrations.Skipped)
	for _, want := range []string{"SET LOGGED", "accept it with --yes", `"docs", which policies ask, in publication rowtide: PostgreSQL is asked`} {
		if !strings.Contains(why, want) {
			t.Errorf("%q is not said:\n%s", want, why)
		}
	}
	db.Exec(t, "INSERT INTO members VALUES (1, 'ana'); UPDATE members SET who = 'ben'; DELETE FROM members") // it has no key
	if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Fatal(err)
	}
	if identity(t, db, "members") != "d" {
		t.Error("its identity was not restored")
	}
}

func TestALockedTableIsGivenUpAndTheOthersDone(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE busy (id int PRIMARY KEY); CREATE TABLE idle (id int PRIMARY KEY)`)
	tx, err := db.Pool(t).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // it only holds a lock
	if _, err := tx.Exec(t.Context(), `LOCK TABLE busy IN ROW SHARE MODE`); err != nil {
		t.Fatal(err)
	}
	cfg := migrations.SyncConfig{AdminURL: db.Admin, Tables: []migrations.Table{full("busy"), full("idle")}, LockTimeout: 5 * time.Millisecond}
	_, err = migrations.Sync(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), `"busy"`) || !strings.Contains(err.Error(), "tried 5 times") {
		t.Errorf("error %v", err)
	}
	equal(t, members(t, db, "rowtide"), "idle")
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := migrations.Sync(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	equal(t, members(t, db, "rowtide"), "busy", "idle")
}

// Identity and membership change in one transaction, so no moment lies between at which a table is
// published and its identity is not set, or the other way.
func TestIdentityAndMembershipChangeTogether(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE a (id int, v text)`)
	seen := `CREATE TABLE seen (xid xid8, identity "char", member bool);
		CREATE FUNCTION look() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
			INSERT INTO public.seen SELECT pg_current_xact_id(), relreplident, EXISTS (SELECT FROM pg_publication_rel WHERE prrelid = c.oid AND prpubid IN
				(SELECT oid FROM pg_publication WHERE pubupdate)) FROM pg_class c WHERE oid = 'public.a'::regclass; END $$;
		CREATE EVENT TRIGGER look ON ddl_command_end EXECUTE FUNCTION look()`
	db.Exec(t, seen)
	syncTables(t, db, full("a"))
	syncTables(t, db, insertOnly("a"))
	if bad := pgtest.One[int](t, db, `SELECT count(*) FROM seen WHERE member AND identity <> 'f'`); bad != 0 {
		t.Error("published without its identity")
	}
	if n := pgtest.One[int](t, db, `SELECT count(DISTINCT xid) FROM seen`); n != 2 {
		t.Errorf("%d transactions for two changes", n)
	}
}

func TestSyncRemembersTheIdentityThatWasThereLast(t *testing.T) {
	t.Parallel()
	db, _ := installed(t, `CREATE TABLE a (id int PRIMARY KEY, n int NOT NULL); CREATE UNIQUE INDEX a_n ON a (n)`)
	syncTables(t, db, full("a"))
	db.Exec(t, `ALTER TABLE a REPLICA IDENTITY USING INDEX a_n`)
	syncTables(t, db, full("a"))
	if identity(t, db, "a") != "f" {
		t.Error("a weaker identity was left")
	}
	syncTables(t, db)
	if identity(t, db, "a") != "i" {
		t.Errorf("identity %s", identity(t, db, "a"))
	}
}
