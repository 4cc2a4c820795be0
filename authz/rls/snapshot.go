package rls

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

const (
	beginSnapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	// fetchBytes is what a portion of a snapshot aims at, and fetchRows the most rows of one.
	fetchBytes = 1 << 20
	fetchRows  = 1000
	// firstRows is the first portion, by which the size of the rows is learned.
	firstRows = 50
)

// A reader reads one snapshot.
type reader struct {
	g         *Postgres
	s         *session
	plan      *plan
	principal *authz.Principal
	actor     *actor
	readable  []bool
	where     string
	settled   []uint32
	deadline  time.Time
	begin     func(cdc.Snapshot) error
	row       func(cdc.Row) error
	// failed tells that the policies took too long.
	failed bool
	// begun tells that begin was called: from then on there is no second try.
	begun bool
	// portion has it read in the order of the key, behind after where that is not nil, and stop
	// once that is enough; more tells that it did.
	portion bool
	after   cdc.Row
	more    bool
	scratch []byte // of image
}

// Snapshot reads the rows that a principal's SELECT returns now, in one repeatable read snapshot that
// sees every transaction in what.Settled, for which it waits as long as VisibilityWait. It calls begin
// once with that snapshot, then row for each row, in the order of the table's columns; those that are
// not readable are Absent. It holds about a megabyte of rows at a time.
//
// Its errors are those of ctx and of the callbacks as they are, and otherwise *schema.Error:
// Forbidden where the SELECT raises an error that will be raised again, ResyncRequired where
// another try may succeed.
func (g *Postgres) Snapshot(ctx context.Context, what authz.Reading, begin func(cdc.Snapshot) error, row func(cdc.Row) error) error {
	return g.reader(what, begin, row).read(ctx)
}

func (g *Postgres) reader(what authz.Reading, begin func(cdc.Snapshot) error, row func(cdc.Row) error) *reader {
	p := what.Principal
	return &reader{
		g: g, plan: g.plan(what.Table, p.Role), principal: p, actor: newActor(p, g.path), readable: what.Readable, where: what.Where,
		settled: what.Settled, deadline: time.Now().Add(g.cfg.VisibilityWait), begin: begin, row: row,
	}
}

// read reads what the reader is for.
func (r *reader) read(ctx context.Context) error {
	g := r.g
	asked := &task{plan: r.plan, as: r.actor}
	if due, suspended := g.breakers.check(asked); suspended && !due {
		return r.unavailable("policy_suspended", "")
	}
	defer func() {
		asked.failed = r.failed
		g.breakers.note(asked)
	}()
	err := r.try(ctx, false)
	if lost := (*lostError)(nil); errors.As(err, &lost) && !r.begun && ctx.Err() == nil {
		err = r.try(ctx, true) // the session may have died long ago
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if lost := (*lostError)(nil); errors.As(err, &lost) {
		return r.unavailable("connection_lost", "")
	}
	asked.answered = err == nil
	return err
}

// A lostError is one of the connection.
type lostError struct{ err error }

func (e *lostError) Error() string { return "connection: " + e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// try reads the snapshot in one session. A session on which anything went wrong is closed: only
// one that went through the whole of it, and was found clean, is used again.
func (r *reader) try(ctx context.Context, fresh bool) error {
	s, err := r.g.snapshots.acquire(ctx, fresh)
	if err != nil {
		return r.unavailable("unavailable", "")
	}
	r.s = s
	clean := false
	defer func() {
		if !clean {
			s.close(ctx)
		}
		r.g.snapshots.release(ctx, s)
	}()
	if err := r.supported(ctx); err != nil {
		return err
	}
	snapshot, err := r.open(ctx)
	if err != nil {
		return err
	}
	if err := r.findEnd(ctx, &snapshot); err != nil {
		return err
	}
	if err := r.declare(ctx); err != nil {
		return err
	}
	r.begun = true
	if err := r.begin(snapshot); err != nil {
		return err
	}
	if err := r.fetchAll(ctx); err != nil {
		return err
	}
	clean = r.end(ctx)
	return nil
}

// supported refuses what Judge would hide: the snapshot and the changes behind it must show the
// same rows.
func (r *reader) supported(ctx context.Context) error {
	keys := []statementKey{{sql: r.plan.shape}, r.actor.assume, r.actor.verify}
	if r.plan.fixed == 0 {
		if r.plan.refused() {
			return r.forbidden("policy_unsupported", "")
		}
		keys = append(keys, statementKey{r.plan.eval, r.plan.role})
	}
	refused, err := r.s.prepare(ctx, keys)
	if err != nil {
		return &lostError{err}
	}
	for key, problem := range refused {
		if key.role == "" || !determined(problem.Code) {
			return r.unavailable("policy_failed", problem.Code)
		}
		r.plan.refuse(problem)
		return r.forbidden("policy_unsupported", problem.Code)
	}
	return nil
}

// open begins the transaction, in a snapshot that sees everything settled.
func (r *reader) open(ctx context.Context) (cdc.Snapshot, error) {
	shape := r.s.statements.name(statementKey{sql: r.plan.shape})
	for {
		reply, err := r.talk(ctx, func(p *pgconn.Pipeline) {
			control(p, beginSnapshot)
			p.SendQueryPrepared(shape, nil, nil, nil)
		})
		if err != nil {
			return cdc.Snapshot{}, err
		}
		if reply.err != nil {
			return cdc.Snapshot{}, r.unavailable("policy_failed", reply.err.Code)
		}
		snapshot, stale, err := readShape(reply.rows[1], r.plan.expected)
		switch {
		case err != nil:
			return snapshot, &lostError{err}
		case stale:
			return snapshot, &schema.Error{Code: schema.ResyncRequired, Reason: "policy_changed", Message: "the table has changed"}
		case sees(snapshot, r.settled):
			return snapshot, nil
		}
		if _, err := r.talk(ctx, func(p *pgconn.Pipeline) { control(p, rollback) }); err != nil {
			return snapshot, err
		}
		seen, err := r.s.await(ctx, r.settled, r.deadline)
		if err != nil {
			return snapshot, &lostError{err}
		}
		if !seen {
			return snapshot, r.unavailable("visibility", "")
		}
	}
}

// declare makes role and settings and the cursor.
func (r *reader) declare(ctx context.Context) error {
	var columns []string
	for i, c := range r.plan.table.Columns {
		if i < len(r.readable) && r.readable[i] {
			columns = append(columns, ident(c.Def.Name))
		}
	}
	if len(columns) == 0 {
		return r.forbidden("policy_error", "42501")
	}
	def := r.plan.table.Def
	from := "ONLY " // tables that inherit from this one have a stream of their own
	if def.Kind == 'p' {
		from = ""
	}
	query := "SELECT " + strings.Join(columns, ", ") + " FROM " + from + ident(def.Schema) + "." + ident(def.Name) + r.within()
	reply, err := r.talk(ctx, func(p *pgconn.Pipeline) {
		p.SendQueryPrepared(r.s.statements.name(r.actor.assume), assumeParams(r.principal), nil, nil)
		control(p, "DECLARE rows NO SCROLL CURSOR FOR "+query)
	})
	switch {
	case err != nil:
		return err
	case reply.err != nil:
		return r.refusal(reply.err)
	}
	return nil
}

// fetchAll reads the cursor to its end, a portion at a time, and hands on what came of each
// before it asks for the next.
func (r *reader) fetchAll(ctx context.Context) error {
	count, bytes := 0, 0
	for n := firstRows; ; {
		rows, size, err := r.fetch(ctx, n)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if err := r.row(row); err != nil {
				return err
			}
		}
		count, bytes = count+len(rows), bytes+size
		if r.more = r.portion && (count >= portionRows || bytes >= fetchBytes); r.more || len(rows) < n {
			return nil
		}
		n = min(max(fetchBytes/max(size/len(rows), 1), 1), fetchRows)
	}
}

// fetch reads a portion, and checks behind it that it was evaluated under the principal's role
// and settings.
func (r *reader) fetch(ctx context.Context, n int) (rows []cdc.Row, size int, err error) {
	p := r.s.conn.StartPipeline(ctx)
	control(p, "FETCH FORWARD "+strconv.Itoa(n)+" FROM rows")
	p.SendQueryPrepared(r.s.statements.name(r.actor.verify), nil, nil, nil)
	if err := p.Sync(); err != nil {
		return nil, 0, &lostError{errors.Join(err, p.Close())}
	}
	result, err := p.GetResults()
	if reader, ok := result.(*pgconn.ResultReader); ok {
		for reader.NextRow() {
			row := r.image(reader.Values())
			rows = append(rows, row)
			size += row.Size()
		}
		_, err = reader.Close()
	}
	problem, lost := asPgError(err)
	var checked reply
	if lost == nil {
		checked, lost = receive(p)
	}
	if lost = errors.Join(lost, p.Close()); lost != nil && problem == nil {
		return nil, 0, &lostError{lost}
	}
	switch {
	case problem != nil:
		return nil, 0, r.refusal(problem)
	case checked.err != nil:
		return nil, 0, r.refusal(checked.err)
	case r.actor.compare(checked.rows[0]) != 0:
		return nil, 0, r.forbidden("role_tampered", "")
	}
	return rows, size, nil
}

// image puts the values of the readable columns in their places. They share one string.
func (r *reader) image(values [][]byte) cdc.Row {
	r.scratch = r.scratch[:0]
	for _, v := range values {
		r.scratch = append(r.scratch, v...)
	}
	text := string(r.scratch)
	row := make(cdc.Row, len(r.plan.table.Columns))
	next := 0
	for i := range row {
		if i >= len(r.readable) || !r.readable[i] {
			row[i] = cdc.AbsentValue()
			continue
		}
		v := values[next]
		if next++; v != nil {
			row[i] = cdc.TextValue(text[:len(v)])
		}
		text = text[len(v):]
	}
	return row
}

// end leaves the transaction and tells whether the session may be used again.
func (r *reader) end(ctx context.Context) bool {
	reply, err := r.talk(ctx, func(p *pgconn.Pipeline) {
		control(p, rollback)
		control(p, foreignStatements)
		control(p, unlock)
	})
	return err == nil && reply.err == nil && reply.rows[1] == nil
}

// talk sends some statements and reads their reply.
func (r *reader) talk(ctx context.Context, send func(*pgconn.Pipeline)) (reply, error) {
	p := r.s.conn.StartPipeline(ctx)
	send(p)
	if err := p.Sync(); err != nil {
		return reply{}, &lostError{errors.Join(err, p.Close())}
	}
	out, err := receive(p)
	if err != nil {
		return reply{}, &lostError{errors.Join(err, p.Close())}
	}
	if err := p.Close(); err != nil {
		return reply{}, &lostError{err}
	}
	return out, nil
}

// refusal turns an error of Postgres into one for the client.
func (r *reader) refusal(err *pgconn.PgError) error {
	if determined(err.Code) {
		return r.forbidden("policy_error", err.Code)
	}
	return r.unavailable("policy_failed", err.Code)
}

func (r *reader) forbidden(reason, sqlstate string) error {
	r.plan.report(r.g.cfg.Audit)
	r.audit(authz.EventDeny, reason, sqlstate)
	return &schema.Error{Code: schema.Forbidden, Message: "the rows cannot be read with this token"}
}

func (r *reader) unavailable(reason, sqlstate string) error {
	r.failed = r.failed || sqlstate == queryCanceled
	r.audit(authz.EventUndecided, reason, sqlstate)
	return &schema.Error{Code: schema.ResyncRequired, Reason: "policy_unavailable", Message: "the rows cannot be read at the moment"}
}

func (r *reader) audit(event authz.Event, reason, sqlstate string) {
	r.g.cfg.Audit.Record(authz.Record{
		Event: event, Role: r.principal.Role, Subject: r.principal.Subject, Table: tableName(r.plan.table), Reason: reason, SQLState: sqlstate,
	})
}
