package migrations

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// An UpConfig says where to apply migrations.
type UpConfig struct {
	AdminURL string
	// LockTimeout bounds each wait for a lock. Defaults to 2 s.
	LockTimeout time.Duration
	// DryRun gets the SQL, and nothing is changed. Defaults to doing it.
	DryRun io.Writer
}

// Up makes or updates Rowtide's own objects, and the event triggers: a part of Setup.
func Up(ctx context.Context, cfg UpConfig) (Report, error) {
	s, err := open(ctx, cfg.AdminURL, cfg.DryRun, cfg.LockTimeout)
	if err != nil {
		return Report{}, err
	}
	defer s.close(ctx)
	for _, step := range []func(context.Context) error{s.mayCreate, s.ownSchema, s.up, s.grantAgain, s.eventTriggers} {
		if err := step(ctx); err != nil {
			return s.report, err
		}
	}
	return s.report, s.report.refused()
}

// A DownConfig says what to remove.
type DownConfig struct {
	AdminURL string
	// Slots are to be dropped beside those that Setup noted. Defaults to none.
	Slots []string
	// LockTimeout bounds each wait for a lock. Defaults to 2 s.
	LockTimeout time.Duration
	// DryRun gets the SQL, and nothing is changed. Defaults to doing it.
	DryRun io.Writer
}

// Down removes everything that Setup and Sync made and restores what they changed. It refuses
// while the service runs. What others have come to use (a role with rights elsewhere) stays, and
// the Report says so. It can be run again after an interruption.
func Down(ctx context.Context, cfg DownConfig) (Report, error) {
	s, err := open(ctx, cfg.AdminURL, cfg.DryRun, cfg.LockTimeout)
	if err != nil {
		return Report{}, err
	}
	defer s.close(ctx)
	if err := s.remove(ctx, cfg); err != nil {
		return s.report, err
	}
	return s.report, s.report.refused()
}

func (s *session) remove(ctx context.Context, cfg DownConfig) error {
	ours, err := s.has(ctx, versionTable)
	if err != nil {
		return err
	}
	made, err := s.created(ctx)
	if err != nil {
		return err
	}
	slots, err := s.withWindowSlots(ctx, append(names(made, "slot"), cfg.Slots...))
	if err != nil {
		return err
	}
	if err := s.refuseWhileUsed(ctx, slots, names(made, "login")); err != nil {
		return err
	}
	if err := s.dropSlots(ctx, slots); err != nil {
		return err
	}
	if !ours {
		s.already("nothing of Rowtide's is in this database")
		return nil
	}
	for _, step := range []func(context.Context, []creation) error{
		s.dropPublications, s.restoreIdentities, s.dropEventTriggers, s.revoke, s.dropRoles,
	} {
		if err := step(ctx, made); err != nil {
			return err
		}
	}
	return s.dropObjects(ctx)
}

// names are those of one kind.
func names(made []creation, kind string) []string {
	var out []string
	for _, c := range made {
		if c.Kind == kind {
			out = append(out, c.Name)
		}
	}
	return out
}

// refuseWhileUsed keeps Down from pulling the ground from under a running service.
func (s *session) refuseWhileUsed(ctx context.Context, slots, logins []string) error {
	var slot string
	var pid int
	err := s.conn.QueryRow(ctx, `SELECT coalesce(min(slot_name::text), ''), coalesce(min(active_pid), 0) FROM pg_replication_slots
		WHERE slot_name = ANY($1::text[]) AND database = current_database() AND active`, slots).Scan(&slot, &pid)
	if err != nil {
		return fmt.Errorf("read slots: %w", err)
	}
	if slot != "" {
		return fmt.Errorf("replication slot %s is in use (process %d of the server): stop the service first", slot, pid)
	}
	late := time.Now().Add(goneWithin)
	for {
		var login string
		err = s.conn.QueryRow(ctx, `SELECT coalesce(min(usename::text), '') FROM pg_stat_activity
		WHERE usename = ANY($1::text[]) AND datname = current_database()`, logins).Scan(&login)
		switch {
		case err != nil:
			return fmt.Errorf("read sessions: %w", err)
		case login == "":
			return nil
		case time.Now().After(late):
			return fmt.Errorf("login %s is connected to this database: stop the service first", login)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// goneWithin is how long sessions of a service that has just been stopped may take to end.
const goneWithin = 2 * time.Second

// WindowSlots is a condition in SQL: that slot_name is the name of a window slot, one of the
// copies that the service makes of its slot, whose name is put for %s.
const WindowSlots = `(pg_catalog.starts_with(slot_name::text, %[1]s) AND pg_catalog.substr(slot_name::text, pg_catalog.length(%[1]s) + 1) ~ '^_w[0-9a-z]{8}$')`

// withWindowSlots gives the slots and the window slots of each.
func (s *session) withWindowSlots(ctx context.Context, slots []string) ([]string, error) {
	rows, err := s.conn.Query(ctx, `SELECT slot_name::text FROM pg_replication_slots, unnest($1::text[]) of
		WHERE database = current_database() AND `+fmt.Sprintf(WindowSlots, "of"), slots)
	if err != nil {
		return nil, fmt.Errorf("read window slots: %w", err)
	}
	window, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read window slots: %w", err)
	}
	return append(slots, window...), nil
}

// dropSlots drops those of this database. They hold WAL back, so they go first: an interrupted
// Down leaves nothing that grows.
func (s *session) dropSlots(ctx context.Context, slots []string) error {
	slices.Sort(slots)
	for _, slot := range slices.Compact(slots) {
		there, err := s.exists(ctx, `SELECT FROM pg_replication_slots WHERE slot_name = $1 AND database = current_database()`, slot)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if err := s.do(ctx, "drop replication slot "+slot, fmt.Sprintf("SELECT pg_drop_replication_slot(%s)", literal(slot))); err != nil {
			return err
		}
	}
	return nil
}

// dropPublications comes before the identities are restored: while a table is published, an
// identity that is too weak makes the application's UPDATE fail.
func (s *session) dropPublications(ctx context.Context, made []creation) error {
	for _, name := range names(made, "publication") {
		err := s.do(ctx, "drop publication "+name, "DROP PUBLICATION IF EXISTS "+ident(name), forget("publication", name, ""))
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *session) restoreIdentities(ctx context.Context, made []creation) error {
	all, err := s.changedIdentities(ctx, names(made, "publication"))
	if err != nil {
		return err
	}
	for _, c := range all {
		what := "replica identity of " + c.table
		switch {
		case c.needed:
			s.step(Skipped, what, "it stays FULL: another publication has updates of the table, which the one of before could not serve")
		case !c.full:
			s.step(Already, what, "somebody changed it since")
		case c.previous == "i" && c.index == "":
			s.report.Notes = append(s.report.Notes, what+" is DEFAULT now: the index that it used is gone")
		}
		if c.needed || !c.full {
			continue // the note of it goes with the table
		}
		if err := s.do(ctx, "restore "+what, c.restoreSQL()...); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) dropEventTriggers(ctx context.Context, _ []creation) error {
	rows, err := s.conn.Query(ctx, `SELECT e.evtname::text FROM pg_event_trigger e JOIN pg_proc p ON p.oid = e.evtfoid
		JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 ORDER BY 1`, Schema)
	if err != nil {
		return fmt.Errorf("read event triggers: %w", err)
	}
	triggers, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read event triggers: %w", err)
	}
	for _, t := range triggers {
		if err := s.do(ctx, "drop event trigger "+t, "DROP EVENT TRIGGER "+ident(t)); err != nil {
			return err
		}
	}
	return nil
}

// revoke takes back what was granted, unless its object or the grantee is gone.
func (s *session) revoke(ctx context.Context, made []creation) error {
	for _, c := range made {
		g, ok := c.grant()
		if !ok {
			continue
		}
		there, err := s.exists(ctx, g.object, c.Name)
		if err != nil {
			return err
		}
		role, err := s.exists(ctx, `SELECT FROM pg_roles WHERE rolname = $1`, g.grantee)
		if err != nil {
			return err
		}
		var sql []string
		if there && role {
			sql = g.revoke
		}
		what := fmt.Sprintf("revoke %s on %s from %s", c.Kind, c.Name, g.grantee)
		if err := s.do(ctx, what, append(sql, forget(c.Kind, c.Name, c.Detail))...); err != nil {
			return err
		}
	}
	return nil
}

// A grant is how to take back one that Setup or Sync made.
type grant struct {
	grantee string
	object  string // a query that gives a row while the object, $1, is there
	revoke  []string
}

// grant tells whether the row is of a grant, and of which.
func (c creation) grant() (grant, bool) {
	from := " FROM " + ident(c.Detail)
	switch c.Kind {
	case "usage":
		return grant{c.Detail, `SELECT FROM pg_namespace WHERE nspname = $1`, []string{"REVOKE USAGE ON SCHEMA " + ident(c.Name) + from}}, true
	case "connect":
		return grant{c.Detail, `SELECT FROM pg_database WHERE datname = $1`, []string{"REVOKE CONNECT ON DATABASE " + ident(c.Name) + from}}, true
	case "membership":
		return grant{c.Detail, `SELECT FROM pg_roles WHERE rolname = $1`, []string{"REVOKE " + ident(c.Name) + from}}, true
	case "replication":
		return grant{c.Name, `SELECT FROM pg_roles WHERE rolname = $1`, []string{"ALTER ROLE " + ident(c.Name) + " WITH NOREPLICATION"}}, true
	case "installation":
		return grant{c.Name, `SELECT FROM pg_roles WHERE rolname = $1`, []string{
			"REVOKE ALL ON ALL TABLES IN SCHEMA rowtide FROM " + ident(c.Name),
			"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA rowtide FROM " + ident(c.Name), "REVOKE ALL ON SCHEMA rowtide FROM " + ident(c.Name),
		}}, true
	}
	return grant{}, false
}

// dropRoles drops the login and the roles that setup made; those that have come to own or use
// anything else stay.
func (s *session) dropRoles(ctx context.Context, made []creation) error {
	for _, c := range made {
		if c.Kind != "login" && c.Kind != "role" {
			continue
		}
		what := "drop " + c.Kind + " " + c.Name
		err := s.do(ctx, what, "DROP ROLE IF EXISTS "+ident(c.Name), forget(c.Kind, c.Name, c.Detail))
		if code(err) == pgerrcode.DependentObjectsStillExist {
			s.step(Skipped, what, "it is used for other things: "+oneLine(err))
		} else if err != nil {
			return err
		}
	}
	return nil
}

// dropObjects takes the migrations back, and the schema with golang-migrate's table.
func (s *session) dropObjects(ctx context.Context) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	if err := s.down(ctx, st); err != nil {
		return err
	}
	err = s.do(ctx, "drop schema rowtide", "DROP TABLE rowtide."+versionTable, "DROP SCHEMA rowtide")
	if code(err) == pgerrcode.DependentObjectsStillExist {
		s.step(Skipped, "drop schema rowtide", "it holds objects that are not Rowtide's")
		return nil
	}
	return err
}
