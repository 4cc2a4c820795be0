package introspect

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Fingerprint is a hash over every catalog row that Load reads, and over those that policies and
// generated columns are deparsed from (R34): while it stays the same, Load gives the same. With
// hundreds of tables, or functions that policies call, it takes a tenth of a second and more: who
// asks each second asks a Mark.
//
// Policies that are evaluated in process mean what they mean by functions, operators, types and
// casts too, and by the privileges on them: so rows of those count as far as they could matter.
//
// Rows are told apart by xmin, which every change of a row sets. Tables that nobody annotated and
// roles of which none on the allow-list is a member cost nothing and change nothing.
func Fingerprint(ctx context.Context, db DB, cfg Config) (string, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return "", fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	if _, err := tx.Exec(ctx, jitOff); err != nil {
		return "", fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	return fingerprintIn(ctx, tx, cfg)
}

// jitOff keeps the server from compiling: it takes the recursive part for large and would spend
// 30 times as long on compiling as on running.
const jitOff = `SET LOCAL jit = off`

func fingerprintIn(ctx context.Context, tx pgx.Tx, cfg Config) (string, error) {
	var out string
	if err := tx.QueryRow(ctx, fingerprintSQL(cfg), cfg.Schemas, cfg.All, cfg.Roles).Scan(&out); err != nil {
		return "", fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	return out, nil
}

// fingerprintSQL names everything with its schema: it runs under the caller's search_path.
func fingerprintSQL(cfg Config) string {
	return `
WITH RECURSIVE served AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c WHERE ` + annotated + `
), ` + cfg.reach("served") + `, rel AS MATERIALIZED (
  SELECT c.oid, c.relkind, c.relowner, c.xmin FROM reach JOIN pg_catalog.pg_class c
    ON reach.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = reach.oid
), rol(oid) AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = ANY($3::text[])
  UNION SELECT m.roleid FROM rol JOIN pg_catalog.pg_auth_members m ON m.member = rol.oid
), ` + partitions("rel") + `, col AS MATERIALIZED (
  SELECT a.attrelid, a.attnum, a.atttypid, a.xmin
  FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid WHERE a.attnum > 0
), used(oid) AS (
  SELECT DISTINCT col.atttypid FROM col WHERE col.atttypid <> 0` + typesUsed + `
), typ AS MATERIALIZED (
  SELECT t.oid, t.typrelid, t.xmin FROM pg_catalog.pg_type t WHERE t.oid = ANY(ARRAY(SELECT used.oid FROM used))
), pol AS MATERIALIZED (
  SELECT p.oid, p.xmin FROM rel JOIN pg_catalog.pg_policy p ON p.polrelid = rel.oid
), def AS MATERIALIZED (
  SELECT f.oid, f.xmin FROM rel JOIN pg_catalog.pg_attrdef f ON f.adrelid = rel.oid
), dep AS MATERIALIZED (
  SELECT DISTINCT d.refclassid, d.refobjid, d.refobjsubid FROM (
    SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, pol.oid FROM pol
    UNION ALL SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, def.oid FROM def
  ) x(class, oid) JOIN pg_catalog.pg_depend d ON d.classid = x.class AND d.objid = x.oid
  UNION SELECT reach.class, reach.oid, 0 FROM reach
), ` + called(`SELECT 0, dep.refobjid FROM dep WHERE dep.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass`) + `, seen(what, a, b, xmin) AS (
` + seenRows + `), ` + totals
}

// seenRows are the rows that count: those of the relations, their policies and types, and of what expressions name.
const seenRows = `  SELECT 1, rel.oid, 0, rel.xmin FROM rel
  UNION ALL SELECT 2, col.attrelid, col.attnum, col.xmin FROM col
  UNION ALL SELECT 3, pol.oid, 0, pol.xmin FROM pol
  UNION ALL SELECT 4, def.oid, 0, def.xmin FROM def
  UNION ALL SELECT 5, n.oid, 0, n.xmin FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast_)?temp_'
  UNION ALL SELECT 6, d.objoid, d.objsubid, d.xmin FROM rel JOIN pg_catalog.pg_description d
    ON d.objoid = rel.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION ALL SELECT 7, i.indexrelid, 0, i.xmin FROM rel JOIN pg_catalog.pg_index i ON i.indrelid = rel.oid
  UNION ALL SELECT 8, c.oid, 0, c.xmin FROM rel JOIN pg_catalog.pg_index i ON i.indrelid = rel.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  UNION ALL SELECT 9, k.oid, 0, k.xmin FROM rel JOIN pg_catalog.pg_constraint k ON k.conrelid = rel.oid
  UNION ALL SELECT 10, typ.oid, 0, typ.xmin FROM typ
  UNION ALL SELECT 11, l.oid, 0, l.xmin FROM pg_catalog.pg_enum l WHERE l.enumtypid = ANY(ARRAY(SELECT typ.oid FROM typ))
  UNION ALL SELECT 12, f.attrelid, f.attnum, f.xmin FROM pg_catalog.pg_attribute f
    WHERE f.attnum > 0 AND f.attrelid = ANY(ARRAY(SELECT typ.typrelid FROM typ WHERE typ.typrelid <> 0))
  UNION ALL SELECT 13, d.objoid, d.objsubid, d.xmin FROM pg_catalog.pg_description d
    WHERE d.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objoid = ANY(ARRAY(SELECT typ.oid FROM typ))
    OR d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objoid = ANY(ARRAY(SELECT typ.typrelid FROM typ))
  UNION ALL SELECT 14, c.oid, 0, c.xmin FROM dep JOIN pg_catalog.pg_class c
    ON dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = dep.refobjid
  UNION ALL SELECT 15, f.attrelid, f.attnum, f.xmin FROM dep JOIN pg_catalog.pg_attribute f
    ON dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND f.attrelid = dep.refobjid AND f.attnum = dep.refobjsubid
  UNION ALL SELECT 16, p.oid, 0, p.xmin FROM called JOIN pg_catalog.pg_proc p ON p.oid = called.oid
  UNION ALL SELECT 17, t.oid, 0, t.xmin FROM dep JOIN pg_catalog.pg_type t
    ON dep.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = dep.refobjid
  UNION ALL SELECT 18, o.oid, 0, o.xmin FROM dep JOIN pg_catalog.pg_operator o
    ON dep.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = dep.refobjid
  UNION ALL SELECT 19, m.roleid, m.member::int8, m.xmin FROM rol JOIN pg_catalog.pg_auth_members m ON m.member = rol.oid
  UNION ALL SELECT 20, c.oid, 0, c.xmin FROM part JOIN pg_catalog.pg_class c ON c.oid = part.oid
  UNION ALL SELECT 21, i.inhrelid, 0, i.xmin FROM rel JOIN pg_catalog.pg_inherits i ON i.inhparent = rel.oid
  UNION ALL SELECT 22, p.oid, 0, p.xmin FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND (p.proacl IS NOT NULL OR p.oid >= 16384)
  UNION ALL SELECT 23, k.oid, 0, k.xmin FROM pg_catalog.pg_cast k WHERE k.oid >= 16384
  UNION ALL SELECT 24, s.oid, 0, s.xmin FROM (` + shadows + `) s WHERE EXISTS (SELECT FROM dep WHERE dep.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
  UNION ALL SELECT 25, r.oid, 0, r.xmin FROM rel JOIN pg_catalog.pg_publication_rel r ON r.prrelid = rel.oid
  UNION ALL SELECT 26, p.oid, 0, p.xmin FROM pg_catalog.pg_publication p
  UNION ALL SELECT 27, n.oid, 0, n.xmin FROM pg_catalog.pg_publication_namespace n
`

// totals sum them up, and add what roles are, whose rows not everybody may read.
const totals = `total(i, n, h) AS (
  SELECT 1, pg_catalog.count(*), pg_catalog.sum(pg_catalog.hash_record_extended(seen, 0)) FROM seen
  UNION ALL
  SELECT 2, pg_catalog.count(*), pg_catalog.sum(pg_catalog.hash_record_extended(r, 1))
  FROM (SELECT r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls FROM pg_catalog.pg_roles r
        WHERE r.oid IN (SELECT rol.oid FROM rol UNION ALL SELECT rel.relowner FROM rel)) r
)
SELECT pg_catalog.md5(pg_catalog.string_agg(n::text || ':' || coalesce(h, 0)::text, ',' ORDER BY i)) FROM total`
