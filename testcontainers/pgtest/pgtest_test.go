package pgtest_test

import (
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestDatabaseHasItsSchemaAndIsAlone(t *testing.T) {
	t.Parallel()
	one := pgtest.New(t, "CREATE TABLE a (id int PRIMARY KEY)", "INSERT INTO a VALUES (1); INSERT INTO a VALUES (2)")
	two := pgtest.New(t)
	if n := pgtest.One[int](t, one, "SELECT count(*) FROM a"); n != 2 {
		t.Errorf("%d rows", n)
	}
	if n := pgtest.One[int](t, two, "SELECT count(*) FROM pg_class WHERE relname = 'a'"); n != 0 {
		t.Error("the table is in the other database too")
	}
	if got := pgtest.One[string](t, one, "SELECT current_database()::text"); got != one.Name {
		t.Errorf("database %q, Name %q", got, one.Name)
	}
}

func TestLoginIsFitForTheService(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, "CREATE TABLE a (id int)")
	role := db.Role(t, "web_user")
	login := db.Login(t, "svc", role)
	db.Exec(t, "GRANT SELECT ON a TO "+role)
	conn, err := pgx.Connect(t.Context(), db.URL(login))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), "SELECT * FROM a"); err == nil {
		t.Error("the login inherits the role's rights")
	}
	if _, err := conn.Exec(t.Context(), "SET ROLE "+role+"; SELECT * FROM a"); err != nil {
		t.Errorf("as the role: %v", err)
	}
	if !pgtest.One[bool](t, db, "SELECT rolreplication FROM pg_roles WHERE rolname = $1", login) {
		t.Error("no REPLICATION")
	}
}

// What a test leaves in its database (roles that own tables, slots in use) must not keep the
// cleanup from removing all of it.
//
//nolint:tparallel // what follows the subtest needs its cleanup done
func TestCleanupRemovesEverything(t *testing.T) {
	t.Parallel()
	watch := pgtest.New(t)
	var name, role string
	t.Run("makes things", func(t *testing.T) {
		db := pgtest.New(t, "CREATE TABLE a (id int)")
		name, role = db.Name, db.Role(t, "owner")
		db.Exec(t, "ALTER TABLE a OWNER TO "+role)
		db.Exec(t, "SELECT pg_create_logical_replication_slot('idle_"+name+"', 'pgoutput')")
		db.Exec(t, "SELECT pg_create_logical_replication_slot('busy_"+name+"', 'pgoutput')")
		db.Exec(t, "CREATE PUBLICATION p FOR TABLE a")
		stream(t, db, "busy_"+name)
	})
	for what, sql := range map[string]string{
		"database": "SELECT count(*) FROM pg_database WHERE datname = $1",
		"slots":    "SELECT count(*) FROM pg_replication_slots WHERE database = $1",
	} {
		if n := pgtest.One[int](t, watch, sql, name); n != 0 {
			t.Errorf("%d %s left", n, what)
		}
	}
	if n := pgtest.One[int](t, watch, "SELECT count(*) FROM pg_roles WHERE rolname = $1", role); n != 0 {
		t.Error("role left")
	}
}

// stream makes a slot active and leaves it so.
func stream(t *testing.T, db *pgtest.DB, slot string) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), db.Admin+"&replication=database")
	if err != nil {
		t.Fatal(err)
	}
	err = pglogrepl.StartReplication(t.Context(), conn, slot, 0, pglogrepl.StartReplicationOptions{
		PluginArgs: []string{"proto_version '1'", "publication_names 'p'"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !pgtest.One[bool](t, db, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", slot) {
		t.Fatal("the slot is not active")
	}
}

func TestParallelTestsMayChangeRolesAndDatabasesAtOnce(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "shared")
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				// All of them update one row of pg_authid.
				db.Exec(t, fmt.Sprintf("ALTER ROLE %s CONNECTION LIMIT %d", role, 100+i*20+j))
			}
		})
	}
	for i := range 6 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			db.Login(t, "svc", db.Role(t, "a"), db.Role(t, "b"))
		})
	}
	wg.Wait()
}

func TestClusterOfOnesOwnCanStopUnderADatabase(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, c, "CREATE TABLE a (id int)")
	if err := c.StopMode(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "INSERT INTO a VALUES (1)")
	if err := c.StopMode(t.Context(), "fast"); err != nil {
		t.Fatal(err)
	}
}
