package pgtest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/testcontainers"
)

// A DB is a database of one test.
type DB struct {
	// Name of the database.
	Name string
	// Admin is the connection string of the superuser.
	Admin string

	cluster *testcontainers.Cluster

	mu    sync.Mutex
	pool  *pgxpool.Pool // nil before the first Pool
	roles []string      // dropped after the database: they may own things in it
}

// New makes a database in the package's cluster and runs the given SQL in it as superuser. When
// the test ends, the database goes, with its replication slots and the roles made through it.
func New(t testing.TB, sql ...string) *DB {
	t.Helper()
	return On(t, sharedCluster(t), sql...)
}

// On is New in a cluster of the test's own.
func On(t testing.TB, c *testcontainers.Cluster, sql ...string) *DB {
	t.Helper()
	db := &DB{Name: uniqueName(t.Name()), cluster: c}
	db.Admin = db.URL(testcontainers.Superuser)
	// template0: nobody can be connected to it, which would make the copy fail.
	if err := db.maintain(t.Context(), "CREATE DATABASE "+quote(db.Name)+" TEMPLATE template0"); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() { db.drop(t) })
	for _, s := range sql {
		db.Exec(t, s)
	}
	return db
}

// uniqueName makes an SQL name that needs no quotes from what the name is for.
func uniqueName(what string) string {
	what = regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(what), "_")
	// NAMEDATALEN leaves 63 bytes; slots and publications named after a database want some.
	what = strings.Trim(what[:min(len(what), 32)], "_")
	return fmt.Sprintf("%s_%d", what, names.Add(1))
}

// URL is the connection string of a user for this database.
func (db *DB) URL(user string) string { return db.cluster.URL(user, db.Name) }

// Pool is a pool of superuser connections, one for the whole test. It is closed when the test
// ends; a connection still held then fails the test.
func (db *DB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.pool == nil {
		p, err := pgxpool.New(t.Context(), db.Admin)
		if err != nil {
			t.Fatalf("open pool: %v", err)
		}
		db.pool = p
	}
	return db.pool
}

// Exec runs SQL as superuser: without arguments any number of statements, in one transaction
// unless they say otherwise. It fails the test on an error.
func (db *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	pool := db.Pool(t)
	err := retry(t.Context(), func() error {
		_, err := pool.Exec(t.Context(), sql, args...)
		return err
	})
	if err != nil {
		t.Fatalf("exec: %v\n%s", err, sql)
	}
}

// One runs a query that gives one row of one column, as superuser.
func One[T any](t testing.TB, db *DB, sql string, args ...any) T {
	t.Helper()
	pool := db.Pool(t)
	var v T
	err := retry(t.Context(), func() error { return pool.QueryRow(t.Context(), sql, args...).Scan(&v) })
	if err != nil {
		t.Fatalf("query: %v\n%s", err, sql)
	}
	return v
}

// Role makes a NOLOGIN role whose name begins with the given one, and returns its name. Roles
// belong to the whole cluster: only a name of its own keeps parallel tests apart.
func (db *DB) Role(t testing.TB, name string) string {
	t.Helper()
	return db.createRole(t, name, "NOLOGIN")
}

// Login makes a login fit for the service, LOGIN REPLICATION NOINHERIT and member of the given
// roles, and returns its name.
func (db *DB) Login(t testing.TB, name string, roles ...string) string {
	t.Helper()
	login := db.createRole(t, name, "LOGIN REPLICATION NOINHERIT")
	for _, role := range roles {
		db.Exec(t, "GRANT "+quote(role)+" TO "+quote(login))
	}
	return login
}

func (db *DB) createRole(t testing.TB, name, attributes string) string {
	t.Helper()
	role := uniqueName(name)
	db.Exec(t, "CREATE ROLE "+quote(role)+" "+attributes)
	db.mu.Lock()
	defer db.mu.Unlock()
	db.roles = append(db.roles, role)
	return role
}

// drop removes the database and all that belongs to it. It does nothing where the server is gone
// with everything in it.
func (db *DB) drop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	db.closePool(t)
	if db.cluster.Pid() == 0 {
		return
	}
	if err := db.dropSlots(ctx); err != nil {
		t.Errorf("drop slots of database %s: %v", db.Name, err)
	}
	if err := db.maintain(ctx, "DROP DATABASE "+quote(db.Name)+" WITH (FORCE)"); err != nil {
		t.Errorf("drop database: %v", err)
	}
	for _, role := range db.roles {
		if err := db.maintain(ctx, "DROP ROLE IF EXISTS "+quote(role)); err != nil {
			t.Errorf("drop role: %v", err)
		}
	}
}

// closePool waits for the connections to come back, but not for ever: a test that keeps one
// would hang in its cleanup, where nobody can see why.
func (db *DB) closePool(t testing.TB) {
	t.Helper()
	if db.pool == nil {
		return
	}
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		db.pool.Close()
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Errorf("%d connections of the pool of database %s were not given back", db.pool.Stat().AcquiredConns(), db.Name)
	}
}

// dropSlots ends the walsenders of the database's slots and drops the slots: DROP DATABASE,
// even with FORCE, refuses while one is active. A slot stays active until its walsender has
// gone, hence the loop in SQL.
func (db *DB) dropSlots(ctx context.Context) error {
	return db.maintain(ctx, `DO $$
DECLARE s record; give_up timestamptz := clock_timestamp() + interval '60 s';
BEGIN
  LOOP
    FOR s IN SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = `+literal(db.Name)+` AND NOT temporary LOOP
      BEGIN
        IF s.active_pid IS NOT NULL THEN
          PERFORM pg_terminate_backend(s.active_pid);
        END IF;
        PERFORM pg_drop_replication_slot(s.slot_name);
      EXCEPTION WHEN object_in_use OR undefined_object THEN
        NULL;
      END;
    END LOOP;
    EXIT WHEN NOT EXISTS (SELECT FROM pg_replication_slots WHERE database = `+literal(db.Name)+` AND NOT temporary)
           OR clock_timestamp() > give_up;
    PERFORM pg_sleep(0.01);
  END LOOP;
END $$`)
}

// maintain runs one statement as superuser in the database postgres.
func (db *DB) maintain(ctx context.Context, sql string) error {
	return retry(ctx, func() error {
		conn, err := pgx.Connect(ctx, db.cluster.URL(testcontainers.Superuser, "postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, sql)
		return err
	})
}

// retry tries again what failed only because something else happened at the same time: catalog
// rows that belong to the whole cluster ("tuple concurrently updated", which has no SQLSTATE of
// its own), a database that a background worker is just visiting, a deadlock; or a pooled
// connection that died with a server that was restarted since. In all of them nothing was done.
func retry(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for give := time.Now().Add(time.Minute); ; {
		err := try()
		if err == nil || !transient(err) || time.Now().After(give) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func transient(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return pgconn.SafeToRetry(err)
	}
	switch pe.Code {
	case "XX000": // internal_error
		return strings.HasPrefix(pe.Message, "tuple concurrently ")
	case "55006", "40P01": // object_in_use, deadlock_detected
		return true
	}
	return false
}

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
