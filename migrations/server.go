package migrations

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// minVersion is the oldest server that Rowtide works with.
const minVersion = 150000

// A Server is what has to be known of one before anything is done to it.
type Server struct {
	// Version is server_version_num.
	Version int
	// Host is who runs it.
	Host Host

	recovery    bool
	walLevel    string
	slots       int // in use
	maxSlots    int
	slotThere   bool
	slotActive  bool
	senders     int // in use
	maxSenders  int
	keepSize    string
	idleTimeout string // "" before version 18
}

// A ServerProblem is something about a server that is in the way, or may come to be.
type ServerProblem struct {
	// Check names it for programs: the setting, "version", ….
	Check string
	// Fatal: the service cannot start, loses changes or fills the disk.
	Fatal bool
	// Late: it is no reason not to start.
	Late bool
	// Message says what is wrong, and what comes of it.
	Message string
	// Fix mends it, in the host's way: SQL, commands, and words where neither can.
	Fix []string
}

// String is one line.
func (p ServerProblem) String() string {
	if len(p.Fix) == 0 {
		return p.Message
	}
	return p.Message + ": " + strings.Join(p.Fix, ", ")
}

// ReadServer reads what a server says of itself. Slot is the one that will be used: one that exists
// needs no other place.
func ReadServer(ctx context.Context, db Querier, slot string) (Server, error) {
	var s Server
	// A walsender's row in pg_stat_replication is there for everybody; its details are not.
	err := db.QueryRow(ctx, `
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
       (SELECT count(*) FROM pg_catalog.pg_replication_slots), current_setting('max_replication_slots')::int,
       EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),
       EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active),
       (SELECT count(*) FROM pg_catalog.pg_stat_replication), current_setting('max_wal_senders')::int,
       current_setting('max_slot_wal_keep_size'), coalesce(current_setting('idle_replication_slot_timeout', true), '')`, slot).Scan(
		&s.Version, &s.recovery, &s.walLevel, &s.slots, &s.maxSlots, &s.slotThere, &s.slotActive,
		&s.senders, &s.maxSenders, &s.keepSize, &s.idleTimeout)
	if err != nil {
		return Server{}, fmt.Errorf("read server settings: %w", err)
	}
	s.Host, err = ReadHost(ctx, db)
	return s, err
}

// Usable tells whether the rest of the server is worth looking at: it is no standby, and new enough.
func (s Server) Usable() bool { return s.Version >= minVersion && !s.recovery }

// Problems are what is wrong with the server: the one list of these checks, which setup, serve and
// doctor share.
func (s Server) Problems() []ServerProblem {
	switch {
	case s.Version < minVersion:
		return []ServerProblem{{Check: "version", Fatal: true, Message: fmt.Sprintf("it is PostgreSQL %d: Rowtide needs 15 or newer", s.Version/10000)}}
	case s.recovery:
		return []ServerProblem{{Check: "standby", Fatal: true, Message: "it is a standby", Fix: []string{"use the address of the primary"}}}
	}
	out := s.missing()
	if s.keepSize == "-1" {
		out = append(out, ServerProblem{
			Check: "max_slot_wal_keep_size", Fatal: true, Late: true,
			Message: "max_slot_wal_keep_size is unlimited: while the service is down, WAL fills the disk",
			Fix:     s.Host.settingFix(serverSetting{name: "max_slot_wal_keep_size", value: "16GB", cloud: "16384"}),
		})
	}
	if s.idleTimeout != "" && s.idleTimeout != "0" {
		out = append(out, ServerProblem{
			Check:   "idle_replication_slot_timeout",
			Message: "idle_replication_slot_timeout is " + s.idleTimeout + ": a service that is down for longer loses its slot, and its clients start over",
			Fix:     s.Host.settingFix(serverSetting{name: "idle_replication_slot_timeout", value: "0"}),
		})
	}
	return append(out, s.rowSecurityBugs()...)
}

// missing is what keeps a slot from being made and read.
func (s Server) missing() []ServerProblem {
	var out []ServerProblem
	add := func(check, value, message string) {
		out = append(out, ServerProblem{
			Check: check, Fatal: true, Message: message,
			Fix: s.Host.settingFix(serverSetting{name: check, value: value, restart: true}),
		})
	}
	if s.walLevel != "logical" {
		add("wal_level", "logical", "wal_level is "+s.walLevel+": the log does not carry rows")
	}
	if !s.slotThere && s.slots >= s.maxSlots {
		add("max_replication_slots", fmt.Sprint(s.maxSlots+4), fmt.Sprintf("no replication slot is left of %d (SELECT * FROM pg_replication_slots)", s.maxSlots))
	}
	if !s.slotActive && s.senders >= s.maxSenders {
		add("max_wal_senders", fmt.Sprint(s.maxSenders+4), fmt.Sprintf("no WAL sender is left of %d", s.maxSenders))
	}
	return out
}

// A rowSecurityBug is one of Postgres's own.
type rowSecurityBug struct {
	cve, what string
	fixed     map[int]int // major version to the minor that fixed it
}

// rowSecurityBugs are those that this minor version has (S53), from postgresql.org/support/security.
func (s Server) rowSecurityBugs() []ServerProblem {
	var out []ServerProblem
	for _, bug := range []rowSecurityBug{
		{"CVE-2023-2455", "disregards a change of role where it inlined a function", map[int]int{15: 3}},
		{"CVE-2024-10976", "reuses plans across roles", map[int]int{15: 9, 16: 5, 17: 1}},
	} {
		major, minor := s.Version/10000, s.Version%10000
		fixed, ok := bug.fixed[major]
		if !ok || minor >= fixed {
			continue
		}
		out = append(out, ServerProblem{
			Check: "row_security_bug", Message: fmt.Sprintf("PostgreSQL %d.%d %s under row-level security (%s)", major, minor, bug.what, bug.cve),
			Fix: []string{fmt.Sprintf("update to %d.%d or newer", major, fixed)},
		})
	}
	return out
}

// Preflight checks that a server can serve a slot: the first thing in the way is the error, and
// says what to do. The notes are about what is not in the way.
func Preflight(ctx context.Context, db Querier, slot string) (notes []string, err error) {
	s, err := ReadServer(ctx, db, slot)
	if err != nil {
		return nil, err
	}
	return s.notes(), s.check()
}

func (s Server) check() error {
	for _, p := range s.Problems() {
		if p.Fatal && !p.Late {
			return errors.New("the server cannot be used: " + p.String())
		}
	}
	return nil
}

func (s Server) notes() []string {
	var out []string
	for _, p := range s.Problems() {
		if !p.Fatal || p.Late {
			out = append(out, p.String())
		}
	}
	return out
}

// preflight is Preflight for the administrator, who also must be able to make things.
func (s *session) preflight(ctx context.Context, slot string) error {
	var err error
	if s.server, err = ReadServer(ctx, s.conn, slot); err != nil {
		return err
	}
	s.report.Host = s.server.Host
	if guide := s.server.Host.Guide(); guide != "" {
		s.report.Notes = append(s.report.Notes, fmt.Sprintf("this is %s: the steps are done in its way (%s)", s.server.Host, guide))
	}
	s.report.Notes = append(s.report.Notes, s.server.notes()...)
	if err := s.server.check(); err != nil {
		return err
	}
	return s.mayCreate(ctx)
}

// mayCreate checks the right that every command needs.
func (s *session) mayCreate(ctx context.Context) error {
	var user, database string
	var may bool
	err := s.conn.QueryRow(ctx, `SELECT current_user::text, current_database()::text,
		has_database_privilege(current_database(), 'CREATE')`).Scan(&user, &database, &may)
	if err != nil {
		return fmt.Errorf("read privileges: %w", err)
	}
	if !may {
		return fmt.Errorf("role %s may not create a schema or a publication: GRANT CREATE ON DATABASE %s TO %s, or connect as a role that may",
			user, ident(database), ident(user))
	}
	return nil
}
