// Package introspect reads what a schema.Catalog is made from out of pg_catalog: annotated
// tables, their types, keys and policies, and what each role of the allow-list may do.
//
// A Load is consistent: it reads one snapshot, and reads anew where the catalog changed while it
// read (functions such as pg_get_expr see past the snapshot). It runs as the service login, which
// may SELECT no table: all it asks is open to every user, but SET ROLE. Expressions are deparsed
// with an empty search_path and pinned output settings, so what they say does not depend on
// whoever reads them.
//
// It does not read comments: package annotation does.
package introspect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// A DB is where to read: *pgx.Conn, *pgxpool.Conn and *pgxpool.Pool are.
type DB interface {
	BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error)
}

// Config says what to read.
type Config struct {
	// Schemas are the served schemas. One that does not exist holds no tables.
	Schemas []string
	// Roles is the allow-list. Those that do not exist are left out of Database.Roles.
	Roles []string
	// Publications are those that the changes come by. Defaults to none: then nothing is said
	// of whether tables are published.
	Publications []string
	// Related reads what policies may read and call: see schema.Related. It takes looking for all
	// names in the bodies of functions.
	Related bool
	// All reads tables without an "@" in any comment too. Defaults to annotated ones alone.
	All bool
}

// maxTries bounds the attempts to read a catalog that keeps changing.
const maxTries = 5

// errMoving is what Load gives up with.
var errMoving = errors.New("the catalog changed each time it was read: wait until the schema changes are done")

// Load reads the database.
func Load(ctx context.Context, db DB, cfg Config) (schema.Database, error) {
	var last error
	for range maxTries {
		out, before, err := loadOnce(ctx, db, cfg)
		if err != nil && before.fingerprint == "" {
			return schema.Database{}, err
		}
		changed, ferr := before.Changed(ctx, db, cfg)
		switch {
		case ferr != nil:
			return schema.Database{}, errors.Join(err, ferr)
		case !changed && err != nil:
			return schema.Database{}, err
		case !changed:
			return out, nil
		}
		last = err
	}
	return schema.Database{}, errors.Join(errMoving, last)
}

// loadOnce reads one snapshot. The mark is of that snapshot; its fingerprint is "" where it could not
// be had.
func loadOnce(ctx context.Context, db DB, cfg Config) (schema.Database, Mark, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return schema.Database{}, Mark{}, fmt.Errorf("read catalog: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	if _, err := tx.Exec(ctx, pins); err != nil {
		return schema.Database{}, Mark{}, fmt.Errorf("read catalog: %w", err)
	}
	before, err := markIn(ctx, tx, cfg)
	if err != nil {
		return schema.Database{}, Mark{}, err
	}
	r := newReader(tx, cfg)
	if err := r.read(ctx); err != nil {
		return schema.Database{}, before, fmt.Errorf("read catalog: %w", err)
	}
	return r.db, before, nil
}

// pins make deparsed text the same for every login: names are qualified (R09), and constants are
// printed in one style, whatever ALTER ROLE ... SET says.
const pins = jitOff + `;
SET LOCAL search_path = '';
SET LOCAL row_security = on;
SET LOCAL quote_all_identifiers = off;
SET LOCAL datestyle = 'ISO, YMD';
SET LOCAL intervalstyle = 'postgres';
SET LOCAL timezone = 'UTC';
SET LOCAL extra_float_digits = 3;
SET LOCAL bytea_output = 'hex'`

// A reader collects what one snapshot holds.
type reader struct {
	tx  pgx.Tx
	cfg Config
	db  schema.Database

	oids      []uint32       // of db.Tables
	annotated int            // how many of them stand first that are annotated; behind them are related ones
	table     map[uint32]int // OID to index in db.Tables
	binary    bool           // the database's default collation orders by bytes
	// utf8 tells that the order of bytes is the same in the server's encoding as in UTF-8.
	utf8 bool
	// foldsBytes tells that the default collation's lower() changes A to Z alone.
	foldsBytes bool
	types      map[uint32]*schema.Type
}

func newReader(tx pgx.Tx, cfg Config) *reader {
	return &reader{tx: tx, cfg: cfg, table: map[uint32]int{}, types: map[uint32]*schema.Type{}}
}

func (r *reader) read(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		r.server, r.tables, r.partitions, r.columns, r.keys, r.policies, r.access, r.rowSecurity, r.functions, r.builtins, r.related,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// server reads the facts that belong to no table.
func (r *reader) server(ctx context.Context) error {
	// Builtin locales all order by code point; those of libc do where they are C.
	err := r.tx.QueryRow(ctx, `
SELECT current_setting('server_version_num')::int,
       d.datlocprovider = 'b' OR d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX'),
       pg_encoding_to_char(d.encoding) IN ('UTF8', 'SQL_ASCII', 'LATIN1'),
       d.datlocprovider = 'c' AND d.datctype IN ('C', 'POSIX')
FROM pg_database d WHERE d.datname = current_database()`).Scan(&r.db.Version, &r.binary, &r.utf8, &r.foldsBytes)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	rows, err := r.tx.Query(ctx, `
SELECT r.rolname::text FROM unnest($1::text[]) WITH ORDINALITY w(name, n)
JOIN pg_roles r ON r.rolname = w.name
GROUP BY r.rolname ORDER BY min(w.n)`, r.cfg.Roles)
	if err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	if r.db.Roles, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return fmt.Errorf("roles: %w", err)
	}
	r.db.Schemas = slices.Clone(r.cfg.Schemas)
	return nil
}
