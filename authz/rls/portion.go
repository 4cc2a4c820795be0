package rls

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// portionRows is the most rows that a portion reads, about: fetchBytes ends it earlier where rows
// are large.
const portionRows = 10_000

// Portion is Snapshot for a part of a table: the rows behind after in the order of the key, all of
// them where after is nil, until they are about a megabyte. The transaction that reads them lasts no
// longer than that. It tells whether there may be more.
func (g *Postgres) Portion(ctx context.Context, p *authz.Principal, t *schema.Table, readable []bool, settled []uint32, after cdc.Row,
	begin func(cdc.Snapshot) error, row func(cdc.Row) error,
) (more bool, err error) {
	r := &reader{
		g: g, plan: g.plan(t, p.Role), principal: p, actor: newActor(p, g.path), readable: readable, settled: settled,
		deadline: time.Now().Add(g.cfg.VisibilityWait), begin: begin, row: row, portion: true, after: after,
	}
	err = r.read(ctx)
	return r.more, err
}

// within is what a portion adds to the SELECT. The limit is for the planner, that it takes the index.
func (r *reader) within() string {
	if !r.portion {
		return ""
	}
	var columns, values []string
	for _, i := range r.plan.table.Key {
		columns = append(columns, ident(r.plan.table.Columns[i].Def.Name))
		if r.after != nil {
			values = append(values, literal(r.after[i].Text()))
		}
	}
	key := strings.Join(columns, ", ")
	where := ""
	if r.after != nil {
		where = " WHERE (" + key + ") > (" + strings.Join(values, ", ") + ")"
	}
	return fmt.Sprintf("%s ORDER BY %s LIMIT %d", where, key, portionRows+fetchRows)
}

// flushWait bounds the wait for the WAL to be flushed, flushEvery paces it.
const (
	flushWait  = 500 * time.Millisecond
	flushEvery = 2 * time.Millisecond
)

// findEnd notes where the WAL ends behind the snapshot, and waits until it is flushed up to there:
// then a crash does not make PostgreSQL give ids anew that the snapshot takes for ended. What nobody
// flushes for so long is of a transaction that is still open, and no longer waited for.
func (r *reader) findEnd(ctx context.Context, snapshot *cdc.Snapshot) error {
	for late := time.Now().Add(flushWait); ; {
		result := r.s.conn.ExecParams(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text, pg_catalog.pg_current_wal_flush_lsn()::pg_catalog.text", nil, nil, nil, nil).Read()
		if result.Err != nil {
			return &lostError{result.Err}
		}
		end, err := cdc.ParseLSN(string(result.Rows[0][0]))
		if err != nil {
			return &lostError{err}
		}
		flushed, err := cdc.ParseLSN(string(result.Rows[0][1]))
		if err != nil {
			return &lostError{err}
		}
		if snapshot.End == 0 {
			snapshot.End = end
		}
		if flushed >= snapshot.End || time.Now().After(late) {
			return nil
		}
		timer := time.NewTimer(flushEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
