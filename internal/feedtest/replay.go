package feedtest

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A replayer does commits again on another database, each as one transaction.
type replayer struct {
	conn *pgconn.PgConn
}

func openReplayer(ctx context.Context, url string, tables []*Table) (*replayer, error) {
	// The source's triggers and cascades have left their changes in the WAL.
	conn, err := connect(ctx, url, map[string]string{"session_replication_role": "replica"})
	if err != nil {
		return nil, err
	}
	r := &replayer{conn: conn.PgConn()}
	statements := make(map[string]string)
	for _, t := range tables {
		names, places, sets, keys := make([]string, len(t.Columns)), make([]string, len(t.Columns)), make([]string, len(t.Columns)), make([]string, len(t.Key))
		for i, c := range t.Columns {
			names[i], places[i] = quote(c.Name), fmt.Sprintf("$%d", i+1)
			sets[i] = names[i] + " = " + places[i]
		}
		where := func(from int) string {
			for i, k := range t.Key {
				keys[i] = fmt.Sprintf("%s = $%d", quote(k), from+i)
			}
			return " WHERE " + strings.Join(keys, " AND ")
		}
		statements[Insert+t.Name] = "INSERT INTO " + t.sql() + " (" + strings.Join(names, ", ") + ") OVERRIDING SYSTEM VALUE VALUES (" + strings.Join(places, ", ") + ")"
		statements[Update+t.Name] = "UPDATE " + t.sql() + " SET " + strings.Join(sets, ", ") + where(len(t.Columns)+1)
		statements[Delete+t.Name] = "DELETE FROM " + t.sql() + where(1)
		statements[Truncate+t.Name] = "TRUNCATE " + t.sql()
	}
	if err := prepare(ctx, r.conn, statements); err != nil {
		_ = r.conn.Close(ctx)
		return nil, err
	}
	return r, nil
}

// apply does a commit again. Every row must be found: otherwise the databases have diverged.
func (r *replayer) apply(ctx context.Context, c *commit) error {
	batch := &pgconn.Batch{} // one implicit transaction
	for i := range c.changes {
		ch := &c.changes[i]
		batch.ExecPrepared(ch.kind+ch.table.Name, ch.params(), nil, nil)
	}
	results := r.conn.ExecBatch(ctx, batch)
	for i := 0; results.NextResult(); i++ {
		tag, err := results.ResultReader().Close()
		if err != nil {
			break
		}
		if ch := &c.changes[i]; ch.kind != Truncate && tag.RowsAffected() != 1 {
			_ = results.Close()
			return fmt.Errorf("replay commit %s: %s of %s met %d rows", c.lsn, ch.kind, ch.table.Name, tag.RowsAffected())
		}
	}
	if err := results.Close(); err != nil {
		return fmt.Errorf("replay commit %s: %w", c.lsn, err)
	}
	return nil
}

func (ch *change) params() [][]byte {
	var out [][]byte
	for _, v := range ch.new {
		out = append(out, param(v))
	}
	if ch.kind == Insert {
		return out
	}
	row := ch.old
	if row == nil {
		row = ch.new // the identity did not change
	}
	if row == nil {
		return nil
	}
	for _, c := range ch.table.keyColumns() {
		out = append(out, param(row[c]))
	}
	return out
}
