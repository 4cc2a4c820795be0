// Package demo is the sample application of `rowtide demo`: a schema with row-level security,
// a writer that keeps it moving, and what the page gets there and nowhere else: the sample's
// users with their tokens, and writes at the press of a button.
//
// Nothing of it is for data that matters: it gives tokens to whoever asks from this machine.
package demo

import (
	"context"
	_ "embed"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// Schema is the SQL of the sample application, for an empty database.
//
//go:embed schema.sql
var Schema string

// Role is the Postgres role of every user of the sample.
const Role = "web_user"

// Users are the sample's users: ana and ben share a team, ben and cleo another.
func Users() []string { return []string{"ana", "ben", "cleo"} }

func isUser(name string) bool { return slices.Contains(Users(), name) }

// Load makes the sample in an empty database, as its superuser.
func Load(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to demo database: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, Schema); err != nil {
		return fmt.Errorf("load demo schema: %w", err)
	}
	return nil
}
