package replication

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

// Window slots are copies of the slot, made from time to time and never acknowledged. Each reads
// everything that commits behind the place where it was copied, so the oldest holds the WAL from
// which a restart reads again what a process lost with its memory. Their names say when they were
// made, so that whoever finds them after a crash knows their age: nothing else keeps it.

const (
	// windowMark stands between the slot's name and the time, windowDigits of base 36.
	windowMark   = "_w"
	windowDigits = 8
	// maxWindowSlots bounds them: max_replication_slots is 10 by default.
	maxWindowSlots = 6
	// windowSteps is how many copies are made within the window's length.
	windowSteps = 3
	// windowEvery is how often their age and size are looked at.
	windowEvery = time.Second
	// maxSlotName leaves room for the mark and the time in the 63 bytes of a slot's name.
	maxSlotName = 63 - len(windowMark) - windowDigits
)

// A windowSlot is what pg_replication_slots says of one.
type windowSlot struct {
	name               string
	made               time.Time
	confirmed, restart cdc.LSN
	// usable tells that it can be read; active that a session does so.
	usable, active bool
}

// windowName is the name of a copy made at that time of the server's clock.
func windowName(slot string, made time.Time) string {
	digits := strconv.FormatInt(max(made.UnixMilli(), 0), 36)
	return slot + windowMark + strings.Repeat("0", max(windowDigits-len(digits), 0)) + digits
}

// windowTime reads a name. It is false for one that windowName did not make for this slot.
func windowTime(slot, name string) (time.Time, bool) {
	digits, ok := strings.CutPrefix(name, slot+windowMark)
	if !ok || len(digits) != windowDigits {
		return time.Time{}, false
	}
	ms, err := strconv.ParseInt(digits, 36, 64)
	return time.UnixMilli(ms), err == nil && name == strings.ToLower(name)
}

// A windowState is the window slots, oldest first, and the slot that they are copies of.
type windowState struct {
	now   time.Time // of the server
	main  windowSlot
	slots []windowSlot
}

// due says what to do: which slots to drop, and whether to copy. The window has the length at
// least, unless it would hold more WAL than limit.
func (w *windowState) due(length time.Duration, limit uint64) (drop []string, renew bool) {
	var kept []windowSlot
	for _, s := range w.slots {
		if length > 0 && s.usable && w.holds(s) <= limit {
			kept = append(kept, s)
		} else {
			drop = append(drop, s.name)
		}
	}
	for len(kept) > 1 && w.now.Sub(kept[1].made) >= length {
		drop = append(drop, kept[0].name)
		kept = kept[1:]
	}
	switch {
	case length <= 0 || !w.main.usable || len(kept) >= maxWindowSlots:
		return drop, false
	case len(kept) == 0:
		return drop, true
	}
	newest := kept[len(kept)-1]
	if w.main.confirmed <= newest.confirmed {
		return drop, false // a copy would say the same
	}
	return drop, w.now.Sub(newest.made) >= length/windowSteps || uint64(w.main.confirmed-newest.confirmed) >= limit/(windowSteps+1)
}

// holds is how much WAL there is for this slot that the main one does not need, or has passed.
func (w *windowState) holds(s windowSlot) uint64 {
	var n cdc.LSN
	if s.restart < w.main.restart {
		n = w.main.restart - s.restart
	}
	if s.confirmed < w.main.confirmed {
		n = max(n, w.main.confirmed-s.confirmed)
	}
	return uint64(n)
}

func (c *Consumer) readWindow(ctx context.Context, conn *pgconn.PgConn) (*windowState, error) {
	rows, err := query(ctx, conn, `SELECT slot_name, COALESCE(confirmed_flush_lsn::pg_catalog.text, ''), COALESCE(restart_lsn::pg_catalog.text, ''),
			slot_type = 'logical' AND plugin = '`+plugin+`' AND NOT temporary AND COALESCE(wal_status, '') <> 'lost'
				AND pg_catalog.to_jsonb(s) ->> 'invalidation_reason' IS NULL,
			active, (1000 * EXTRACT(epoch FROM pg_catalog.clock_timestamp()))::pg_catalog.int8
		FROM pg_catalog.pg_replication_slots s
		WHERE database = pg_catalog.current_database() AND (slot_name = '`+c.cfg.Slot+`' OR pg_catalog.starts_with(slot_name, '`+c.cfg.Slot+windowMark+`'))`)
	if err != nil {
		return nil, fmt.Errorf("read window slots: %w", err)
	}
	var w windowState
	for _, r := range rows {
		ms, err := strconv.ParseInt(r[5], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read the server's clock: %w", err)
		}
		w.now = time.UnixMilli(ms)
		s := windowSlot{name: r[0], active: r[4] == "t"}
		var bad, badToo error
		s.confirmed, bad = cdc.ParseLSN(r[1])
		s.restart, badToo = cdc.ParseLSN(r[2])
		s.usable = r[3] == "t" && bad == nil && badToo == nil
		if s.name == c.cfg.Slot {
			w.main = s
			continue
		}
		var ours bool
		if s.made, ours = windowTime(c.cfg.Slot, s.name); ours {
			w.slots = append(w.slots, s)
		}
	}
	slices.SortFunc(w.slots, func(a, b windowSlot) int { return a.made.Compare(b.made) })
	return &w, nil
}

// renewWindow drops and copies what is due.
func (c *Consumer) renewWindow(ctx context.Context, conn *pgconn.PgConn) error {
	w, err := c.readWindow(ctx, conn)
	if err != nil {
		return err
	}
	drop, renew := w.due(c.cfg.Retain, uint64(c.cfg.RetainWAL)) //nolint:gosec // New refuses negative ones
	var problems []error
	for _, name := range drop {
		if _, err := query(ctx, conn, `SELECT pg_catalog.pg_drop_replication_slot('`+name+`')`); err != nil {
			problems = append(problems, fmt.Errorf("drop window slot %q: %w", name, cause(err)))
			continue
		}
		c.log.Debug("window slot dropped", "slot", name)
		w.slots = slices.DeleteFunc(w.slots, func(s windowSlot) bool { return s.name == name })
	}
	if renew {
		name := windowName(c.cfg.Slot, w.now)
		if _, err := query(ctx, conn, `SELECT pg_catalog.pg_copy_logical_replication_slot('`+c.cfg.Slot+`', '`+name+`')`); err != nil {
			problems = append(problems, c.copyError(name, err))
		} else {
			c.log.Debug("window slot made", "slot", name, "from", w.main.confirmed)
			w.slots = append(w.slots, windowSlot{name: name, made: w.now, confirmed: w.main.confirmed, restart: w.main.restart, usable: true})
		}
	}
	c.reportWindow(w)
	return errors.Join(problems...)
}

func (c *Consumer) copyError(name string, err error) error {
	err = fmt.Errorf("make window slot %q: %w", name, cause(err))
	if sqlState(err) == limitExceeded {
		return &Error{
			Reason: TooManySlots, What: "cursors will not hold over a restart", Err: err,
			Fix: fmt.Sprintf("ALTER SYSTEM SET max_replication_slots to %d more than there are slots, and restart PostgreSQL", maxWindowSlots),
		}
	}
	return err
}

func (c *Consumer) reportWindow(w *windowState) {
	var s WindowState
	s.Slots = len(w.slots)
	if s.Slots > 0 {
		oldest := w.slots[0]
		s.From, s.Age, s.Bytes = oldest.confirmed, w.now.Sub(oldest.made), w.holds(oldest)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Window = s
}

// keepWindow looks after the window slots until ctx ends. It never fails: where they cannot be
// had the window is shorter, which it says once.
func (c *Consumer) keepWindow(ctx context.Context) {
	if c.cfg.Retain == 0 {
		return // the first connection has dropped what there was
	}
	tick := time.NewTicker(windowEvery)
	defer tick.Stop()
	var conn *pgconn.PgConn
	defer func() {
		if conn != nil {
			closeConn(ctx, conn)
		}
	}()
	told := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if !c.State().Connected {
			continue // the slot is not ours, or the server is away
		}
		var err error
		if conn == nil || conn.IsClosed() {
			conn, err = c.connectPlain(ctx)
		}
		if err == nil {
			err = c.renewWindow(ctx, conn)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			told = ""
		case err.Error() != told:
			told = err.Error()
			c.log.Warn("window slots cannot be kept: cursors may not hold over a restart", "error", oneLine(err))
		}
	}
}

// connectPlain opens an ordinary session, which takes no walsender's place.
func (c *Consumer) connectPlain(ctx context.Context) (*pgconn.PgConn, error) {
	cfg := c.conn.Copy()
	delete(cfg.RuntimeParams, "replication")
	cfg.RuntimeParams["application_name"] = "rowtide window"
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, connectError(err, cfg)
	}
	return conn, nil
}
