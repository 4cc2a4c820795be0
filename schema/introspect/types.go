package introspect

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// A typeRow is a type before those that it is made of are known. OIDs are 0 for none.
type typeRow struct {
	schema.Type
	elem, base, relation uint32
}

// typesUsed is the recursive part of a query: the types of a set of columns and all that those
// are made of. Arrays are told by typarray: point and int2vector have elements too, but not the
// text of arrays.
const typesUsed = `
  UNION
  SELECT x.oid FROM used u JOIN pg_catalog.pg_type t ON t.oid = u.oid
  CROSS JOIN LATERAL (
    SELECT e.oid FROM pg_catalog.pg_type e WHERE e.oid = t.typelem AND e.typarray = t.oid
    UNION ALL SELECT t.typbasetype WHERE t.typtype = 'd'
    UNION ALL SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE t.typtype IN ('r', 'm') AND t.oid IN (g.rngtypid, g.rngmultitypid)
    UNION ALL SELECT f.atttypid FROM pg_catalog.pg_attribute f
      WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
  ) x(oid)`

// readTypes reads those types of columns into r.types that are not there.
func (r *reader) readTypes(ctx context.Context, columns map[uint32][]column) error {
	types, err := r.typeRows(ctx, r.newTypes(columns))
	if err != nil {
		return err
	}
	types = slices.DeleteFunc(types, func(t typeRow) bool { return r.types[t.OID] != nil })
	var composites []uint32
	for i := range types {
		r.types[types[i].OID] = &types[i].Type
		if types[i].Kind == 'c' {
			composites = append(composites, types[i].relation)
		}
	}
	fields, err := r.columnsOf(ctx, composites)
	if err != nil {
		return err
	}
	for i := range types {
		t := &types[i]
		t.Elem, t.Base = r.types[t.elem], r.types[t.base]
		if t.Kind == 'c' {
			t.Fields = r.bind(fields[t.relation])
		}
	}
	return nil
}

func (r *reader) newTypes(columns map[uint32][]column) []uint32 {
	seen := map[uint32]bool{}
	var out []uint32
	for _, list := range columns {
		for i := range list {
			if t := list[i].typ; !seen[t] && r.types[t] == nil {
				seen[t] = true
				out = append(out, t)
			}
		}
	}
	return out
}

func (r *reader) typeRows(ctx context.Context, oids []uint32) ([]typeRow, error) {
	rows, err := r.tx.Query(ctx, `
WITH RECURSIVE used(oid) AS (
  SELECT unnest($1::oid[])`+typesUsed+`
)
SELECT t.oid, n.nspname::text, t.typname::text, t.typtype, t.typdelim, t.typrelid, coalesce(d.description, ''),
       coalesce(e.oid, 0::oid),
       coalesce(CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE g.rngsubtype END, 0::oid),
       ARRAY(SELECT l.enumlabel::text FROM pg_enum l WHERE l.enumtypid = t.oid ORDER BY l.enumsortorder)
FROM used u JOIN pg_type t ON t.oid = u.oid JOIN pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_type e ON e.oid = t.typelem AND e.typarray = t.oid
LEFT JOIN pg_range g ON t.typtype IN ('r', 'm') AND t.oid IN (g.rngtypid, g.rngmultitypid)
LEFT JOIN pg_description d ON d.objoid = t.oid AND d.classoid = 'pg_type'::regclass AND d.objsubid = 0
ORDER BY t.oid`, oids)
	if err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	var out []typeRow
	var t typeRow
	_, err = pgx.ForEachRow(rows, []any{
		&t.OID, &t.Schema, &t.Name, &t.Kind, &t.Delimiter, &t.relation, &t.Comment,
		&t.elem, &t.base, &t.Labels,
	}, func() error {
		out = append(out, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("types: %w", err)
	}
	return out, nil
}
