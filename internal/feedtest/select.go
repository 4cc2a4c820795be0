package feedtest

import (
	"context"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// Select gives the rows that the subscriber's SELECT returns now, under its role and claims, on
// the database of a superuser's URL. Columns that the role may not read are left empty.
func (s *Subscription) Select(ctx context.Context, url string) (Rows, error) {
	w, err := openWitness(ctx, url, s.Principal, []*eye{newEye("select", s)})
	if err != nil {
		return nil, fmt.Errorf("select for %s: %w", s.Name, err)
	}
	defer func() { _ = w.conn.Close(context.WithoutCancel(ctx)) }()
	out := make(Rows)
	err = w.look(ctx, nil, func(e *eye, key string, row [][]byte) error {
		out[key] = e.image(row)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("select for %s: %w", s.Name, err)
	}
	return out, nil
}

// CurrentLSN is the end of the WAL of the database's server: what has committed so far lies
// before it, what begins to commit from now on behind it.
func CurrentLSN(ctx context.Context, url string) (pglogrepl.LSN, error) {
	conn, err := connect(ctx, url, nil)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&text); err != nil {
		return 0, fmt.Errorf("ask for the end of the WAL: %w", err)
	}
	return pglogrepl.ParseLSN(text)
}
