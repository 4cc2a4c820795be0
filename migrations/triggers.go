package migrations

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgerrcode"
)

// The event triggers. Their names are the database's, not a schema's.
const (
	ddlTrigger  = "rowtide_ddl"
	dropTrigger = "rowtide_drop"
)

// ddlTags are the commands that can change what the service reads of the catalog. DROP commands
// are seen by the other trigger; DROP OWNED also takes privileges back, which that one cannot see.
// REASSIGN OWNED has no event triggers.
func ddlTags() []string {
	return []string{
		"CREATE TABLE", "ALTER TABLE", "CREATE TABLE AS", "SELECT INTO", "CREATE VIEW", "ALTER VIEW",
		"ALTER MATERIALIZED VIEW", "ALTER FOREIGN TABLE", "CREATE INDEX", "ALTER INDEX", "COMMENT",
		"CREATE POLICY", "ALTER POLICY", "GRANT", "REVOKE", "DROP OWNED",
		"CREATE FUNCTION", "ALTER FUNCTION", "CREATE PROCEDURE", "ALTER PROCEDURE", "ALTER ROUTINE",
		"CREATE AGGREGATE", "ALTER AGGREGATE", "CREATE OPERATOR", "ALTER OPERATOR", "CREATE CAST",
		"CREATE TYPE", "ALTER TYPE", "CREATE DOMAIN", "ALTER DOMAIN", "ALTER COLLATION",
		"CREATE SCHEMA", "ALTER SCHEMA", "CREATE EXTENSION", "ALTER EXTENSION", "IMPORT FOREIGN SCHEMA",
		"CREATE PUBLICATION", "ALTER PUBLICATION",
	}
}

// eventTriggers makes the event triggers, if the administrator may: it takes a superuser, or a
// host's substitute for one. Without them the service polls.
func (s *session) eventTriggers(ctx context.Context) error {
	quoted := make([]string, 0, len(ddlTags()))
	for _, t := range ddlTags() {
		quoted = append(quoted, literal(t))
	}
	for _, t := range []struct{ name, event string }{
		{ddlTrigger, "ddl_command_end WHEN TAG IN (" + strings.Join(quoted, ", ") + ")"},
		{dropTrigger, "sql_drop"},
	} {
		if err := s.eventTrigger(ctx, t.name, t.event); err != nil {
			return err
		}
	}
	return nil
}

// eventTrigger makes one. It fires in sessions with session_replication_role = replica too: what
// they change is changed.
func (s *session) eventTrigger(ctx context.Context, name, event string) error {
	what := "event trigger " + name
	var function string
	err := s.conn.QueryRow(ctx, `SELECT coalesce((SELECT n.nspname || '.' || p.proname FROM pg_event_trigger e
		JOIN pg_proc p ON p.oid = e.evtfoid JOIN pg_namespace n ON n.oid = p.pronamespace WHERE e.evtname = $1), '')`, name).Scan(&function)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case function == Schema+".announce":
		s.already(what)
		return nil
	case function != "":
		s.step(Refused, what, "there is one of that name that calls "+function+": rename it")
		return nil
	}
	sql := []string{
		fmt.Sprintf("CREATE EVENT TRIGGER %s ON %s EXECUTE FUNCTION rowtide.announce()", name, event),
		fmt.Sprintf("ALTER EVENT TRIGGER %s ENABLE ALWAYS", name),
	}
	err = s.do(ctx, what, sql...)
	if code(err) == pgerrcode.InsufficientPrivilege {
		s.step(Skipped, what, "the administrator may not make event triggers: changes of the schema are noticed by polling, within a second", sql...)
		return nil
	}
	return err
}
