package rowtide

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/schema/introspect"
)

// A source reads what the service has to know of a database, as the service login.
type source struct {
	pool         *pgxpool.Pool
	cfg          introspect.Config
	options      schema.Options
	annotations  *annotation.File // nil for none
	log          *slog.Logger
	installation migrations.Installation
	// system, timeline, forks and generation say which history of which database cursors are of.
	system     uint64
	timeline   uint32
	forks      map[uint32]cdc.LSN
	generation uint64
	// searchable are the served schemas in which no role of the allow-list may create
	// anything: policy functions find there what they name without a schema.
	searchable []string

	// last is the catalog that was read last, and reading what it was made from.
	last    *schema.Catalog
	reading *introspect.Reading
}

// openSource connects, and finds what has to be mended before the service can start.
func openSource(ctx context.Context, cfg Config) (*source, error) {
	f, err := annotation.ReadFile(cfg.Annotations)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(ctx, cfg.DatabaseURL)
	if err != nil {
		return nil, fmt.Errorf("connect with --database-url: %w", err)
	}
	s := &source{
		pool: pool, log: cfg.Logger, annotations: f,
		cfg: introspect.Config{
			Schemas: cfg.Schemas, Roles: cfg.roles(), All: f != nil, Related: !cfg.NoSets,
			Publications: []string{cfg.Publication, migrations.InsertPublication(cfg.Publication)},
		},
		options: schema.Options{
			ExposePositions: cfg.ExposePositions, Introspection: !cfg.NoIntrospection,
			Server: schema.ServerInfo{Version: Version},
		},
	}
	if err := s.open(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

func (s *source) open(ctx context.Context) (err error) {
	if s.installation, err = migrations.ReadInstallation(ctx, s.pool); err != nil {
		return err
	}
	// pg_control_checkpoint's timeline is that of the last checkpoint; the name of the present
	// WAL file begins with the present one.
	err = s.pool.QueryRow(ctx, `
SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system()),
       ('x' || substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8))::bit(32)::bigint`).
		Scan(&s.system, &s.timeline)
	if err != nil {
		return fmt.Errorf("identify the database: %w", err)
	}
	return s.findSearchable(ctx)
}

// findSearchable leaves out schemas in which a subscriber's role could put a function or a table
// of its own before those that policy functions mean (CVE-2018-1058).
func (s *source) findSearchable(ctx context.Context) error {
	rows, err := s.pool.Query(ctx, `
SELECT s.name, EXISTS (SELECT FROM pg_catalog.pg_roles r
                       WHERE r.rolname = ANY($2) AND pg_catalog.has_schema_privilege(r.oid, n.oid, 'CREATE'))
FROM pg_catalog.unnest($1::text[]) WITH ORDINALITY AS s(name, n)
JOIN pg_catalog.pg_namespace n ON n.nspname = s.name ORDER BY s.n`, s.cfg.Schemas, s.cfg.Roles)
	if err != nil {
		return fmt.Errorf("read schemas: %w", err)
	}
	var name string
	var open bool
	_, err = pgx.ForEachRow(rows, []any{&name, &open}, func() error {
		if open {
			s.log.Warn("subscribers may create objects in a served schema: policy functions must name what is in it with its schema; or REVOKE CREATE on it", "schema", name)
		} else {
			s.searchable = append(s.searchable, name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read schemas: %w", err)
	}
	return nil
}

// load reads what changed of the catalog; it gives the catalog that it gave last where nothing did.
// Mistakes in annotations that were read are logged: each disables its table alone.
func (s *source) load(ctx context.Context) (*schema.Catalog, error) {
	from := s.reading
	if s.annotations != nil {
		from = nil // a comment in the file may stand for that of another object now
	}
	reading, err := introspect.Update(ctx, s.pool, s.cfg, from)
	if err != nil {
		return nil, fmt.Errorf("read catalog: %w", err)
	}
	if reading == s.reading {
		return s.last, nil
	}
	problems := annotation.ApplyFile(&reading.Database, s.annotations)
	catalog, more := schema.New(reading.Database, s.options)
	problems = append(problems, more...)
	s.reading, s.last, s.options.Previous = reading, catalog, catalog
	for _, p := range problems {
		args := []any{"object", p.Object}
		if p.File != "" {
			args = append(args, "file", p.File)
		}
		if p.Line > 0 {
			args = append(args, "line", p.Line, "column", p.Column)
		}
		args = append(args, "problem", p.Message, "hint", p.Hint)
		if p.Table == 0 {
			s.log.Info("annotation", args...)
			continue
		}
		s.log.Warn("annotation is not in force", args...)
	}
	if len(catalog.Tables()) == 0 {
		s.log.Warn("no table is served: annotate one with COMMENT ON TABLE … IS '@subscribe'")
	}
	return catalog, nil
}

// concerned tells whether what is announced may have changed the catalog. In doubt it has.
func (s *source) concerned(ctx context.Context, messages []cdc.Message) bool {
	var relations []uint32
	for _, m := range messages {
		of, known := migrations.Announced(m.Content)
		if !known {
			return true
		}
		relations = append(relations, of...)
	}
	if s.reading == nil {
		return true
	}
	is, err := s.reading.Concerns(ctx, s.pool, s.cfg, relations)
	return is || err != nil
}

// awaitEvery and awaitMost pace and bound the wait for a transaction to become visible. It is
// in the stream already, so all that it can wait for is a synchronous standby.
const (
	awaitEvery = 5 * time.Millisecond
	awaitMost  = 10 * time.Second
)

// await waits until a transaction of the stream is visible to other sessions.
func (s *source) await(ctx context.Context, xid uint32) error {
	ctx, cancel := context.WithTimeout(ctx, awaitMost)
	defer cancel()
	tick := time.NewTicker(awaitEvery)
	defer tick.Stop()
	for {
		var text string
		if err := s.pool.QueryRow(ctx, `SELECT pg_catalog.pg_current_snapshot()::text`).Scan(&text); err != nil {
			return fmt.Errorf("wait for transaction %d: %w", xid, err)
		}
		snapshot, err := cdc.ParseSnapshot(text)
		if err != nil || snapshot.Sees(xid) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for transaction %d: %w", xid, context.Cause(ctx))
		}
	}
}

// verify tells whether a logical message is of this installation's event triggers.
func (s *source) verify(content []byte, xid uint32) bool {
	return migrations.Verify(content, s.installation.MessageKey, xid)
}

func (s *source) close() { s.pool.Close() }

func readCatalog(ctx context.Context, db introspect.DB, cfg introspect.Config, f *annotation.File, o schema.Options) (*schema.Catalog, []schema.Problem, error) {
	database, problems, err := loadDatabase(ctx, db, cfg, f)
	if err != nil {
		return nil, nil, err
	}
	catalog, more := schema.New(database, o)
	return catalog, append(problems, more...), nil
}
