package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A cost is what REPLICA IDENTITY FULL does to the WAL of an update that leaves the wide values
// alone: the old row is written too, with every out-of-line value in it.
type cost struct {
	rows   int     // that were looked at
	narrow float64 // bytes a row, of values that are kept in it
	wide   float64 // of values large enough to be kept out of line
}

const (
	// recordBytes is about what a WAL record of an update has around the rows.
	recordBytes = 60
	// wideBytes is where TOAST begins to move values out of line (TOAST_TUPLE_THRESHOLD).
	wideBytes = 2000
	// dearFactor is where somebody should have agreed. Without out-of-line values the factor
	// stays below 2.
	dearFactor = 3
	// sampleRows bounds how much of a table is looked at, and sampleTime how long.
	sampleRows = 1000
	sampleTime = "2s"
)

func (c cost) factor() float64 {
	return (recordBytes + 2*c.narrow + c.wide) / (recordBytes + c.narrow)
}

func (c cost) dear() bool { return c.rows > 0 && c.factor() >= dearFactor }

// String is for people.
func (c cost) String() string {
	if c.rows == 0 {
		return "the WAL of its updates up to twice as large, or more with TOAST values; no rows to tell by"
	}
	return fmt.Sprintf("the WAL of its updates about %.1f times as large", c.factor())
}

// estimate looks at the sizes of stored values; pg_column_size does not fetch what is out of line.
// A table that cannot be read in time is taken for cheap: the estimate is advice, not a lock.
func (s *session) estimate(ctx context.Context, r *relation) (cost, error) {
	var columns []string
	rows, err := s.conn.Query(ctx, `SELECT a.attname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'`, r.Schema, r.Name)
	if err == nil {
		columns, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return cost{}, fmt.Errorf("read columns of %s: %w", r.Table, err)
	}
	if len(columns) == 0 {
		return cost{}, nil
	}
	var narrow, wide []string
	for _, c := range columns {
		size := "coalesce(pg_column_size(t." + ident(c) + "), 0)"
		narrow = append(narrow, fmt.Sprintf("CASE WHEN %s <= %d THEN %[1]s ELSE 18 END", size, wideBytes))
		wide = append(wide, fmt.Sprintf("CASE WHEN %s > %d THEN %[1]s ELSE 0 END", size, wideBytes))
	}
	var out cost
	err = pgx.BeginTxFunc(ctx, s.conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SET LOCAL statement_timeout = '"+sampleTime+"'"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, fmt.Sprintf(`SELECT count(*), coalesce(avg(%s), 0)::float8, coalesce(avg(%s), 0)::float8
			FROM (SELECT * FROM %s LIMIT %d) t`, strings.Join(narrow, " + "), strings.Join(wide, " + "), r.Table, sampleRows)).
			Scan(&out.rows, &out.narrow, &out.wide)
	})
	if code(err) != "" {
		return cost{}, nil
	}
	return out, err
}
