package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

// errReached ends the reading of a window slot where the main one begins.
var errReached = errors.New("the window was read again")

// rewind gives the handler again what lies between the oldest window slot that can be read and
// the slot itself. A window slot that cannot makes the window shorter; an error is one of the
// connection, and the next session tries all of it once more.
func (c *Consumer) rewind(ctx context.Context, w *windowState, until cdc.LSN) error {
	began := time.Now()
	handed := false
	for _, s := range w.slots {
		if !s.usable || s.confirmed >= until {
			continue
		}
		if handed {
			// What the slot before did not come to lies in between.
			if err := c.cfg.Handler.Lost(ctx, s.confirmed); err != nil {
				return fmt.Errorf("read window slot %q: %w", s.name, err)
			}
		}
		began := began
		started, err := c.reread(ctx, s, until)
		handed = handed || started
		switch {
		case err == nil:
			c.log.Info("changes of before the restart are held again", "from", s.confirmed, "until", until, "took", time.Since(began).Round(time.Millisecond))
			return nil
		case ctx.Err() != nil || !spoiled(err):
			return fmt.Errorf("read window slot %q: %w", s.name, err)
		}
		c.log.Warn("window slot cannot be read: cursors from before it start over", "slot", s.name, "error", oneLine(err))
	}
	if handed {
		return c.cfg.Handler.Lost(ctx, until)
	}
	return nil
}

// spoiled tells an error of a window slot that trying again does not help: all that the server
// says but that it goes down or has no room.
func spoiled(err error) bool {
	if reasonOf(err) == SlotInUse {
		return true // it was waited for
	}
	state := sqlState(err)
	if len(state) < 2 {
		return false
	}
	switch state[:2] {
	case "57", "53", "08": // operator intervention, insufficient resources, connection exception
		return false
	}
	return true
}

// windowWait is how long a window slot that a session still reads is waited for: that of a
// process which was killed at it ends when it next writes.
const windowWait = 5 * time.Second

// reread streams a window slot up to a position, and acknowledges nothing. started tells that
// the handler may have got some of it.
func (c *Consumer) reread(ctx context.Context, w windowSlot, until cdc.LSN) (started bool, err error) {
	for wait, late := newBackoff(), time.Now().Add(windowWait); ; {
		started, err = c.rereadOnce(ctx, w, until)
		if started || reasonOf(err) != SlotInUse || time.Now().After(late) || !sleep(ctx, wait.next()) {
			return started, err
		}
	}
}

func (c *Consumer) rereadOnce(ctx context.Context, w windowSlot, until cdc.LSN) (started bool, err error) {
	conn, srv, err := c.connect(ctx)
	if err != nil {
		return false, err
	}
	if err := c.start(ctx, conn, w.name, w.confirmed); err != nil {
		closeConn(ctx, conn)
		return false, c.streamError(fmt.Errorf("start replication from slot %q: %w", w.name, err), 0)
	}
	hc, err := conn.Hijack()
	if err != nil {
		closeConn(ctx, conn)
		return false, fmt.Errorf("take over the connection: %w", err)
	}
	s := newStream(c, hc, srv)
	s.progress, s.until = pinnedProgress(w.confirmed), until
	c.cfg.Handler.Reset(w.confirmed)
	if err := s.run(ctx); !errors.Is(err, errReached) {
		return true, err
	}
	return true, nil
}

// openWindow reads the window again, at the first connection, and makes its first slot: what is
// handed on from now on is to be held over a restart.
func (c *Consumer) openWindow(ctx context.Context, conn *pgconn.PgConn, main *slot) error {
	if c.streamed {
		return nil // the handler has it all
	}
	if main.active {
		return &Error{Reason: SlotInUse, What: fmt.Sprintf("stream from slot %q: it is active for another session", c.cfg.Slot), Fix: "end the session that streams from it, or use another slot"}
	}
	if err := c.markEnd(ctx, conn); err != nil {
		return err
	}
	w, err := c.readWindow(ctx, conn)
	if err != nil {
		return err
	}
	if c.cfg.Retain > 0 {
		if err := c.rewind(ctx, w, main.confirmed); err != nil {
			return err
		}
	}
	if err := c.renewWindow(ctx, conn); err != nil && ctx.Err() == nil {
		c.log.Warn("window slots cannot be kept: cursors may not hold over a restart", "error", oneLine(err))
	}
	return nil
}

// markEnd notes where the WAL ends: all that another process has handed on lies before it. Then it
// commits a transaction that does nothing, which flushes the WAL up to there. Else the last record
// might be flushed in part, and the server not come to its end before somebody writes.
func (c *Consumer) markEnd(ctx context.Context, conn *pgconn.PgConn) error {
	if c.before != 0 {
		return nil
	}
	rows, err := query(ctx, conn, `SELECT pg_catalog.pg_current_wal_insert_lsn()`)
	if err == nil {
		_, err = query(ctx, conn, `SELECT pg_catalog.pg_current_xact_id()`)
	}
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d rows", len(rows))
	}
	if err != nil {
		return fmt.Errorf("find the end of the WAL: %w", err)
	}
	c.before, err = cdc.ParseLSN(rows[0][0])
	return err
}
