package introspect

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// An index is a unique index as pg_index has it.
type index struct {
	relation                             uint32
	name                                 string
	columns                              []string
	primary, valid, immediate, exclusion bool
	predicate, expression                bool
}

func (r *reader) keys(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
SELECT i.indrelid, c.relname::text, i.indisprimary, i.indisvalid AND i.indisready, i.indimmediate, i.indisexclusion,
       i.indpred IS NOT NULL, i.indexprs IS NOT NULL,
       ARRAY(SELECT a.attname::text FROM unnest(i.indkey) WITH ORDINALITY k(num, n)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num
             WHERE k.n <= i.indnkeyatts ORDER BY k.n)
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = ANY($1::oid[]) AND i.indisunique AND i.indislive
ORDER BY i.indrelid, NOT i.indisprimary, c.relname`, r.oids)
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	var x index
	_, err = pgx.ForEachRow(rows, []any{
		&x.relation, &x.name, &x.primary, &x.valid, &x.immediate, &x.exclusion,
		&x.predicate, &x.expression, &x.columns,
	}, func() error {
		t := &r.db.Tables[r.table[x.relation]]
		t.Keys = append(t.Keys, x.key(t))
		return nil
	})
	if err != nil {
		return fmt.Errorf("keys: %w", err)
	}
	return nil
}

// key judges whether the index identifies rows at every moment at which the fold looks: with a
// deferred one, UPDATE ... SET id = id + 1 passes through states with two rows of one key.
func (x *index) key(t *schema.TableDef) schema.KeyDef {
	var lacks []string
	for _, c := range []struct {
		is   bool
		what string
	}{
		{!x.valid, "it is not valid: REINDEX it"},
		{!x.immediate, "it is DEFERRABLE, so two rows can have one key for a moment"},
		{x.exclusion, "it is WITHOUT OVERLAPS"},
		{x.predicate, "it is partial (WHERE), so it says nothing about other rows"},
		{x.expression, "it is over an expression, not plain columns"},
	} {
		if c.is {
			lacks = append(lacks, c.what)
		}
	}
	k := schema.KeyDef{Name: x.name, Primary: x.primary}
	if !x.expression {
		k.Columns = x.columns
		lacks = append(lacks, nullable(t, x.columns)...)
	}
	k.Usable, k.Problem = len(lacks) == 0, strings.Join(lacks, "; ")
	return k
}

func nullable(t *schema.TableDef, columns []string) []string {
	var out []string
	for _, name := range columns {
		for i := range t.Columns {
			if c := &t.Columns[i]; c.Name == name && !c.NotNull {
				out = append(out, fmt.Sprintf("column %s may be null: ALTER TABLE … ALTER COLUMN %s SET NOT NULL", name, pgx.Identifier{name}.Sanitize()))
			}
		}
	}
	return out
}
