package introspect

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Mark is a place from where one can tell at a glance that the catalog is as it was.
//
// The glance passes over all of the catalogs that prints are made from. What it keeps of each
// is how many rows there are that are older than the mark, and a hash over the younger ones, which
// are few: no row can be written, changed or removed without changing either. What is written
// for tables that do not concern Load changes it too, and only then prints are taken; temporary
// tables, which some applications make all the time, do not count.
type Mark struct {
	base   string // the oldest transaction that had not ended
	glance string
}

// TakeMark marks the catalog as it is.
func TakeMark(ctx context.Context, db DB) (Mark, error) {
	tx, err := beginPrints(ctx, db)
	if err != nil {
		return Mark{}, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	return markIn(ctx, tx)
}

// Stands tells whether nothing at all changed behind the mark.
func (m Mark) Stands(ctx context.Context, db DB) (bool, error) {
	tx, err := beginPrints(ctx, db)
	if err != nil {
		return false, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	glance, err := glanceIn(ctx, tx, m.base)
	return err == nil && glance == m.glance, err
}

func markIn(ctx context.Context, tx pgx.Tx) (Mark, error) {
	var m Mark
	err := tx.QueryRow(ctx, `SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::pg_catalog.xid::text`).Scan(&m.base)
	if err != nil {
		return m, fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	m.glance, err = glanceIn(ctx, tx, m.base)
	return m, err
}

func glanceIn(ctx context.Context, tx pgx.Tx, base string) (string, error) {
	var out string
	if err := tx.QueryRow(ctx, glanceSQL(), base).Scan(&out); err != nil {
		return "", fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	return out, nil
}

// glanced are the catalogs, what tells their rows apart, and a condition for rows of temporary
// tables.
const glanced = `
pg_class          | oid, 0                      | relpersistence = 't'
pg_attribute      | attrelid, attnum            | EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.oid = attrelid AND t.relpersistence = 't')
pg_attrdef        | oid, 0                      | EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.oid = adrelid AND t.relpersistence = 't')
pg_index          | indexrelid, 0               | EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.oid = indrelid AND t.relpersistence = 't')
pg_constraint     | oid, 0                      | EXISTS (SELECT FROM pg_catalog.pg_class t WHERE t.oid = conrelid AND t.relpersistence = 't')
pg_type           | oid, 0                      | EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.oid = typnamespace AND n.nspname ~ '^pg_(toast_)?temp_')
pg_namespace      | oid, 0                      | nspname ~ '^pg_(toast_)?temp_'
pg_policy         | oid, 0                      | false
pg_description    | objoid, objsubid            | false
pg_enum           | oid, 0                      | false
pg_proc           | oid, 0                      | false
pg_operator       | oid, 0                      | false
pg_collation      | oid, 0                      | false
pg_cast           | oid, 0                      | false
pg_inherits       | inhrelid, 0                 | false
pg_auth_members   | roleid, member::int8        | false
pg_publication    | oid, 0                      | false
pg_publication_rel | oid, 0                     | false
pg_publication_namespace | oid, 0               | false`

// glanceSQL names everything with its schema: it runs under the caller's search_path. Roles have no xmin
// that everybody may read. The age of a row is that of its transaction.
func glanceSQL() string {
	parts := []string{`SELECT 0, pg_catalog.count(*), pg_catalog.sum(pg_catalog.hash_record_extended(r, 1))
  FROM (SELECT r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls FROM pg_catalog.pg_roles r) r`}
	for i, line := range strings.Split(strings.TrimSpace(glanced), "\n") {
		f := strings.Split(line, " | ")
		parts = append(parts, fmt.Sprintf(`SELECT %d, pg_catalog.count(*) FILTER (WHERE pg_catalog.age(c.xmin) > (SELECT base.age FROM base)),
  (SELECT pg_catalog.sum(pg_catalog.hash_record_extended(r, 0)) FROM (SELECT %s, xmin FROM pg_catalog.%s WHERE pg_catalog.age(xmin) <= (SELECT base.age FROM base) AND NOT %s) r)
  FROM pg_catalog.%s c`, i+1, strings.TrimSpace(f[1]), strings.TrimSpace(f[0]), strings.TrimSpace(f[2]), strings.TrimSpace(f[0])))
	}
	return `WITH base AS MATERIALIZED (SELECT pg_catalog.age($1::text::pg_catalog.xid)), total(i, n, h) AS (` + strings.Join(parts, "\n UNION ALL ") + `)
SELECT pg_catalog.string_agg(n::text || ':' || coalesce(h, 0)::text, ',' ORDER BY i) FROM total`
}
