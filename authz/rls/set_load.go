package rls

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

const (
	// loadPause is how long loading waits for what only time brings, retryPause after what went
	// wrong, refusedPause before a table that cannot be kept is looked at again.
	loadPause    = 20 * time.Millisecond
	retryPause   = time.Second
	refusedPause = 10 * time.Second
)

// loadsAtOnce bounds the connections that tables are read by: policies may ask dozens.
const loadsAtOnce = 4

// A refusedError tells why a table cannot be kept as it is.
type refusedError struct{ why string }

func (e refusedError) Error() string { return e.why }

// load starts the reading of a table. The caller holds mu.
func (s *keeps) load(k *kept) {
	k.since = time.Now()
	var ctx context.Context
	if ctx, k.cancel = s.life(); s.still { // Still reads it
		return
	} else if ctx.Err() != nil {
		k.phase, k.why = phaseRefused, "the service stops"
		return
	}
	s.wg.Go(func() {
		for {
			err := s.try(ctx, k)
			if err == nil || ctx.Err() != nil {
				return
			}
			s.failed(ctx, k, err)
			wait := retryPause
			if errors.As(err, new(refusedError)) {
				wait = refusedPause
			}
			if sleep(ctx, wait) != nil {
				return
			}
		}
	})
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *keeps) failed(ctx context.Context, k *kept, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	s.forget(k)
	k.phase = phaseLoading
	if time.Since(k.since) < awaitMost { // a connection that broke says nothing about the next
		k.since = time.Now()
	}
	if before := k.why; before != err.Error() {
		s.g.cfg.Logger.Warn("what policies ask of a table is not kept: Postgres is asked", "table", k.def.Schema+"."+k.def.Name, "why", err)
	}
	if k.why = err.Error(); errors.As(err, new(refusedError)) {
		k.phase = phaseRefused
	}
	s.moveLocked()
}

// forget drops what was read and recorded.
func (s *keeps) forget(k *kept) {
	s.bytes -= k.size()
	for _, c := range k.recorded {
		s.bytes -= c.row.Size() + changeBytes
	}
	k.rows, k.recorded, k.recording = nil, nil, false
}

// try reads a table and writes the message behind which it is kept.
func (s *keeps) try(ctx context.Context, k *kept) error {
	if err := s.begun(ctx); err != nil {
		return err
	}
	select {
	case s.loads <- struct{}{}:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { <-s.loads }()
	conn, err := pgconn.ConnectConfig(ctx, s.g.keepSession)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := s.published(ctx, conn, k); err != nil {
		return err
	}
	s.mu.Lock()
	if ctx.Err() != nil {
		s.mu.Unlock()
		return ctx.Err()
	}
	s.forget(k)
	k.phase, k.recording, k.floor = phaseLoading, true, s.now
	s.mu.Unlock()
	seen, rows, err := s.read(ctx, conn, k)
	if err != nil {
		return err
	}
	return s.install(ctx, conn, k, seen, rows)
}

// begun waits until the stream has begun: what commits before that is in the snapshot alone.
func (s *keeps) begun(ctx context.Context) error {
	for {
		s.mu.RLock()
		end, moved := s.end, s.moved
		s.mu.RUnlock()
		if end != 0 {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// published checks that the stream has all changes of the table, and waits until it has those of
// every transaction: one that is older than the publication's change may have written to the table
// before it, unseen by the stream.
func (s *keeps) published(ctx context.Context, conn *pgconn.PgConn, k *kept) error {
	began, err := s.fits(ctx, conn, k)
	if err != nil {
		return err
	}
	for {
		r, err := one(ctx, conn, `SELECT pg_catalog.pg_current_snapshot()`)
		if err != nil {
			return err
		}
		now, err := cdc.ParseSnapshot(string(r[0]))
		if err != nil || now.Xmin >= began.Xmax {
			return err
		}
		if err := sleep(ctx, loadPause); err != nil {
			return err
		}
	}
}

// fits checks that the stream gets all changes of the table, and gives the snapshot in which it is so.
func (s *keeps) fits(ctx context.Context, conn *pgconn.PgConn, k *kept) (cdc.Snapshot, error) {
	r, err := one(ctx, conn, `
SELECT pg_catalog.pg_current_snapshot(), c.relreplident = 'f', EXISTS (
  SELECT FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
  WHERE p.pubname = $2 AND r.prrelid = c.oid AND p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate
    AND r.prattrs IS NULL AND r.prqual IS NULL)
FROM pg_catalog.pg_class c WHERE c.oid = $1`, strconv.FormatUint(uint64(k.def.OID), 10), s.g.cfg.Publication)
	if err != nil {
		return cdc.Snapshot{}, err
	}
	if len(r) != 3 || string(r[1]) != "t" || string(r[2]) != "t" {
		return cdc.Snapshot{}, refusedError{"the table " + k.def.Schema + "." + k.def.Name + " is not published with full replica identity: run rowtide sync"}
	}
	return cdc.ParseSnapshot(string(r[0]))
}

// read reads the rows in a snapshot that sees everything that was followed before it was recorded.
func (s *keeps) read(ctx context.Context, conn *pgconn.PgConn, k *kept) (cdc.Snapshot, []cdc.Row, error) {
	for {
		if err := run(ctx, conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
			return cdc.Snapshot{}, nil, err
		}
		r, err := one(ctx, conn, `SELECT pg_catalog.pg_current_snapshot()`)
		if err != nil {
			return cdc.Snapshot{}, nil, err
		}
		seen, err := cdc.ParseSnapshot(string(r[0]))
		if err != nil {
			return seen, nil, err
		}
		if s.prune(seen, k.floor) {
			rows, err := s.readRows(ctx, conn, k)
			if err == nil {
				err = run(ctx, conn, rollback)
			}
			return seen, rows, err
		}
		if err := run(ctx, conn, rollback); err != nil {
			return seen, nil, err
		}
		if err := sleep(ctx, loadPause); err != nil {
			return seen, nil, err
		}
	}
}

// prune forgets the transactions that a snapshot sees, and tells whether those up to a place are
// all among them.
func (s *keeps) prune(seen cdc.Snapshot, floor cdc.LSN) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rest []followed
	all := true
	for _, f := range s.recent {
		if !seen.Sees(f.xid) {
			rest = append(rest, f)
			all = all && f.commit > floor
		}
	}
	s.recent = rest
	return all
}

// readRows reads the kept columns. Setup has made a function for that, which reads all rows for
// whoever may follow the stream, which has them as well.
func (s *keeps) readRows(ctx context.Context, conn *pgconn.PgConn, k *kept) ([]cdc.Row, error) {
	names := make([]string, len(k.columns))
	for i, c := range k.columns {
		names[i] = k.def.Columns[c].Name
	}
	var list []string
	for i := range names {
		list = append(list, "r["+strconv.Itoa(i+1)+"]")
	}
	if len(list) == 0 {
		list = []string{"NULL"}
	}
	elements := make([][]byte, len(names))
	for i, n := range names {
		elements[i] = []byte(n)
	}
	reader := conn.ExecParams(ctx, "SELECT "+strings.Join(list, ", ")+" FROM rowtide.rows_of($1::pg_catalog.oid, $2::pg_catalog.text[]) AS r",
		[][]byte{[]byte(strconv.FormatUint(uint64(k.def.OID), 10)), textArray(elements)}, nil, []int16{textFormat, binaryFormat}, nil)
	var out []cdc.Row
	size := 0
	for reader.NextRow() {
		values := reader.Values()
		row := make(cdc.Row, len(names))
		for i := range row {
			if values[i] != nil {
				row[i] = cdc.TextValue(string(values[i]))
			}
		}
		if size += entryBytes + 2*row.Size(); size > s.bound {
			_, _ = reader.Close()
			return nil, refusedError{fmt.Sprintf("the table %s.%s takes more than %d MiB", k.def.Schema, k.def.Name, s.bound>>20)}
		}
		out = append(out, row)
	}
	_, err := reader.Close()
	var pe *pgconn.PgError
	if errors.As(err, &pe) && (pe.Code == "42883" || pe.Code == "42501" || pe.Code == "3F000") {
		// undefined_function, insufficient_privilege, invalid_schema_name
		return nil, refusedError{"the service's login may not read " + k.def.Schema + "." + k.def.Name + ": run rowtide setup (" + pe.Message + ")"}
	}
	return out, err
}

// install takes the rows and what was recorded, and writes the message.
func (s *keeps) install(ctx context.Context, conn *pgconn.PgConn, k *kept, seen cdc.Snapshot, rows []cdc.Row) error {
	if err := run(ctx, conn, "BEGIN READ WRITE"); err != nil {
		return err
	}
	r, err := one(ctx, conn, `SELECT pg_catalog.pg_current_xact_id()::pg_catalog.xid, pg_catalog.pg_logical_emit_message(true, 'rowtide', 'kept')`)
	if err != nil {
		return err
	}
	xid, err := strconv.ParseUint(string(r[0]), 10, 32)
	if err != nil {
		return fmt.Errorf("read transaction id: %w", err)
	}
	set := newRowSet(k.indexes)
	for _, row := range rows {
		set.add(row, 1)
	}
	s.mu.Lock()
	if ctx.Err() != nil {
		s.mu.Unlock()
		return ctx.Err()
	}
	recorded := k.recorded
	s.forget(k)
	k.phase, k.why, k.rows, k.recording, k.barrier, k.seen = phaseRead, "", set, true, uint32(xid), seen
	for _, c := range recorded {
		set.note(c.row, c.commit, c.n, seen.Sees(c.xid))
	}
	s.bytes += set.bytes
	s.mu.Unlock()
	return run(ctx, conn, "COMMIT")
}

func run(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	return conn.Exec(ctx, sql).Close()
}

// one runs a query of one row; it gives none where there is no row.
func one(ctx context.Context, conn *pgconn.PgConn, sql string, params ...string) ([][]byte, error) {
	values := make([][]byte, len(params))
	for i, p := range params {
		values[i] = []byte(p)
	}
	r := conn.ExecParams(ctx, sql, values, nil, nil, nil).Read()
	if r.Err != nil || len(r.Rows) == 0 {
		return nil, r.Err
	}
	return r.Rows[0], nil
}
