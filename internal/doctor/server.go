package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"

	"github.com/rowtide/rowtide/migrations"
)

// minVersion is the oldest server that Rowtide works with.
const minVersion = 150000

// A server is what its settings say.
type server struct {
	version     int
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

func (e *exam) server(ctx context.Context) (server, error) {
	var s server
	err := e.conn.QueryRow(ctx, `
SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('wal_level'),
       (SELECT count(*) FROM pg_replication_slots), current_setting('max_replication_slots')::int,
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1),
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1 AND active),
       (SELECT count(*) FROM pg_stat_replication), current_setting('max_wal_senders')::int,
       current_setting('max_slot_wal_keep_size'), coalesce(current_setting('idle_replication_slot_timeout', true), '')`,
		e.cfg.Slot).Scan(&s.version, &s.recovery, &s.walLevel, &s.slots, &s.maxSlots, &s.slotThere, &s.slotActive,
		&s.senders, &s.maxSenders, &s.keepSize, &s.idleTimeout)
	if err != nil {
		return s, fmt.Errorf("read server settings: %w", err)
	}
	return s, nil
}

const (
	restart = "then restart the server"
	reload  = "SELECT pg_reload_conf()"
)

func (s *server) findings() []Finding {
	var e exam
	if s.version < minVersion {
		e.tell(Fatal, "version", "server", fmt.Sprintf("it is PostgreSQL %d: Rowtide needs 15 or newer", s.version/10000))
		return e.findings
	}
	if s.recovery {
		e.tell(Fatal, "standby", "server", "it is a standby", "use the address of the primary")
		return e.findings
	}
	if fixed, ok := rowSecurityFixed()[s.version/10000]; ok && s.version%10000 < fixed {
		e.tell(Warning, "row_security_bug", "server", fmt.Sprintf("PostgreSQL %d.%d reuses plans across roles under row-level security (CVE-2024-10976)",
			s.version/10000, s.version%10000), fmt.Sprintf("update to %d.%d or newer", s.version/10000, fixed))
	}
	if s.walLevel != "logical" {
		e.tell(Fatal, "wal_level", "server", "wal_level is "+s.walLevel+": the log does not carry rows", "ALTER SYSTEM SET wal_level = 'logical'", restart)
	}
	if !s.slotThere && s.slots >= s.maxSlots {
		e.tell(Fatal, "max_replication_slots", "server", fmt.Sprintf("no replication slot is left of %d", s.maxSlots),
			fmt.Sprintf("ALTER SYSTEM SET max_replication_slots = %d", s.maxSlots+4), restart)
	}
	if !s.slotActive && s.senders >= s.maxSenders {
		e.tell(Fatal, "max_wal_senders", "server", fmt.Sprintf("no WAL sender is left of %d", s.maxSenders),
			fmt.Sprintf("ALTER SYSTEM SET max_wal_senders = %d", s.maxSenders+4), restart)
	}
	if s.keepSize == "-1" {
		e.tell(Fatal, "max_slot_wal_keep_size", "server", "max_slot_wal_keep_size is unlimited: while the service is down, WAL fills the disk",
			"ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'", reload)
	}
	if s.idleTimeout != "" && s.idleTimeout != "0" {
		e.tell(Warning, "idle_replication_slot_timeout", "server", "idle_replication_slot_timeout is "+s.idleTimeout+
			": a service that is down for longer loses its slot, and its clients start over",
			"ALTER SYSTEM SET idle_replication_slot_timeout = 0", reload)
	}
	return e.findings
}

// rowSecurityFixed are the minor releases that fixed CVE-2024-10976.
func rowSecurityFixed() map[int]int { return map[int]int{15: 9, 16: 5, 17: 1} }

// maxSkew is how far clocks may be apart: expiry is judged here, policies' now() there.
const maxSkew = 5 * time.Second

func (e *exam) clock(ctx context.Context) error {
	var there time.Time
	before := e.cfg.Now()
	if err := e.conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&there); err != nil {
		return fmt.Errorf("read clock: %w", err)
	}
	after := e.cfg.Now()
	skew := there.Sub(before.Add(after.Sub(before) / 2))
	if skew.Abs()-after.Sub(before) <= maxSkew {
		return nil
	}
	how := "ahead of"
	if skew < 0 {
		how = "behind"
	}
	e.tell(Warning, "clock", "server", fmt.Sprintf("its clock is %s %s this machine's: tokens expire here, policies ask the time there",
		skew.Abs().Round(time.Second), how), "synchronise both clocks (chrony, systemd-timesyncd)")
	return nil
}

// installation looks at Rowtide's own objects.
func (e *exam) installation(ctx context.Context) error {
	setup := "rowtide setup --admin-url URL --roles " + strings.Join(e.cfg.Roles, ",")
	if e.cfg.AdminURL != "" {
		st, err := migrations.ReadStatus(ctx, e.cfg.AdminURL)
		state, _ := code(err)
		switch {
		case state == pgerrcode.InsufficientPrivilege: // an administrator who did not set it up
		case err != nil:
			return fmt.Errorf("read installation: %w", err)
		case st.Version == 0:
			e.tell(Fatal, "installation", "schema rowtide", "the database is not set up for Rowtide", setup)
			return nil
		case st.Version < st.Latest || st.Interrupted:
			e.tell(Fatal, "installation", "schema rowtide", fmt.Sprintf("it is at version %d and %d is needed", st.Version, st.Latest), "rowtide migrate up --admin-url URL")
		}
	}
	if e.login != "" {
		_, err := migrations.ReadInstallation(ctx, e.asker)
		if errors.Is(err, migrations.ErrNotInstalled) {
			e.tell(Fatal, "installation", "schema rowtide", strings.TrimSuffix(err.Error(), ": run "+setup), setup+" --login "+e.login)
			return nil
		}
		if err != nil {
			return err
		}
	}
	return e.eventTriggers(ctx)
}

// eventTriggers tell changes of the catalog at once.
func (e *exam) eventTriggers(ctx context.Context) error {
	var trigger, state string
	return rows(ctx, e.conn, "event triggers", `
SELECT w.name, coalesce(t.evtenabled::text, '')
FROM unnest(ARRAY['rowtide_ddl', 'rowtide_drop']) w(name) LEFT JOIN pg_event_trigger t ON t.evtname = w.name ORDER BY 1`,
		nil, []any{&trigger, &state}, func() {
			const effect = ": changes of the schema are noticed late, by polling"
			switch state {
			case "A":
			case "":
				e.tell(Warning, "event_trigger", "event trigger "+trigger, "it is not there"+effect,
					"rowtide migrate up --admin-url URL")
			default:
				e.tell(Warning, "event_trigger", "event trigger "+trigger, "it does not always fire"+effect,
					"ALTER EVENT TRIGGER "+trigger+" ENABLE ALWAYS")
			}
		})
}
