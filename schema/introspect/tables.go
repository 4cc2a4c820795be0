package introspect

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// annotated is the condition of a relation c to be read: a comment on it or one of its columns
// may hold a directive. $1 are the schemas, $2 asks for all. Views and foreign tables are read so
// that an annotation on one can be told to be a mistake.
const annotated = `c.relnamespace IN (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = ANY($1::text[]))
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND ($2::bool OR c.oid IN (SELECT d.objoid FROM pg_catalog.pg_description d
       WHERE d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.description LIKE '%@%'))`

// partitions is a recursive common table expression: all partitions, at any depth, of the
// partitioned tables among the relations that tables names. pg_partition_tree would wait for locks.
func partitions(tables string) string {
	return `part(root, oid) AS (
  SELECT c.oid, i.inhrelid FROM ` + tables + ` c JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid WHERE c.relkind = 'p'
  UNION ALL
  SELECT part.root, i.inhrelid FROM part JOIN pg_catalog.pg_inherits i ON i.inhparent = part.oid
)`
}

// tables reads the relations. The identity of a partitioned table is the weakest of its tree: with
// one partition that is not full, the stream has old images that are said to be whole and hold
// NULL for all but the key.
func (r *reader) tables(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
WITH RECURSIVE wanted AS MATERIALIZED (SELECT c.oid, c.relkind FROM pg_class c WHERE c.oid = ANY($4::oid[])),
rel AS MATERIALIZED (SELECT c.oid FROM pg_class c WHERE `+annotated+`), `+partitions("wanted")+`
SELECT rel.oid IS NOT NULL, c.oid, n.nspname::text, c.relname::text, c.relkind, c.relpersistence, c.relispartition,
       c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid),
       coalesce((SELECT min(l.relreplident::text) FROM part JOIN pg_class l ON l.oid = part.oid
         WHERE part.root = c.oid AND l.relreplident <> 'f' AND c.relreplident = 'f'), c.relreplident::text)::"char",
       pg_get_userbyid(c.relowner)::text, c.relrowsecurity, c.relforcerowsecurity,
       CASE c.relkind WHEN 'p' THEN coalesce((SELECT hashtext(string_agg(l.oid::text || ' ' || l.relfilenode::text, ',' ORDER BY l.oid))::bit(32)::bigint::oid
         FROM part JOIN pg_class l ON l.oid = part.oid WHERE part.root = c.oid), 0::oid) ELSE c.relfilenode END,
       CASE WHEN rel.oid IS NULL THEN '' ELSE coalesce(d.description, '') END,
       cardinality($3::text[]) > 0 AND NOT coalesce(m.member, false), coalesce(m.partly, false), m.inserts IS TRUE,
       coalesce(m.entry, 0)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN rel ON rel.oid = c.oid
LEFT JOIN pg_description d ON d.objoid = c.oid AND d.classoid = 'pg_class'::regclass AND d.objsubid = 0
LEFT JOIN LATERAL (
  SELECT true AS member, bool_or(r.prqual IS NOT NULL OR r.prattrs IS NOT NULL OR c.relkind = 'p' AND NOT p.pubviaroot) AS partly,
         NOT bool_or(p.pubupdate AND p.pubdelete AND p.pubtruncate) AS inserts,
         hashtext(string_agg(concat_ws(' ', coalesce(r.oid, s.oid), p.xmin), ',' ORDER BY p.oid))::bit(32)::bigint::oid AS entry
  FROM pg_publication p LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
  LEFT JOIN pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = c.relnamespace
  WHERE p.pubname = ANY($3::text[]) AND p.pubinsert AND (p.puballtables OR r.oid IS NOT NULL OR s.oid IS NOT NULL)
  HAVING count(*) > 0
) m ON true
WHERE c.oid = ANY($4::oid[])`, r.cfg.Schemas, r.cfg.All, nonNil(r.cfg.Publications), r.oids)
	if err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	var t schema.TableDef
	var annotated bool
	_, err = pgx.ForEachRow(rows, []any{
		&annotated, &t.OID, &t.Schema, &t.Name, &t.Kind, &t.Persistence, &t.Partition, &t.Inherited, &t.Identity,
		&t.Owner, &t.RowSecurity, &t.ForceRowSecurity, &t.Storage, &t.Comment, &t.Unpublished, &t.PartlyPublished,
		&t.InsertsPublished, &t.Publication,
	}, func() error {
		r.marked[t.OID] = annotated
		r.db.Tables = append(r.db.Tables, t)
		return nil
	})
	if err != nil {
		return fmt.Errorf("tables: %w", err)
	}
	r.order()
	return nil
}

// nonNil makes no list an empty array instead of NULL.
func nonNil[T any](s []T) []T { return append([]T{}, s...) }

// partitions reads those of partitioned tables. A table's row type is as old as the table, down to the
// command that made it, and so are its columns; unless it is attached, which changes all of them.
func (r *reader) partitions(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
WITH RECURSIVE rel AS (SELECT c.oid, c.relkind FROM pg_class c WHERE c.oid = ANY($1::oid[])), `+partitions("rel")+`
SELECT part.root, c.oid, t.xmin <> i.xmin OR NOT EXISTS (SELECT FROM pg_attribute a
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.xmin = t.xmin AND a.cmin = t.cmin) FROM part JOIN pg_class c ON c.oid = part.oid JOIN pg_type t ON t.oid = c.reltype
JOIN pg_inherits i ON i.inhrelid = part.oid WHERE NOT i.inhdetachpending ORDER BY 1, 2`, r.oids)
	if err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	var root uint32
	var p schema.PartitionDef
	_, err = pgx.ForEachRow(rows, []any{&root, &p.OID, &p.Attached}, func() error {
		t := &r.db.Tables[r.table[root]]
		t.Partitions = append(t.Partitions, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("partitions: %w", err)
	}
	return nil
}

// A column is a column and the OID of its type, before the types are known.
type column struct {
	schema.ColumnDef
	typ uint32
}

// columns reads the columns of the tables, then the types that they have.
func (r *reader) columns(ctx context.Context) error {
	columns, err := r.columnsOf(ctx, r.oids)
	if err != nil {
		return err
	}
	if err := r.folding(ctx, columns); err != nil {
		return err
	}
	if err := r.readTypes(ctx, columns); err != nil {
		return err
	}
	for _, oid := range r.oids {
		t := &r.db.Tables[r.table[oid]]
		t.Columns = r.bind(columns[oid])
		for k := range t.Columns {
			if !r.marked[oid] {
				t.Columns[k].Comment = ""
			}
		}
	}
	return nil
}

// bind gives the columns their types.
func (r *reader) bind(columns []column) []schema.ColumnDef {
	out := make([]schema.ColumnDef, len(columns))
	for i, c := range columns {
		c.Type = r.types[c.typ]
		out[i] = c.ColumnDef
	}
	return out
}

// columnsOf reads the live columns of relations: tables, or composite types. From version 18 on
// attnotnull is also set by a constraint that is NOT VALID, under which nulls exist.
func (r *reader) columnsOf(ctx context.Context, relations []uint32) (map[uint32][]column, error) {
	rows, err := r.tx.Query(ctx, `
SELECT a.attrelid, a.attname::text, a.attnum, a.atttypid, a.atttypmod,
       a.attnotnull AND NOT EXISTS (SELECT FROM pg_constraint k
         WHERE k.conrelid = a.attrelid AND k.contype = 'n' AND NOT k.convalidated AND k.conkey[1] = a.attnum),
       coalesce(d.description, ''), a.attgenerated,
       CASE WHEN a.attgenerated <> '' THEN coalesce(pg_get_expr(f.adbin, f.adrelid), '') ELSE '' END,
       CASE o.collprovider WHEN 'd' THEN $2 WHEN 'b' THEN true
         WHEN 'c' THEN coalesce(o.collcollate IN ('C', 'POSIX'), false) ELSE false END,
       coalesce(o.collisdeterministic, true), a.attcollation IN (0, 100), a.attstorage <> 'p',
       CASE WHEN has_schema_privilege(o.collnamespace, 'USAGE') THEN format('%I.%I', (SELECT n.nspname FROM pg_namespace n WHERE n.oid = o.collnamespace), o.collname) ELSE '' END,
       CASE o.collprovider WHEN 'd' THEN $3 WHEN 'c' THEN coalesce(o.collctype IN ('C', 'POSIX'), false) ELSE false END,
       a.xmin::text::bigint::oid
FROM pg_attribute a
LEFT JOIN pg_collation o ON o.oid = a.attcollation
LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
LEFT JOIN pg_description d ON d.objoid = a.attrelid AND d.classoid = 'pg_class'::regclass AND d.objsubid = a.attnum
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`, relations, r.binary, r.foldsBytes)
	if err != nil {
		return nil, fmt.Errorf("columns: %w", err)
	}
	out := make(map[uint32][]column, len(relations))
	var relation uint32
	var c column
	_, err = pgx.ForEachRow(rows, []any{
		&relation, &c.Name, &c.Number, &c.typ, &c.Modifier, &c.NotNull, &c.Comment, &c.Generated,
		&c.Expression, &c.CollationC, &c.Deterministic, &c.CollationDefault, &c.Toastable,
		&c.Collation, &c.FoldsBytes, &c.Version,
	}, func() error {
		c.CollationC = c.CollationC && r.utf8
		out[relation] = append(out[relation], c)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("columns: %w", err)
	}
	return out, nil
}

// policies reads those that count for SELECT (R01), and which versions of functions they call.
func (r *reader) policies(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
WITH RECURSIVE `+called(policyCalls)+`, call AS (
  SELECT called.root, md5(string_agg(f.oid::text || ':' || f.xmin::text, ',' ORDER BY f.oid)) AS versions
  FROM called JOIN pg_proc f ON f.oid = called.oid GROUP BY called.root
)
SELECT p.polrelid, p.polname::text, p.polpermissive, coalesce(pg_get_expr(p.polqual, p.polrelid), ''), coalesce(call.versions, '')
FROM pg_policy p LEFT JOIN call ON call.root = p.oid WHERE p.polrelid = ANY($1::oid[]) AND p.polcmd IN ('r', '*')
ORDER BY p.polrelid, p.polname`, r.oids)
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	var oid uint32
	var p schema.Policy
	_, err = pgx.ForEachRow(rows, []any{&oid, &p.Name, &p.Permissive, &p.Using, &p.Calls}, func() error {
		t := &r.db.Tables[r.table[oid]]
		t.Policies = append(t.Policies, p)
		return nil
	})
	if err != nil {
		return fmt.Errorf("policies: %w", err)
	}
	return nil
}
