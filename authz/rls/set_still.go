package rls

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// StillCommit is the transaction as of which images are judged behind Still.
const StillCommit cdc.LSN = 1

// Still keeps what the policies on a table ask of others as it is now, in place of Use and Follow:
// for who looks at a row as it is and follows no stream. Ways tells which tables are not kept, and why
// not. It is called once, and does nothing without Config.Sets.
func (g *Postgres) Still(ctx context.Context, t *schema.Table) error {
	s := g.keeps
	if s == nil || t.Def.Related == nil {
		return nil
	}
	s.mu.Lock()
	s.still, s.now, s.end = true, StillCommit, StillCommit
	s.mu.Unlock()
	g.use([]*schema.Table{t}) //nolint:contextcheck // what it starts ends with Close
	conn, err := pgconn.ConnectConfig(ctx, g.keepSession)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, k := range s.tables {
		var refused refusedError
		if err := s.readStill(ctx, conn, k); errors.As(err, &refused) {
			k.phase, k.why = phaseRefused, refused.why
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (s *keeps) readStill(ctx context.Context, conn *pgconn.PgConn, k *kept) error {
	if _, err := s.fits(ctx, conn, k); err != nil {
		return err
	}
	rows, err := s.readRows(ctx, conn, k)
	if err != nil {
		return err
	}
	set := newRowSet(k.indexes)
	for _, row := range rows {
		set.add(row, 1)
	}
	k.phase, k.rows = phaseKept, set
	return nil
}

// holdings tells for people what is kept of tables.
func (s *keeps) holdings(of []*kept) []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []string
	for _, k := range of {
		var names []string
		for _, c := range k.columns {
			names = append(names, k.def.Columns[c].Name)
		}
		slices.Sort(names)
		text := k.def.Schema + "." + k.def.Name + " (" + strings.Join(names, ", ") + ")"
		if now := s.tables[k.def.OID]; now != nil && now.keeping != nil && now.rows != nil {
			text += fmt.Sprintf(", %d distinct rows in %d KiB", len(now.rows.entries), now.size()>>10+1)
		}
		out = append(out, text)
	}
	slices.Sort(out)
	return out
}
