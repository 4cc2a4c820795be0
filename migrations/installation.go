package migrations

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// An Installation is what one database knows of itself as a Rowtide installation.
type Installation struct {
	ID string // a UUID
	// CursorSecret is what cursors are encrypted with, unless the configuration has another.
	CursorSecret []byte
	// MessageKey verifies the logical messages of the event triggers.
	MessageKey []byte
	// EventTriggers tells that changes of the catalog are announced in the stream. Without
	// them polling alone notices.
	EventTriggers bool
}

// A Querier runs one query: *pgx.Conn, *pgxpool.Pool and pgx.Tx do.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// ErrNotInstalled tells that schema rowtide is missing or not open to the login.
var ErrNotInstalled = errors.New("the database is not set up for Rowtide: run rowtide setup --admin-url URL --roles ROLE,…")

// ReadInstallation reads the installation as the service login.
func ReadInstallation(ctx context.Context, db Querier) (Installation, error) {
	var i Installation
	err := db.QueryRow(ctx, `
SELECT id::text, cursor_secret, message_key,
       (SELECT count(*) = 2 FROM pg_catalog.pg_event_trigger e WHERE e.evtname = ANY($1::text[]) AND e.evtenabled <> 'D')
FROM rowtide.installation`, []string{ddlTrigger, dropTrigger}).Scan(&i.ID, &i.CursorSecret, &i.MessageKey, &i.EventTriggers)
	switch c := code(err); {
	case errors.Is(err, pgx.ErrNoRows), c == pgerrcode.UndefinedTable, c == pgerrcode.InvalidSchemaName:
		return Installation{}, ErrNotInstalled
	case c == pgerrcode.InsufficientPrivilege:
		return Installation{}, noAccess(ctx, db)
	case err != nil:
		return Installation{}, fmt.Errorf("read installation: %w", err)
	}
	return i, nil
}

// Logins are the service logins that setup was run for, read as an administrator; none where it was
// not.
func Logins(ctx context.Context, db Querier) ([]string, error) {
	var logins []string
	err := db.QueryRow(ctx, `SELECT coalesce(pg_catalog.array_agg(name), '{}') FROM rowtide.created WHERE kind = 'installation'`).Scan(&logins)
	switch code(err) {
	case pgerrcode.UndefinedTable, pgerrcode.InvalidSchemaName:
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read logins: %w", err)
	}
	return logins, nil
}

// noAccess tells a login that setup did not make which to use.
func noAccess(ctx context.Context, db Querier) error {
	var login string
	if err := db.QueryRow(ctx, `SELECT session_user::text`).Scan(&login); err != nil {
		return fmt.Errorf("read login: %w", err)
	}
	return &failure{fmt.Sprintf("login %s may not read schema rowtide: use the login that rowtide setup made, or run it again with --login %s", login, login), ErrNotInstalled}
}
