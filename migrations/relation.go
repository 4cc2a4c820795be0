package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A relation is a wanted table with what decides whether publishing it does harm.
type relation struct {
	Table
	exists      bool
	kind        string
	persistence string
	partition   bool
	owned       bool // the administrator may alter it
	primary     bool
	inherited   bool // has inheritance children that are no partitions
	virtual     bool // has a virtual generated column
	tree        []member
	// listed are other publications that publish updates or deletes of the table with a
	// column list, or without its stored generated columns: under REPLICA IDENTITY FULL the
	// application's UPDATE would fail (C77).
	listed []string
}

// A member is the table itself or a partition of it.
type member struct {
	name     string // quoted
	identity string
}

// weak are those whose identity is not full yet. Partitions count: rows are written to them, and
// ALTER TABLE ... REPLICA IDENTITY does not reach from the table to its partitions.
func (r *relation) weak() []string {
	var out []string
	for _, m := range r.tree {
		if m.identity != "f" {
			out = append(out, m.name)
		}
	}
	return out
}

// refusal says why the table cannot be published, "" where it can.
func (r *relation) refusal() string {
	switch {
	case !r.exists:
		return "it does not exist"
	case r.kind != "r" && r.kind != "p":
		return "it is no table: only tables have a change stream"
	case r.persistence != "p":
		return "it is unlogged or temporary, so its changes are not in the WAL: ALTER TABLE " + r.String() + " SET LOGGED"
	case r.partition:
		return "it is a partition: publish the table that it is a partition of"
	case r.inherited:
		return "it has inheritance children: its SELECT shows their rows, its changes do not"
	case !r.owned:
		return "the administrator does not own it: use an --admin-url of its owner"
	case !r.Full:
		return ""
	case r.kind == "p" && !r.primary:
		return "a partitioned table needs a primary key: without one, UPDATE would fail in partitions made later"
	case r.virtual:
		return "it has a virtual generated column: with REPLICA IDENTITY FULL, which its changes need, UPDATE would fail; make the column STORED"
	case len(r.listed) > 0:
		return fmt.Sprintf("publication %s publishes only some of its columns: with REPLICA IDENTITY FULL, which its changes need, UPDATE would fail; "+
			"publish all columns there", strings.Join(r.listed, ", "))
	}
	return ""
}

// relations reads the wanted tables.
func (s *session) relations(ctx context.Context, tables []Table, ours []string) ([]relation, error) {
	out := make([]relation, len(tables))
	for i, t := range tables {
		r := relation{Table: t}
		if err := s.relation(ctx, &r, ours); err != nil {
			return nil, fmt.Errorf("read table %s: %w", t, err)
		}
		out[i] = r
	}
	return out, nil
}

// treeOf are the table and its partitions at any depth; $1 and $2 are its schema and name.
const treeOf = `
WITH RECURSIVE tree(oid) AS (
  SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2
  UNION
  SELECT i.inhrelid FROM tree JOIN pg_class p ON p.oid = tree.oid AND p.relkind = 'p' JOIN pg_inherits i ON i.inhparent = tree.oid
)`

func (s *session) relation(ctx context.Context, r *relation, ours []string) error {
	err := s.conn.QueryRow(ctx, treeOf+`
SELECT c.relkind::text, c.relpersistence::text, c.relispartition, pg_has_role(c.relowner, 'USAGE'),
       EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary),
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind <> 'p'),
       EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attgenerated = 'v' AND NOT a.attisdropped),
       ARRAY(SELECT DISTINCT p.pubname::text FROM pg_publication p JOIN tree ON true JOIN pg_class l ON l.oid = tree.oid
         LEFT JOIN pg_publication_rel m ON m.prpubid = p.oid AND m.prrelid = l.oid
         LEFT JOIN pg_publication_namespace s ON s.pnpubid = p.oid AND s.pnnspid = l.relnamespace
         WHERE p.pubname <> ALL($3::text[]) AND (p.pubupdate OR p.pubdelete)
           AND (m.prattrs IS NOT NULL
             OR (m.oid IS NOT NULL OR s.oid IS NOT NULL OR p.puballtables) AND to_jsonb(p) ->> 'pubgencols' <> 's'
               AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = l.oid AND a.attgenerated = 's' AND NOT a.attisdropped)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`,
		r.Schema, r.Name, ours).Scan(&r.kind, &r.persistence, &r.partition, &r.owned, &r.primary, &r.inherited, &r.virtual, &r.listed)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return err
	}
	r.exists = true
	r.tree, err = s.readTree(ctx, r.Table)
	return err
}

func (s *session) readTree(ctx context.Context, t Table) ([]member, error) {
	rows, err := s.conn.Query(ctx, treeOf+`
SELECT format('%I.%I', n.nspname, c.relname), c.relreplident::text
FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace
ORDER BY c.relkind DESC, 1`, t.Schema, t.Name)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m member, err error) {
		return m, row.Scan(&m.name, &m.identity)
	})
}

// tree are the quoted names of a table and its partitions.
func (s *session) tree(ctx context.Context, t Table) ([]string, error) {
	tree, err := s.readTree(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", t, err)
	}
	out := make([]string, len(tree))
	for i, m := range tree {
		out[i] = m.name
	}
	return out, nil
}
