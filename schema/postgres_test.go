package schema_test

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// connect opens a session that prints values as the stream does.
func connect(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(db.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{
		"DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "3", "bytea_output": "hex",
	} {
		cfg.RuntimeParams[name] = v
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
