package migrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A session is one run of a command over one connection.
type session struct {
	conn        *pgx.Conn
	dry         io.Writer // nil means to do it
	lockTimeout time.Duration
	report      Report
	server      Server // set by preflight
}

const (
	// defaultLockTimeout bounds how long a statement waits for its lock. While it waits, those
	// that come later wait behind it: the application stands still for as long.
	defaultLockTimeout = 2 * time.Second
	// lockTries bounds how often a lock is tried for; a pause as long as the wait lies between.
	lockTries = 5
	// advisoryLock keeps two runs of commands in one database apart: "rowtide" in bytes.
	advisoryLock = 0x726f7774696465
)

// open connects as the administrator and takes the lock that keeps others out.
func open(ctx context.Context, url string, dry io.Writer, lockTimeout time.Duration) (*session, error) {
	conn, err := connect(ctx, url, "--admin-url", "rowtide setup")
	if err != nil {
		return nil, err
	}
	if lockTimeout <= 0 {
		lockTimeout = defaultLockTimeout
	}
	s := &session{conn: conn, dry: dry, lockTimeout: lockTimeout}
	if dry != nil {
		return s, nil
	}
	if err := s.lockOut(ctx); err != nil {
		s.close(ctx)
		return nil, err
	}
	return s, nil
}

// lockOut waits for other runs to end, for as long as it would for a table. What they have done is
// found done.
func (s *session) lockOut(ctx context.Context) error {
	wait := (s.lockTimeout * lockTries).Milliseconds()
	_, err := s.conn.Exec(ctx, fmt.Sprintf(`SET lock_timeout = %d; SELECT pg_advisory_lock(%d); RESET lock_timeout`, max(wait, 1), int64(advisoryLock)))
	if code(err) == pgerrcode.LockNotAvailable {
		return errors.New("another setup, sync or migrate runs in this database: wait until it has ended")
	}
	if err != nil {
		return fmt.Errorf("lock out other runs: %w", err)
	}
	return nil
}

// oneLine is an error's text without the line breaks that pgx puts between addresses.
func oneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// close ends the connection. The lock is given back first: the server only notices later that a
// connection was closed, and the next run may be there by then.
func (s *session) close(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if !s.conn.IsClosed() {
		s.conn.Exec(ctx, `SELECT pg_advisory_unlock_all()`) //nolint:errcheck // the end of the session does it too
	}
	s.conn.Close(ctx)
}

// step adds to the report.
func (s *session) step(state State, what, why string, sql ...string) {
	s.report.Steps = append(s.report.Steps, Step{What: what, SQL: sql, State: state, Why: why})
}

// already reports what is so already.
func (s *session) already(what string) { s.step(Already, what, "") }

// do runs the statements of a step in one transaction, or prints them. A failure is an error: the
// steps that follow build on this one.
func (s *session) do(ctx context.Context, what string, sql ...string) error {
	if s.dry != nil {
		s.step(Planned, what, "", sql...)
		return s.print(what, sql)
	}
	if err := s.run(ctx, sql); err != nil {
		return explain(what, err)
	}
	s.step(Done, what, "", sql...)
	return nil
}

// explain says what failed, and for lacking privileges what to do.
func explain(what string, err error) error {
	if err == nil {
		return nil
	}
	if code(err) == pgerrcode.InsufficientPrivilege {
		var pe *pgconn.PgError
		errors.As(err, &pe)
		return &failure{what + ": " + pe.Message + ": connect as a role that may do that, such as a superuser", err}
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (s *session) print(what string, sql []string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "-- %s\n", strings.ReplaceAll(what, "\n", " "))
	if len(sql) > 1 {
		b.WriteString("BEGIN;\n")
	}
	for _, q := range sql {
		b.WriteString(strings.TrimRight(q, "; \n") + ";\n")
	}
	if len(sql) > 1 {
		b.WriteString("COMMIT;\n")
	}
	if _, err := io.WriteString(s.dry, b.String()+"\n"); err != nil {
		return fmt.Errorf("print SQL: %w", err)
	}
	return nil
}

// run runs statements in one transaction. Locks are waited for briefly and tried for again.
func (s *session) run(ctx context.Context, sql []string) error {
	for try := 1; ; try++ {
		err := s.try(ctx, sql)
		if c := code(err); c != pgerrcode.LockNotAvailable && c != pgerrcode.DeadlockDetected {
			return err
		}
		if try == lockTries {
			return fmt.Errorf("%w: tried %d times for %s: end the transactions that hold the lock, or wait longer", err, try, s.lockTimeout)
		}
		if err := pause(ctx, s.lockTimeout); err != nil {
			return err
		}
	}
}

func (s *session) try(ctx context.Context, sql []string) error {
	return pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		set := `SET LOCAL lock_timeout = ` + strconv.FormatInt(max(s.lockTimeout.Milliseconds(), 1), 10)
		for _, q := range append([]string{set}, sql...) {
			if _, err := tx.Exec(ctx, q); err != nil {
				return err
			}
		}
		return nil
	})
}

// pause waits for others: for those who queued behind a lock that was not had, or until sessions have ended.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// code is the SQLSTATE of an error, "" where it has none.
func code(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.Code
	}
	return ""
}

// exists tells whether a query gives a row.
func (s *session) exists(ctx context.Context, query string, args ...any) (bool, error) {
	var yes bool
	err := s.conn.QueryRow(ctx, `SELECT EXISTS (`+query+`)`, args...).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("read catalog: %w", err)
	}
	return yes, nil
}

// has tells whether a table of Rowtide's own is there: in a dry run, or after an interrupted
// down, it may not be.
func (s *session) has(ctx context.Context, table string) (bool, error) {
	return s.exists(ctx, `SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`, Schema, table)
}

// remember is the statement that notes what a step made, to go with it in its transaction.
func remember(kind, name, detail string) string {
	return fmt.Sprintf("INSERT INTO rowtide.created (kind, name, detail) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
		literal(kind), literal(name), literal(detail))
}

// forget is its reverse.
func forget(kind, name, detail string) string {
	return fmt.Sprintf("DELETE FROM rowtide.created WHERE kind = %s AND name = %s AND detail = %s",
		literal(kind), literal(name), literal(detail))
}

// A creation is a row of rowtide.created.
type creation struct{ Kind, Name, Detail string }

// created reads what was made outside schema rowtide.
func (s *session) created(ctx context.Context) ([]creation, error) {
	ok, err := s.has(ctx, "created")
	if err != nil || !ok {
		return nil, err
	}
	rows, err := s.conn.Query(ctx, `SELECT kind, name, detail FROM rowtide.created ORDER BY created_at, kind, name, detail`)
	if err != nil {
		return nil, fmt.Errorf("read what was created: %w", err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[creation])
	if err != nil {
		return nil, fmt.Errorf("read what was created: %w", err)
	}
	return out, nil
}
