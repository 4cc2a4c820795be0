package introspect

// fingerprintSQL is a query of hashes over every catalog row that Load reads, and over those that
// policies and generated columns are deparsed from (R34): while they stay the same, Load gives the
// same. It costs tens of microseconds a table; a Mark tells for less, each second, whether to ask. That is
// how a service learns of roles and memberships, for which there are no event triggers.
//
// A row counts for the relation whose definition it is part of (1), for the type (2), or for all (0).
// Those of the fourth kind have no hash: they are relations beside those read that rows are of (3). $4 are the relations to look at, or NULL.
//
// Policies that are evaluated in process mean what they mean by functions, operators, types and
// casts too, and by the privileges on them: so rows of those count as far as they could matter.
//
// Rows are told apart by xmin, which every change of a row sets. Tables that nobody annotated and
// roles of which none on the allow-list is a member cost nothing and change nothing. Everything is
// named with its schema: it runs under the caller's search_path.
func fingerprintSQL(cfg Config) string {
	return `
WITH RECURSIVE served AS MATERIALIZED (
  SELECT c.oid FROM pg_catalog.pg_class c WHERE ` + annotated + ` AND ($4::pg_catalog.oid[] IS NULL OR c.oid = ANY($4))
), ` + cfg.reach("served") + `, rel AS MATERIALIZED (
  SELECT c.oid, c.relkind, c.relowner, c.xmin FROM reach JOIN pg_catalog.pg_class c
    ON reach.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = reach.oid
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
), rol(oid) AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = ANY($3::text[])
  UNION SELECT m.roleid FROM rol JOIN pg_catalog.pg_auth_members m ON m.member = rol.oid
), who AS MATERIALIZED (
  SELECT r.oid, pg_catalog.hash_record_extended(r, 1) AS h
  FROM (SELECT r.oid, r.rolname, r.rolsuper, r.rolinherit, r.rolbypassrls FROM pg_catalog.pg_roles r) r
), ` + partitions("rel") + `, col AS MATERIALIZED (
  SELECT a.attrelid, a.attnum, a.atttypid, a.xmin
  FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid WHERE a.attnum > 0
), used(oid) AS (
  SELECT DISTINCT col.atttypid FROM col WHERE col.atttypid <> 0` + typesUsed + `
), typ AS MATERIALIZED (
  SELECT t.oid, t.typrelid, t.xmin FROM pg_catalog.pg_type t WHERE t.oid = ANY(ARRAY(SELECT used.oid FROM used))
), expr AS MATERIALIZED (
  SELECT p.polrelid AS rel, 3 AS what, 'pg_catalog.pg_policy'::pg_catalog.regclass::pg_catalog.oid AS class, p.oid, p.xmin
  FROM rel JOIN pg_catalog.pg_policy p ON p.polrelid = rel.oid
  UNION ALL SELECT f.adrelid, 4, 'pg_catalog.pg_attrdef'::pg_catalog.regclass, f.oid, f.xmin
  FROM rel JOIN pg_catalog.pg_attrdef f ON f.adrelid = rel.oid
), dep AS MATERIALIZED (
  SELECT DISTINCT expr.rel, d.refclassid, d.refobjid, d.refobjsubid
  FROM expr JOIN pg_catalog.pg_depend d ON d.classid = expr.class AND d.objid = expr.oid
  WHERE d.refobjid <> expr.rel OR d.refclassid <> 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION SELECT 0, reach.class, reach.oid, 0 FROM reach WHERE reach.class = 'pg_catalog.pg_proc'::pg_catalog.regclass
), ` + called(`SELECT DISTINCT dep.refobjid, dep.refobjid FROM dep WHERE dep.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass`) + `, call AS MATERIALIZED (
  SELECT called.root, sum(pg_catalog.hash_record_extended((p.oid, p.xmin, d.refobjid, d.refobjsubid, c.xmin, a.xmin, t.xmin), 0)) AS h
  FROM called JOIN pg_catalog.pg_proc p ON p.oid = called.oid
  LEFT JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
  LEFT JOIN pg_catalog.pg_class c ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = d.refobjid
  LEFT JOIN pg_catalog.pg_attribute a ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  LEFT JOIN pg_catalog.pg_type t ON d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = d.refobjid
  GROUP BY called.root
), shadow AS MATERIALIZED (
  SELECT sum(pg_catalog.hash_record_extended((s.oid, s.xmin), 0)) AS h FROM (` + shadows + `) s
), seen(kind, id, what, a, b, xmin) AS (` + counted + `), total(kind, id, h) AS (
  SELECT seen.kind, seen.id, pg_catalog.hash_record_extended(seen, 0) FROM seen
  UNION ALL SELECT 1, col.attrelid, pg_catalog.hash_record_extended((col.attnum, col.xmin), 2) FROM col
  UNION ALL SELECT 0, 0, who.h FROM rol JOIN who ON who.oid = rol.oid
  UNION ALL SELECT 1, rel.oid, who.h FROM rel JOIN who ON who.oid = rel.relowner
  UNION ALL SELECT 1, dep.rel, pg_catalog.hash_numeric_extended(call.h + shadow.h, 1) FROM dep JOIN call
    ON dep.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND call.root = dep.refobjid CROSS JOIN shadow
)
SELECT CASE WHEN total.id = 0 THEN 0 ELSE total.kind END, total.id, pg_catalog.count(*)::text || ':' || pg_catalog.sum(total.h)::text
FROM total GROUP BY 1, 2` + beside
}

// counted are the rows that count, each with what it counts for, and which kind of row it is.
const counted = `
  SELECT 1, rel.oid, 1, rel.oid, 0::int8, rel.xmin FROM rel
  UNION ALL SELECT 1, expr.rel, expr.what, expr.oid, 0, expr.xmin FROM expr
  UNION ALL SELECT 0, 0, 5, n.oid, 0, n.xmin FROM pg_catalog.pg_namespace n WHERE n.nspname !~ '^pg_(toast_)?temp_'
  UNION ALL SELECT 1, rel.oid, 6, 0, d.objsubid, d.xmin FROM rel JOIN pg_catalog.pg_description d
    ON d.objoid = rel.oid AND d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION ALL SELECT 1, rel.oid, 7, i.indexrelid, 0, i.xmin FROM rel JOIN pg_catalog.pg_index i ON i.indrelid = rel.oid
  UNION ALL SELECT 1, rel.oid, 8, c.oid, 0, c.xmin FROM rel JOIN pg_catalog.pg_index i ON i.indrelid = rel.oid
    JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  UNION ALL SELECT 1, rel.oid, 9, k.oid, 0, k.xmin FROM rel JOIN pg_catalog.pg_constraint k ON k.conrelid = rel.oid
  UNION ALL SELECT 2, typ.oid, 10, 0, 0, typ.xmin FROM typ
  UNION ALL SELECT 2, l.enumtypid, 11, l.oid, 0, l.xmin FROM pg_catalog.pg_enum l WHERE l.enumtypid = ANY(ARRAY(SELECT typ.oid FROM typ))
  UNION ALL SELECT 2, typ.oid, 12, 0, f.attnum, f.xmin FROM typ JOIN pg_catalog.pg_attribute f ON f.attrelid = typ.typrelid
    WHERE f.attnum > 0 AND typ.typrelid <> 0
  UNION ALL SELECT 2, typ.oid, 13, 0, 0, d.xmin FROM typ JOIN pg_catalog.pg_description d
    ON d.classoid = 'pg_catalog.pg_type'::pg_catalog.regclass AND d.objoid = typ.oid
  UNION ALL SELECT 2, typ.oid, 13, 1, d.objsubid, d.xmin FROM typ JOIN pg_catalog.pg_description d
    ON d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objoid = typ.typrelid WHERE typ.typrelid <> 0
  UNION ALL SELECT 1, dep.rel, 14, c.oid, 0, c.xmin FROM dep JOIN pg_catalog.pg_class c
    ON dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND c.oid = dep.refobjid
  UNION ALL SELECT 1, dep.rel, 15, f.attrelid, f.attnum, f.xmin FROM dep JOIN pg_catalog.pg_attribute f
    ON dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND f.attrelid = dep.refobjid AND f.attnum = dep.refobjsubid
  UNION ALL SELECT 1, dep.rel, 17, t.oid, 0, t.xmin FROM dep JOIN pg_catalog.pg_type t
    ON dep.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = dep.refobjid
  UNION ALL SELECT 1, dep.rel, 17, l.enumtypid, l.oid::int8, l.xmin FROM dep JOIN pg_catalog.pg_enum l
    ON dep.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND l.enumtypid = dep.refobjid
  UNION ALL SELECT 1, dep.rel, 18, o.oid, 0, o.xmin FROM dep JOIN pg_catalog.pg_operator o
    ON dep.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = dep.refobjid
  UNION ALL SELECT 0, 0, 19, m.roleid, m.member::int8, m.xmin FROM rol JOIN pg_catalog.pg_auth_members m ON m.member = rol.oid
  UNION ALL SELECT 1, part.root, 20, c.oid, 0, c.xmin FROM part JOIN pg_catalog.pg_class c ON c.oid = part.oid
  UNION ALL SELECT 1, part.root, 21, i.inhrelid, 0, i.xmin FROM part JOIN pg_catalog.pg_inherits i ON i.inhrelid = part.oid
  UNION ALL SELECT 1, rel.oid, 21, i.inhrelid, 1, i.xmin FROM rel JOIN pg_catalog.pg_inherits i ON i.inhparent = rel.oid
  UNION ALL SELECT 0, 0, 22, p.oid, 0, p.xmin FROM pg_catalog.pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace AND (p.proacl IS NOT NULL OR p.oid >= 16384)
  UNION ALL SELECT 0, 0, 23, k.oid, 0, k.xmin FROM pg_catalog.pg_cast k WHERE k.oid >= 16384
  UNION ALL SELECT 1, rel.oid, 25, r.oid, 0, r.xmin FROM rel JOIN pg_catalog.pg_publication_rel r ON r.prrelid = rel.oid
  UNION ALL SELECT 0, 0, 26, p.oid, 0, p.xmin FROM pg_catalog.pg_publication p
  UNION ALL SELECT 0, 0, 27, n.oid, 0, n.xmin FROM pg_catalog.pg_publication_namespace n
  UNION ALL SELECT 0, 0, 28, o.oid, 0, o.xmin FROM pg_catalog.pg_collation o WHERE o.oid >= 16384
`

// beside are relations that others' rows depend on.
const beside = `
UNION ALL SELECT DISTINCT 3, x.oid, '' FROM (
  SELECT part.oid FROM part
  UNION ALL SELECT i.indexrelid FROM rel JOIN pg_catalog.pg_index i ON i.indrelid = rel.oid
  UNION ALL SELECT i.inhrelid FROM rel JOIN pg_catalog.pg_inherits i ON i.inhparent = rel.oid
  UNION ALL SELECT dep.refobjid FROM dep WHERE dep.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  UNION ALL SELECT d.refobjid FROM called JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
    AND d.objid = called.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
) x`
