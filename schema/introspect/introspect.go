// Package introspect reads what a schema.Catalog is made from out of pg_catalog: annotated
// tables, their types, keys and policies, and what each role of the allow-list may do.
//
// A Load is consistent: it reads one snapshot, and reads anew where the catalog changed while it
// read (functions such as pg_get_expr see past the snapshot). An Update reads only what changed, and
// gives what Load would. Both run as the service login, which
// may SELECT no table: all they ask is open to every user, but SET ROLE. Expressions are deparsed
// with an empty search_path and pinned output settings, so what they say does not depend on
// whoever reads them.
//
// It does not read comments: package annotation does.
package introspect

import (
	"context"
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

// Load reads the database.
func Load(ctx context.Context, db DB, cfg Config) (schema.Database, error) {
	r, err := Update(ctx, db, cfg, nil)
	if err != nil {
		return schema.Database{}, err
	}
	return r.Database, nil
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

	// oids are the relations to read; the others of db.Tables were read before.
	oids      []uint32
	marked    map[uint32]bool // those of db.Tables that are annotated
	annotated int             // how many: they stand first, and behind them related ones
	table     map[uint32]int  // OID to index in db.Tables
	binary    bool            // the database's default collation orders by bytes
	// utf8 tells that the order of bytes is the same in the server's encoding as in UTF-8.
	utf8 bool
	// foldsBytes tells that the default collation's lower() changes A to Z alone.
	foldsBytes bool
	types      map[uint32]*schema.Type
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
