package migrations

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	driver "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	"github.com/jackc/pgx/v5/stdlib"
)

// A Status says how far the migrations of a database are.
type Status struct {
	// Version is the newest migration that was applied, 0 for none; Latest the newest there is.
	Version, Latest uint
	// Interrupted tells that the last run stopped half-way: the next one finishes it.
	Interrupted bool
	// EventTriggers tells that changes of the catalog are announced in the stream.
	EventTriggers bool
}

// ReadStatus tells how far the migrations of a database are.
func ReadStatus(ctx context.Context, adminURL string) (Status, error) {
	conn, err := connect(ctx, adminURL, "--admin-url", "rowtide migrate")
	if err != nil {
		return Status{}, err
	}
	s := &session{conn: conn}
	defer s.close(ctx)
	return s.status(ctx)
}

func (s *session) status(ctx context.Context) (Status, error) {
	latest, err := latestMigration()
	if err != nil {
		return Status{}, err
	}
	out := Status{Latest: latest}
	ok, err := s.has(ctx, versionTable)
	if err != nil || !ok {
		return out, err
	}
	err = s.conn.QueryRow(ctx, `SELECT greatest(max(version), 0), coalesce(bool_or(dirty), false),
		(SELECT count(*) = 2 FROM pg_event_trigger WHERE evtname = ANY($1::text[]))
		FROM rowtide.schema_migrations`, []string{ddlTrigger, dropTrigger}).Scan(&out.Version, &out.Interrupted, &out.EventTriggers)
	if err != nil {
		return Status{}, fmt.Errorf("read version: %w", err)
	}
	return out, nil
}

// migrationFiles gives the names of the files of a direction, by version.
func migrationFiles(direction string) (map[uint]string, error) {
	names, err := fs.Glob(files, "sql/*."+direction+".sql")
	if err != nil {
		return nil, fmt.Errorf("list migrations: %w", err)
	}
	out := make(map[uint]string, len(names))
	for _, name := range names {
		n, _, _ := strings.Cut(strings.TrimPrefix(name, "sql/"), "_")
		v, err := strconv.ParseUint(n, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read version of migration %s: %w", name, err)
		}
		out[uint(v)] = name
	}
	return out, nil
}

func latestMigration() (uint, error) {
	up, err := migrationFiles("up")
	if err != nil {
		return 0, err
	}
	var latest uint
	for v := range up {
		latest = max(latest, v)
	}
	return latest, nil
}

// ownSchema makes schema rowtide: golang-migrate wants it, with its table, before its first
// migration. Both are made in one transaction, so a schema without the table is somebody else's.
func (s *session) ownSchema(ctx context.Context) error {
	const what = "schema rowtide"
	ours, err := s.has(ctx, versionTable)
	if err != nil {
		return err
	}
	if ours {
		s.already(what)
		return nil
	}
	there, err := s.exists(ctx, `SELECT FROM pg_namespace WHERE nspname = $1`, Schema)
	if err != nil {
		return err
	}
	if there {
		return errors.New("schema rowtide exists and is not Rowtide's: ALTER SCHEMA rowtide RENAME TO something else")
	}
	return s.do(ctx, what, "CREATE SCHEMA rowtide",
		"CREATE TABLE rowtide."+versionTable+" (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)")
}

// up applies the migrations that are missing.
func (s *session) up(ctx context.Context) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	const what = "objects in schema rowtide"
	switch {
	case st.Version == st.Latest && !st.Interrupted:
		s.already(what)
		return nil
	case st.Version > st.Latest:
		return fmt.Errorf("schema rowtide is at version %d, which a newer rowtide made (this one knows %d): use that one", st.Version, st.Latest)
	case s.dry != nil:
		return s.printUp(ctx, st)
	}
	err = s.migrate(ctx, func(m *migrate.Migrate) error {
		if st.Interrupted { // the file is one transaction, and can be run again where that was committed
			if err := m.Force(before(st.Version)); err != nil {
				return err
			}
		}
		return m.Up()
	})
	if err != nil {
		return explain(what, err)
	}
	s.step(Done, what, "")
	return nil
}

// before is the version before another, as golang-migrate counts: -1 is none.
func before(v uint) int {
	if v <= 1 {
		return -1
	}
	return int(v) - 1
}

// down takes back all migrations.
func (s *session) down(ctx context.Context, st Status) error {
	const what = "objects in schema rowtide"
	if s.dry != nil {
		return s.printDown(ctx, st)
	}
	err := s.migrate(ctx, func(m *migrate.Migrate) error {
		if st.Interrupted { // from whichever side it was: what is gone already does no harm
			if err := m.Force(int(min(st.Version+1, st.Latest))); err != nil {
				return err
			}
		}
		return m.Down()
	})
	if err != nil {
		return explain(what, err)
	}
	s.step(Done, what, "")
	return nil
}

// printUp prints what golang-migrate would do, so that the printed script leaves what a run does.
func (s *session) printUp(ctx context.Context, st Status) error {
	up, err := migrationFiles("up")
	if err != nil {
		return err
	}
	for v := st.Version + 1; v <= st.Latest; v++ {
		if err := s.printFile(ctx, up[v], fmt.Sprintf("INSERT INTO rowtide.%s VALUES (%d, false)", versionTable, v)); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) printDown(ctx context.Context, st Status) error {
	down, err := migrationFiles("down")
	if err != nil {
		return err
	}
	for v := st.Version; v >= 1; v-- {
		if err := s.printFile(ctx, down[v]); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) printFile(ctx context.Context, name string, after ...string) error {
	body, err := files.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read migration: %w", err)
	}
	sql := append([]string{"SET LOCAL search_path = pg_catalog, pg_temp", string(body), "TRUNCATE rowtide." + versionTable}, after...)
	return s.do(ctx, strings.TrimPrefix(name, "sql/"), sql...)
}

// migrate runs golang-migrate, on a connection of its own.
func (s *session) migrate(ctx context.Context, run func(*migrate.Migrate) error) error {
	source, err := iofs.New(files, "sql")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	pool := stdlib.OpenDB(*s.conn.Config())
	db, err := driver.WithInstance(pool, &driver.Config{SchemaName: Schema, MigrationsTable: versionTable})
	if err != nil {
		return errors.Join(plain(err), source.Close(), pool.Close())
	}
	m, err := migrate.NewWithInstance("iofs", source, "pgx5", db)
	if err != nil {
		return errors.Join(err, source.Close(), db.Close())
	}
	err = plain(stopWith(ctx, m, func() error { return run(m) }))
	if errors.Is(err, migrate.ErrNoChange) {
		err = nil
	}
	sourceErr, dbErr := m.Close()
	return errors.Join(err, sourceErr, dbErr)
}

// stopWith runs f and asks golang-migrate, which knows no contexts, to stop between two files when
// ctx ends.
func stopWith(ctx context.Context, m *migrate.Migrate, f func() error) error {
	defer context.AfterFunc(ctx, func() { m.GracefulStop <- true })()
	if err := f(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

// plain takes golang-migrate's wrapping off an error of the server: it hides the SQLSTATE and
// prints the whole file.
func plain(err error) error {
	var value database.Error
	var pointer *database.Error
	switch {
	case errors.As(err, &value) && value.OrigErr != nil:
		return value.OrigErr
	case errors.As(err, &pointer) && pointer.OrigErr != nil:
		return pointer.OrigErr
	}
	return err
}
