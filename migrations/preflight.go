package migrations

import (
	"context"
	"errors"
	"fmt"
)

// minVersion is the oldest server that Rowtide works with.
const minVersion = 150000

// A server is what has to be known of one before anything is done to it.
type server struct {
	version    int
	recovery   bool
	walLevel   string
	slots      int // in use
	maxSlots   int
	slotThere  bool
	slotActive bool
	senders    int // in use
	maxSenders int
	keepSize   string
}

// Preflight checks that a server can serve a slot: the first thing in the way is the error, and
// says what to do. The notes are about what is not in the way. Slot names the slot that will be
// used: one that exists needs no other place.
func Preflight(ctx context.Context, db Querier, slot string) (notes []string, err error) {
	var s server
	// A walsender's row in pg_stat_replication is there for everybody; its details are not.
	err = db.QueryRow(ctx, `
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
       (SELECT count(*) FROM pg_catalog.pg_replication_slots), current_setting('max_replication_slots')::int,
       EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1),
       EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = $1 AND active),
       (SELECT count(*) FROM pg_catalog.pg_stat_replication), current_setting('max_wal_senders')::int,
       current_setting('max_slot_wal_keep_size')`, slot).Scan(
		&s.version, &s.recovery, &s.walLevel, &s.slots, &s.maxSlots, &s.slotThere, &s.slotActive,
		&s.senders, &s.maxSenders, &s.keepSize)
	if err != nil {
		return nil, fmt.Errorf("read server settings: %w", err)
	}
	return s.notes(), s.check()
}

func (s *server) check() error {
	switch {
	case s.version < minVersion:
		return fmt.Errorf("the server is PostgreSQL %d: Rowtide needs 15 or newer", s.version/10000)
	case s.recovery:
		return errors.New("the server is a standby: use the address of the primary")
	case s.walLevel != "logical":
		return fmt.Errorf("wal_level is %s: run ALTER SYSTEM SET wal_level = 'logical', then restart the server", s.walLevel)
	case !s.slotThere && s.slots >= s.maxSlots:
		return fmt.Errorf("no replication slot is left (max_replication_slots is %d): drop one that nobody needs (SELECT * FROM pg_replication_slots), "+
			"or run ALTER SYSTEM SET max_replication_slots = %d, then restart the server", s.maxSlots, s.maxSlots+4)
	case !s.slotActive && s.senders >= s.maxSenders:
		return fmt.Errorf("no WAL sender is left (max_wal_senders is %d): run ALTER SYSTEM SET max_wal_senders = %d, then restart the server", s.maxSenders, s.maxSenders+4)
	}
	return nil
}

func (s *server) notes() []string {
	var out []string
	if s.keepSize == "-1" {
		out = append(out, "max_slot_wal_keep_size is unlimited: while the service is down WAL fills the disk; "+
			"ALTER SYSTEM SET max_slot_wal_keep_size = '16GB' or what the disk can spare")
	}
	if fixed, ok := rowSecurityFixed()[s.version/10000]; ok && s.version%10000 < fixed {
		out = append(out, fmt.Sprintf("PostgreSQL %d.%d reuses plans across roles under row-level security (CVE-2024-10976): update to %d.%d",
			s.version/10000, s.version%10000, s.version/10000, fixed))
	}
	return out
}

// rowSecurityFixed are the minor releases that fixed CVE-2024-10976.
func rowSecurityFixed() map[int]int { return map[int]int{15: 9, 16: 5, 17: 1} }

// preflight is Preflight for the administrator, who also must be able to make things.
func (s *session) preflight(ctx context.Context, slot string) error {
	notes, err := Preflight(ctx, s.conn, slot)
	s.report.Notes = append(s.report.Notes, notes...)
	if err != nil {
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
