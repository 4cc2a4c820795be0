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

// server tells what the one list of checks says, and whether to look further.
func (e *exam) server(ctx context.Context) (usable bool, err error) {
	if e.host, err = migrations.ReadServer(ctx, e.conn, e.cfg.Slot); err != nil {
		return false, err
	}
	for _, p := range e.host.Problems() {
		severity := Warning
		if p.Fatal {
			severity = Fatal
		}
		e.tell(severity, p.Check, "server", p.Message, p.Fix...)
		if p.Late {
			e.late()
		}
	}
	return e.host.Usable(), nil
}

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
			message, _, _ := strings.Cut(err.Error(), ": ") // what to do is said with the roles and the login
			e.tell(Fatal, "installation", "schema rowtide", message, setup+" --login "+e.login)
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
