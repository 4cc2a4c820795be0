package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rowtide/rowtide/migrations"
)

// slot looks at ours.
func (e *exam) slot(ctx context.Context) error {
	var plugin, database, here, status string
	var temporary, active bool
	var retained, lag, safe int64
	found := false
	object := "slot " + e.cfg.Slot
	err := rows(ctx, e.conn, "replication slot", `
SELECT coalesce(plugin::text, 'none'), coalesce(database::text, 'none'), current_database()::text, temporary, active, coalesce(wal_status, ''),
       coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::bigint,
       coalesce(pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn), 0)::bigint, coalesce(safe_wal_size, -1)
FROM pg_replication_slots WHERE slot_name = $1`, []any{e.cfg.Slot},
		[]any{&plugin, &database, &here, &temporary, &active, &status, &retained, &lag, &safe}, func() { found = true })
	if err != nil {
		return err
	}
	drop := "SELECT pg_drop_replication_slot(" + literal(e.cfg.Slot) + ")"
	switch {
	case !found:
		e.tell(Note, "slot", object, "it does not exist yet: serve makes it")
	case plugin != "pgoutput" || database != here:
		e.tell(Fatal, "slot", object, foreign(plugin, database),
			"give serve another --slot; or, where nobody needs this one:", drop)
	case temporary:
		e.tell(Fatal, "slot", object, "it is temporary: it goes with the session that made it, and with it the place to go on from",
			"end that session; or give serve another --slot")
	case status == "lost":
		e.tell(Fatal, "slot", object, "it is lost: the server removed WAL that it needs (max_slot_wal_keep_size); clients that resume start over", drop)
		e.late()
	case status == "unreserved":
		e.tell(Fatal, "slot", object, fmt.Sprintf("it is about to be lost: it holds %s and the next checkpoint may remove WAL that it needs", bytes(retained)),
			"start the service, and ALTER SYSTEM SET max_slot_wal_keep_size to more, then SELECT pg_reload_conf()")
		e.late()
	case lag > e.cfg.RetainedWAL:
		e.tell(Warning, "slot", object, fmt.Sprintf("it holds %s of WAL, %s of it for a transaction that is still open%s", bytes(retained), bytes(lag), left(safe)),
			"end the oldest transaction (see below)")
	case retained > e.cfg.RetainedWAL && !active:
		e.tell(Warning, "slot", object, fmt.Sprintf("it holds %s of WAL and nobody reads it%s", bytes(retained), left(safe)),
			"start the service; or, where it is not needed any more:", drop)
	case retained > e.cfg.RetainedWAL:
		e.tell(Warning, "slot", object, fmt.Sprintf("it holds %s of WAL: the service does not keep up%s", bytes(retained), left(safe)),
			"look at the service's log")
	}
	return nil
}

func foreign(plugin, database string) string {
	if plugin == "none" {
		return "it belongs to something else: it is physical and not logical"
	}
	return fmt.Sprintf("it belongs to something else (plugin %s, database %s)", plugin, database)
}

func left(safe int64) string {
	if safe < 0 {
		return ""
	}
	return "; it is lost after " + bytes(safe) + " more"
}

// orphans are slots that a service of before left behind (C30). Window slots are no orphans while
// the slot that they are copies of is there; under another name than ours they give it away.
func (e *exam) orphans(ctx context.Context) error {
	var slot, since string
	var retained int64
	return rows(ctx, e.conn, "replication slots", `
SELECT s.slot_name::text, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), s.restart_lsn), 0)::bigint,
       coalesce(' since ' || date_trunc('second', (to_jsonb(s) ->> 'inactive_since')::timestamptz)::text, '')
FROM pg_replication_slots s
WHERE s.slot_name <> $1 AND NOT s.active AND s.plugin = 'pgoutput' AND s.database = current_database()
  AND (starts_with(s.slot_name, 'rowtide') OR starts_with(s.slot_name, $1 || '_') OR s.slot_name ~ '_w[0-9a-z]{8}$')
  AND NOT (`+fmt.Sprintf(migrations.WindowSlots, "$1::text")+` AND EXISTS (SELECT FROM pg_replication_slots m WHERE m.slot_name = $1))
ORDER BY 1`, []any{e.cfg.Slot}, []any{&slot, &retained, &since}, func() {
		e.tell(Warning, "orphan_slot", "slot "+slot, fmt.Sprintf("it looks like one of Rowtide's, nobody reads it%s, and it holds %s of WAL", since, bytes(retained)),
			"where no service needs it:", "SELECT pg_drop_replication_slot("+literal(slot)+")")
	})
}

// transactions that write hold WAL back for as long as they are open, and keep a new slot from
// being made.
func (e *exam) transactions(ctx context.Context) error {
	const effect = "the slot holds WAL from its begin on, and a new slot is not made before its end"
	var who, query, fix string
	var began, queried time.Time
	err := rows(ctx, e.conn, "transactions", `
SELECT 'process ' || pid, xact_start, coalesce(query_start, xact_start), coalesce(left(query, 80), ''), 'SELECT pg_terminate_backend(' || pid || ')'
FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND xact_start < now() - $1::interval AND pid <> pg_backend_pid() AND backend_type = 'client backend'
ORDER BY xact_start LIMIT 5`, []any{e.cfg.LongTransaction}, []any{&who, &began, &queried, &query, &fix}, func() {
		e.tell(Warning, "transaction", who, fmt.Sprintf("it writes in a transaction since %s, its last statement began at %s (%s): %s",
			began.UTC().Format(time.RFC3339), queried.UTC().Format(time.RFC3339), strings.Join(strings.Fields(query), " "), effect), fix)
	})
	if err != nil {
		return err
	}
	var gid string
	return rows(ctx, e.conn, "prepared transactions", `
SELECT gid, prepared FROM pg_prepared_xacts WHERE prepared < now() - $1::interval ORDER BY prepared LIMIT 5`,
		[]any{e.cfg.LongTransaction}, []any{&gid, &began}, func() {
			e.tell(Warning, "transaction", "prepared transaction "+literal(gid), fmt.Sprintf("it is open since %s: %s", began.UTC().Format(time.RFC3339), effect),
				"COMMIT PREPARED, or:", "ROLLBACK PREPARED "+literal(gid))
		})
}
