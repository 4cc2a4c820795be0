package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

const plugin = "pgoutput"

// A slot is what pg_replication_slots says of ours.
type slot struct {
	confirmed cdc.LSN
	// created tells that it was made just now, active that a session streams from it.
	created, active bool
}

// ensureSlot finds the slot and checks it, or makes it. The publication must be there first:
// a slot decodes with the catalog as it was at each place of the WAL, and where the publication
// does not exist there it would fail for ever (before 18) or skip everything (since).
func (c *Consumer) ensureSlot(ctx context.Context, conn *pgconn.PgConn, srv *server) (*slot, error) {
	if err := c.checkPublications(ctx, conn); err != nil {
		return nil, err
	}
	s, err := c.findSlot(ctx, conn)
	if err != nil || s != nil {
		return s, err
	}
	if c.expected() != 0 {
		return nil, c.slotGone()
	}
	return c.createSlot(ctx, conn, srv)
}

func (c *Consumer) checkPublications(ctx context.Context, conn *pgconn.PgConn) error {
	rows, err := query(ctx, conn, `SELECT pubname FROM pg_catalog.pg_publication`)
	if err != nil {
		return fmt.Errorf("read publications: %w", err)
	}
	for _, p := range c.cfg.Publications {
		if slices.ContainsFunc(rows, func(row []string) bool { return row[0] == p }) {
			continue
		}
		return &Error{
			Reason: NoPublication, What: fmt.Sprintf("publication %q does not exist", p),
			Fix: "make it with rowtide setup or rowtide sync, or name the one that there is",
		}
	}
	return nil
}

// findSlot gives nil where the slot does not exist.
func (c *Consumer) findSlot(ctx context.Context, conn *pgconn.PgConn) (*slot, error) {
	// to_jsonb: the column with the reason exists since PostgreSQL 17 only.
	rows, err := query(ctx, conn, `SELECT slot_type, COALESCE(plugin, ''), COALESCE(database, ''), pg_catalog.current_database(), temporary,
			COALESCE(wal_status, ''), restart_lsn, confirmed_flush_lsn, active_pid, COALESCE(pg_catalog.to_jsonb(s) ->> 'invalidation_reason', ''), two_phase
		FROM pg_catalog.pg_replication_slots s WHERE slot_name = '`+c.cfg.Slot+`'`)
	if err != nil {
		return nil, fmt.Errorf("read replication slots: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil // no slot is not an error: the next step makes it
	}
	r := rows[0]
	kind, plug, database, current, temporary, status, restart, confirmed, pid, invalid := r[0], r[1], r[2], r[3], r[4] == "t", r[5], r[6], r[7], r[8], r[9]
	unfit := func(why string) error {
		return &Error{Reason: SlotUnfit, What: fmt.Sprintf("replication slot %q %s", c.cfg.Slot, why), Fix: "use another slot name, or drop that slot if nobody needs it"}
	}
	switch {
	case kind != "logical":
		return nil, unfit("is physical and not logical")
	case plug != plugin:
		return nil, unfit(fmt.Sprintf("belongs to the output plugin %s and not %s", plug, plugin))
	case database != current:
		return nil, unfit(fmt.Sprintf("belongs to database %q and not %q", database, current))
	case temporary:
		return nil, unfit("is temporary and would be gone with its session")
	case r[10] == "t": // PostgreSQL then sends PREPAREs as such, whatever was asked for
		return nil, unfit("was made for two-phase commit, which hands on what has not committed")
	case confirmed == "" && pid != "":
		return nil, &Error{Reason: SlotInUse, What: fmt.Sprintf("replication slot %q is just being made by process %s", c.cfg.Slot, pid), Fix: "wait for it, or use another slot"}
	case status == "lost" || restart == "" || invalid != "":
		return nil, c.slotInvalid(invalid)
	}
	at, err := cdc.ParseLSN(confirmed)
	if err != nil {
		return nil, fmt.Errorf("read replication slot %q: %w", c.cfg.Slot, err)
	}
	return &slot{confirmed: at, active: pid != ""}, nil
}

func (c *Consumer) slotInvalid(reason string) error {
	if reason == "" {
		reason = "wal_removed"
	}
	return &Error{
		Reason: SlotLost, What: fmt.Sprintf("replication slot %q was invalidated by the server (%s)", c.cfg.Slot, reason),
		Fix: fmt.Sprintf("SELECT pg_drop_replication_slot('%s'), raise max_slot_wal_keep_size, and start anew: every subscriber must resync", c.cfg.Slot),
	}
}

// createSlot makes the slot. PostgreSQL waits for every transaction that is open now, which can
// take as long as those like. Whatever ends the wait early leaves no slot.
func (c *Consumer) createSlot(ctx context.Context, conn *pgconn.PgConn, srv *server) (*slot, error) {
	ctx, stop := ctx, func() {}
	if c.cfg.CreateTimeout > 0 {
		ctx, stop = context.WithTimeout(ctx, c.cfg.CreateTimeout)
	}
	defer stop()
	done := c.tellWait(conn.PID())
	r, err := pglogrepl.ParseCreateReplicationSlot(conn.Exec(ctx, "CREATE_REPLICATION_SLOT "+quoted(c.cfg.Slot)+" LOGICAL "+plugin+" "+slotOptions(srv.version)))
	done()
	if err != nil {
		return nil, c.createError(ctx, err)
	}
	if ctx.Err() != nil { // it was done just when it was called off
		c.dropSlot(ctx, conn)
		return nil, c.createError(ctx, ctx.Err())
	}
	at, err := cdc.ParseLSN(r.ConsistentPoint)
	if err != nil {
		c.dropSlot(ctx, conn)
		return nil, fmt.Errorf("create replication slot %q: %w", c.cfg.Slot, err)
	}
	c.log.Info("replication slot created", "slot", c.cfg.Slot, "from", at)
	return &slot{confirmed: at, created: true}, nil
}

// slotOptions has the slot copied to standbys that are set up for it, where the server can: after
// a promotion the stream then goes on there. Otherwise it costs nothing.
func slotOptions(version int) string {
	if version >= 170000 {
		return "(SNAPSHOT 'nothing', FAILOVER true)"
	}
	return "NOEXPORT_SNAPSHOT"
}

func (c *Consumer) createError(ctx context.Context, err error) error {
	what := fmt.Sprintf("create replication slot %q", c.cfg.Slot)
	switch state := sqlState(err); {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && (state == queryCanceled || state == ""):
		return &Error{Reason: SlowSlot, What: what, Err: fmt.Errorf("not done after %s", c.cfg.CreateTimeout), Fix: "PostgreSQL waits for transactions that are open since before: " + blockersSQL}
	case state == limitExceeded:
		return &Error{Reason: TooManySlots, What: what, Err: cause(err), Fix: "raise max_replication_slots (then restart PostgreSQL) or drop a slot that nobody needs: SELECT * FROM pg_replication_slots"}
	case state == noPrivilege:
		return &Error{Reason: NoRight, What: what, Err: cause(err), Fix: fmt.Sprintf("as superuser: ALTER ROLE %q REPLICATION", c.conn.User)}
	}
	return fmt.Errorf("%s: %w", what, cause(err))
}

const blockersSQL = "SELECT pid, xact_start, state, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL ORDER BY xact_start"

// tellWait logs from time to time that the slot is still being made. The returned function ends
// that, and returns when it has ended.
func (c *Consumer) tellWait(pid uint32) (done func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(c.tellEvery)
		defer tick.Stop()
		for since := time.Now(); ; {
			select {
			case <-stop:
				return
			case <-tick.C:
				c.log.Warn("replication slot is still being made: PostgreSQL waits for older transactions", "slot", c.cfg.Slot, "pid", pid, "waited", time.Since(since).Round(time.Second), "see", blockersSQL)
			}
		}
	}()
	return func() {
		close(stop)
		<-stopped
	}
}

// dropSlot removes a slot that this session made and that will not be used after all.
func (c *Consumer) dropSlot(ctx context.Context, conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := pglogrepl.DropReplicationSlot(ctx, conn, quoted(c.cfg.Slot), pglogrepl.DropReplicationSlotOptions{}); err != nil {
		c.log.Error("replication slot that was just made could not be dropped again", "slot", c.cfg.Slot, "error", err)
	}
}

// start begins to stream a slot behind from.
func (c *Consumer) start(ctx context.Context, conn *pgconn.PgConn, slot string, from cdc.LSN) error {
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	return pglogrepl.StartReplication(ctx, conn, quoted(slot), pglogrepl.LSN(from), pglogrepl.StartReplicationOptions{
		Mode: pglogrepl.LogicalReplication,
		PluginArgs: []string{
			"proto_version '1'",
			"publication_names '" + c.publicationNames() + "'",
			"messages 'true'",
		},
	})
}

// publicationNames is a list of identifiers inside a string: quoted as the one and then as the
// other.
func (c *Consumer) publicationNames() string {
	names := make([]string, len(c.cfg.Publications))
	for i, p := range c.cfg.Publications {
		names[i] = quoted(p)
	}
	return strings.ReplaceAll(strings.Join(names, ","), "'", "''")
}

func quoted(identifier string) string {
	return `"` + strings.ReplaceAll(identifier, `"`, `""`) + `"`
}
