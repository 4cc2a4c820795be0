// Package migrations writes everything that Rowtide writes into a database: its own objects in
// schema rowtide (golang-migrate, from the embedded files in sql/), the service login and its
// grants, the event triggers, the publications and the replica identities.
//
// Every function can be run again: what is there already is left as it is. What is made outside
// schema rowtide is remembered in it, so that Down removes that, restores what Sync changed, and
// leaves nothing else behind. No table is published whose application's UPDATE or DELETE would
// then fail.
//
// It does not create the replication slot: the service does, after the publications (a slot that
// is older than its publication cannot be read).
package migrations

import (
	"embed"
	"strings"

	"github.com/jackc/pgx/v5"
)

//go:embed sql/*.sql
var files embed.FS

// Schema is the schema of Rowtide's own objects.
const Schema = "rowtide"

// Defaults of the names that operators can choose.
const (
	DefaultLogin       = "rowtide"
	DefaultPublication = "rowtide"
	DefaultSlot        = "rowtide"
)

// versionTable is golang-migrate's own.
const versionTable = "schema_migrations"

// InsertPublication is the name of the second publication, for tables that serve only INSERT: it
// publishes no updates and deletes, so these tables need no replica identity. START_REPLICATION
// must name both.
func InsertPublication(publication string) string { return publication + "_insert" }

// A Table is a table to publish.
type Table struct {
	Schema string
	Name   string
	// Full asks for updates and deletes too, which needs REPLICA IDENTITY FULL. Defaults to
	// false: inserts and truncates alone, and the identity is left as it is.
	Full bool
	// Asked tells that nobody is served the table, and that policies of others ask it: where it
	// cannot be published Postgres is asked, so that is no reason to fail.
	Asked bool
}

// String is the quoted, qualified name.
func (t Table) String() string { return ident(t.Schema, t.Name) }

// ident quotes a name.
func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// literal quotes a string, whatever standard_conforming_strings is.
func literal(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
