package feedtest

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// connect opens a connection on which values have the text that the API starts from, whatever
// the server's defaults are.
func connect(ctx context.Context, url string, settings map[string]string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("parse URL: %w", err)
	}
	for name, value := range map[string]string{
		"DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC",
		"extra_float_digits": "3", "bytea_output": "hex",
	} {
		cfg.RuntimeParams[name] = value
	}
	for name, value := range settings {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return conn, nil
}

// param is a value as a parameter in text.
func param(v Value) []byte {
	if v.Null {
		return nil
	}
	return []byte(v.Text) // not nil, though it may be empty: an empty slice of a string never is
}

// prepare prepares statements by name.
func prepare(ctx context.Context, conn *pgconn.PgConn, statements map[string]string) error {
	for name, sql := range statements {
		if _, err := conn.Prepare(ctx, name, sql, nil); err != nil {
			return fmt.Errorf("prepare %s: %w", sql, err)
		}
	}
	return nil
}
