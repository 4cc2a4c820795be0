package rls

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// portionRows is the most rows that a portion reads, about: fetchBytes ends it earlier where rows
// are large.
const portionRows = 10_000

// Portion is Snapshot for a part of a table: the rows behind after in the order of the key, all of
// them where after is nil, until they are about a megabyte. The transaction that reads them lasts no
// longer than that. It tells whether there may be more.
func (g *Postgres) Portion(ctx context.Context, what authz.Reading, after cdc.Row, begin func(cdc.Snapshot) error, row func(cdc.Row) error) (more bool, err error) {
	r := g.reader(what, begin, row)
	r.portion, r.after = true, after
	err = r.read(ctx)
	return r.more, err
}

// within is what is added to the SELECT of all rows. The limit is for the planner, that it takes the index.
func (r *reader) within() string {
	if !r.portion && r.where == "" {
		return ""
	}
	if !r.portion {
		return " WHERE " + r.where
	}
	var columns, values []string
	for _, i := range r.plan.table.Key {
		columns = append(columns, ident(r.plan.table.Columns[i].Def.Name))
		if r.after != nil {
			values = append(values, literal(r.after[i].Text()))
		}
	}
	key := strings.Join(columns, ", ")
	var conditions []string
	if r.where != "" {
		conditions = append(conditions, r.where)
	}
	if r.after != nil {
		conditions = append(conditions, "("+key+") > ("+strings.Join(values, ", ")+")")
	}
	where := ""
	if len(conditions) > 0 {
		where = " WHERE " + strings.Join(conditions, " AND ")
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
