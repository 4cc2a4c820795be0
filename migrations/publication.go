package migrations

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// A publication is one of the two, with its members.
type publication struct {
	name    string
	actions string
	tables  []Table
}

func (p *publication) has(t Table) bool {
	return slices.ContainsFunc(p.tables, func(m Table) bool { return m.Schema == t.Schema && m.Name == t.Name })
}

// The publications: of tables that serve everything, and of those that serve INSERT alone. Both
// always exist: START_REPLICATION names both, and a publication that is younger than the slot
// cannot be read (C79).
type publications struct{ full, insert *publication }

func (p publications) names() []string { return []string{p.full.name, p.insert.name} }

// publications makes those that are missing and reads what they have.
func (s *session) publications(ctx context.Context, name string) (publications, error) {
	out := publications{
		full:   &publication{name: name, actions: "insert, update, delete, truncate"},
		insert: &publication{name: InsertPublication(name), actions: "insert, truncate"},
	}
	var version int
	if err := s.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return publications{}, fmt.Errorf("read version: %w", err)
	}
	for _, p := range []*publication{out.full, out.insert} {
		if err := s.publication(ctx, p, version); err != nil {
			return publications{}, err
		}
	}
	return out, nil
}

// options are those of a publication. Images of partitions come as of the table that is
// published. From version 18 on stored generated columns can be published, and must be: otherwise
// UPDATE fails on a table with one and REPLICA IDENTITY FULL.
func (p *publication) options(version int) string {
	o := fmt.Sprintf("publish = %s, publish_via_partition_root = true", literal(p.actions))
	if version >= 180000 {
		o += ", publish_generated_columns = stored"
	}
	return o
}

func (s *session) publication(ctx context.Context, p *publication, version int) error {
	what := "publication " + p.name
	var right bool
	err := s.conn.QueryRow(ctx, `
SELECT NOT p.puballtables AND p.pubviaroot AND p.pubinsert AND p.pubtruncate AND p.pubupdate = $2 AND p.pubdelete = $2
       AND coalesce(to_jsonb(p) ->> 'pubgencols', 's') = 's'
       AND NOT EXISTS (SELECT FROM pg_publication_namespace n WHERE n.pnpubid = p.oid)
       AND NOT EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND (r.prattrs IS NOT NULL OR r.prqual IS NOT NULL))
FROM pg_publication p WHERE p.pubname = $1`, p.name, p.actions != "insert, truncate").Scan(&right)
	if errors.Is(err, pgx.ErrNoRows) {
		return s.do(ctx, what, fmt.Sprintf("CREATE PUBLICATION %s WITH (%s)", ident(p.name), p.options(version)), remember("publication", p.name, ""))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	ours, err := s.isCreated(ctx, "publication", p.name, "")
	switch {
	case err != nil:
		return err
	case !ours:
		return fmt.Errorf("%s: %w", what, errForeignPublication)
	case !right:
		return fmt.Errorf("%s: its options were changed by hand: run DROP PUBLICATION %s, then setup again", what, ident(p.name))
	}
	s.already(what)
	return s.members(ctx, p)
}

func (s *session) members(ctx context.Context, p *publication) error {
	rows, err := s.conn.Query(ctx, `
SELECT n.nspname::text, c.relname::text FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE p.pubname = $1 ORDER BY 1, 2`, p.name)
	if err != nil {
		return fmt.Errorf("read publication %s: %w", p.name, err)
	}
	p.tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Table, err error) {
		return t, row.Scan(&t.Schema, &t.Name)
	})
	if err != nil {
		return fmt.Errorf("read publication %s: %w", p.name, err)
	}
	return nil
}
