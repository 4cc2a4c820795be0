package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// rememberIdentity is the statement that notes the identity of a table before it is set to full.
func rememberIdentity(table string) string {
	return fmt.Sprintf(`INSERT INTO rowtide.replica_identity (relation, schema_name, table_name, previous, previous_index)
SELECT c.oid, n.nspname, c.relname, c.relreplident,
       (SELECT x.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisreplident)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = %s::pg_catalog.regclass AND c.relreplident <> 'f'
ON CONFLICT (relation) DO UPDATE SET schema_name = excluded.schema_name, table_name = excluded.table_name,
  previous = excluded.previous, previous_index = excluded.previous_index, changed_at = pg_catalog.now()`, literal(table))
}

// A changed is a table whose identity Sync set to full, and what it was.
type changed struct {
	oid      uint32
	table    string // quoted, as it is now
	previous string
	index    string // "" where there was none or it is gone
	full     bool   // it still is
	// needed tells that another publication has updates of the table, and that the identity
	// of before could not serve it: restored, the application's UPDATE would fail.
	needed bool
}

// restoreSQL puts the identity back, unless somebody else changed it since. While it is needed it
// stays, and is remembered.
func (c changed) restoreSQL() []string {
	gone := fmt.Sprintf("DELETE FROM rowtide.replica_identity WHERE relation = %d", c.oid)
	switch {
	case !c.full:
		return []string{gone}
	case c.needed:
		return nil
	}
	to := "DEFAULT"
	switch {
	case c.previous == "n":
		to = "NOTHING"
	case c.previous == "i" && c.index != "":
		to = "USING INDEX " + ident(c.index)
	}
	return []string{fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", c.table, to), gone}
}

// restoreIdentity gives the statements that restore the identities of some tables, of those that
// Sync changed.
func (s *session) restoreIdentity(ctx context.Context, tables []string, ours []string) ([]string, error) {
	all, err := s.changedIdentities(ctx, ours)
	if err != nil {
		return nil, err
	}
	var sql []string
	for _, c := range all {
		for _, t := range tables {
			if c.table == t {
				sql = append(sql, c.restoreSQL()...)
			}
		}
	}
	return sql, nil
}

// changedIdentities reads what Sync changed, less tables that are gone. After a dump and restore
// OIDs are others: then the name counts.
func (s *session) changedIdentities(ctx context.Context, ours []string) ([]changed, error) {
	ok, err := s.has(ctx, "replica_identity")
	if err != nil || !ok {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, `
SELECT DISTINCT ON (r.relation) r.relation, format('%I.%I', n.nspname, c.relname), r.previous::text,
       coalesce(x.relname::text, ''), c.relreplident = 'f',
       CASE r.previous WHEN 'n' THEN true WHEN 'i' THEN x.oid IS NULL
         ELSE NOT EXISTS (SELECT FROM pg_index k WHERE k.indrelid = c.oid AND k.indisprimary) END
       AND EXISTS (SELECT FROM pg_publication p WHERE (p.pubupdate OR p.pubdelete) AND p.pubname <> ALL($1::text[])
         AND (p.puballtables
           OR EXISTS (SELECT FROM pg_publication_namespace s WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
           OR EXISTS (SELECT FROM pg_publication_rel m WHERE m.prpubid = p.oid
             AND (m.prrelid = c.oid OR m.prrelid IN (SELECT a.relid FROM pg_partition_ancestors(c.oid) a(relid))))))
FROM rowtide.replica_identity r
JOIN pg_class c ON c.relkind IN ('r', 'p')
JOIN pg_namespace n ON n.oid = c.relnamespace AND (c.oid = r.relation OR n.nspname = r.schema_name AND c.relname = r.table_name)
LEFT JOIN pg_class x ON x.relnamespace = c.relnamespace AND x.relname = r.previous_index
  AND EXISTS (SELECT FROM pg_index i WHERE i.indexrelid = x.oid AND i.indrelid = c.oid AND i.indisvalid)
ORDER BY r.relation, (n.nspname = r.schema_name AND c.relname = r.table_name) DESC`, ours)
	if err != nil {
		return nil, fmt.Errorf("read replica identities: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c changed, err error) {
		return c, row.Scan(&c.oid, &c.table, &c.previous, &c.index, &c.full, &c.needed)
	})
	if err != nil {
		return nil, fmt.Errorf("read replica identities: %w", err)
	}
	return out, nil
}
