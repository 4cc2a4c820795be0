package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A Table keeps entries in the table rowtide.audit, over a connection of its own. What cannot be
// written because the database is away waits until it is back; a batch whose answer was lost with
// the connection may stand there twice.
type Table struct {
	url  chan string // has the URL once it is known
	conn *pgx.Conn   // Write's alone
	at   string
}

// NewTable makes a Table. Its entries wait until Open is called.
func NewTable() *Table { return &Table{url: make(chan string, 1)} }

// Open says where the table is: the connection string of a login that may insert.
func (t *Table) Open(url string) {
	select {
	case <-t.url: // of before
	default:
	}
	t.url <- url
}

const (
	// tableEvery is how often a database that is away is tried.
	tableEvery = 500 * time.Millisecond
	// tableMost bounds one try.
	tableMost = 10 * time.Second
)

// insertSQL takes all entries in one parameter.
const insertSQL = `
INSERT INTO rowtide.audit (at, event, role, subject, address, transport, table_name, operation, filter, reason, sqlstate, count, detail)
SELECT r.time, r.event, r.role, r.subject, r.address, r.transport, r."table", r.operation, r.filter, r.reason, r.sqlstate, r.count, r.detail
FROM pg_catalog.json_to_recordset($1::pg_catalog.json) AS r(time pg_catalog.timestamptz, event pg_catalog.text, role pg_catalog.text, subject pg_catalog.text,
  address pg_catalog.text, transport pg_catalog.text, "table" pg_catalog.text, operation pg_catalog.text, filter pg_catalog.text[], reason pg_catalog.text,
  sqlstate pg_catalog.text, count pg_catalog.int4, detail pg_catalog.text)`

// Write inserts all entries with one statement.
func (t *Table) Write(ctx context.Context, entries []Entry) error {
	param, err := json.Marshal(entries)
	if err != nil {
		return fmt.Errorf("write audit table: %w", err)
	}
	// No text in PostgreSQL has this character; clients may send what they like.
	param = bytes.ReplaceAll(param, []byte(`\u0000`), []byte(`\ufffd`))
	for {
		if err = t.insert(ctx, string(param)); err == nil || lasting(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(tableEvery):
		}
	}
}

// Close ends the connection. Nothing may be written meanwhile, or later.
func (t *Table) Close(ctx context.Context) error {
	if t.conn == nil {
		return nil
	}
	return t.conn.Close(ctx)
}

func (t *Table) insert(ctx context.Context, param string) error {
	if err := t.connect(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, tableMost)
	defer cancel()
	if _, err := t.conn.Exec(ctx, insertSQL, param); err != nil {
		return fmt.Errorf("write audit table: %w", err)
	}
	return nil
}

func (t *Table) connect(ctx context.Context) error {
	select {
	case t.at = <-t.url:
	default:
		if t.conn != nil && !t.conn.IsClosed() {
			return nil
		}
	}
	if t.at == "" {
		return errors.New("write audit table: the database is not known yet")
	}
	c, err := pgx.ParseConfig(t.at)
	if err != nil {
		return fmt.Errorf("write audit table: %w", err)
	}
	c.RuntimeParams["application_name"] = "rowtide audit"
	ctx, cancel := context.WithTimeout(ctx, tableMost)
	defer cancel()
	if t.conn, err = pgx.ConnectConfig(ctx, c); err != nil {
		return fmt.Errorf("write audit table: %w", err)
	}
	return nil
}

// lasting tells that trying again would not help: the table refuses. A server that is away, full,
// in recovery or short of something may come back.
func lasting(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, class := range []string{"08", "25", "40", "53", "55", "57", "58"} {
		if strings.HasPrefix(pg.Code, class) {
			return false
		}
	}
	return true
}
