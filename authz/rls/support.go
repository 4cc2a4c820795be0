package rls

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/authz"
)

// refusalAge is how long a refusal by Postgres is believed: a GRANT may mend it without a new
// description of the table.
const refusalAge = 10 * time.Second

// A refusal is why policies cannot be judged at all. Their table is hidden from the role, and
// that is told once.
type refusal struct {
	detail   string
	sqlstate string
	until    time.Time // zero: as long as the policies are what they are
}

// refused tells whether the policies cannot be judged.
func (p *plan) refused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.refusal != nil && (p.refusal.until.IsZero() || time.Now().Before(p.refusal.until))
}

// refuse notes that Postgres does not take the policies, read over an image.
func (p *plan) refuse(err *pgconn.PgError) {
	detail := err.Message
	switch err.Code {
	case "42703": // undefined_column
		detail = "a policy reads what a row image does not have, such as ctid, xmin or tableoid: " + detail
	case "42501": // insufficient_privilege
		detail = "grant the service's login USAGE on the schemas that the policies name: " + detail
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusal = &refusal{detail: detail, sqlstate: err.Code, until: time.Now().Add(refusalAge)}
}

// accept notes that Postgres takes them.
func (p *plan) accept() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal != nil && !p.refusal.until.IsZero() {
		p.refusal, p.told = nil, false
	}
}

// report tells the audit log of a refusal, the first time.
func (p *plan) report(to authz.Auditor) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusal == nil || p.told {
		return
	}
	p.told = true
	to.Record(authz.Record{
		Event: authz.EventUnsupported, Role: p.role, Table: tableName(p.table), Reason: "policy_unsupported",
		SQLState: p.refusal.sqlstate, Detail: p.refusal.detail,
	})
}

// supported prepares the plans' statements and gives the tasks whose policies Postgres takes.
// The others are decided.
func (g *Postgres) supported(ctx context.Context, s *session, j *judgement, group []*task) ([]*task, error) {
	keys := make([]statementKey, 0, len(group))
	for _, t := range group {
		keys = append(keys, t.eval)
	}
	refused, err := s.prepare(ctx, keys)
	if err != nil {
		return nil, err
	}
	var rest []*task
	for _, t := range group {
		problem := refused[t.eval]
		if problem == nil {
			t.plan.accept()
			rest = append(rest, t)
			continue
		}
		stale, err := s.stale(ctx, t.plan)
		switch {
		case err != nil:
			return nil, err
		case stale:
			j.decide(t, nil, authz.Undecided, "catalog_changed", problem.Code)
		case !determined(problem.Code):
			j.decide(t, nil, authz.Undecided, "policy_failed", problem.Code)
		default:
			t.plan.refuse(problem)
			j.hide(t)
		}
	}
	return rest, nil
}

// hide hides all images because of the plan's refusal.
func (j *judgement) hide(t *task) {
	for i := range t.out {
		t.out[i] = authz.Hidden
	}
	t.plan.report(j.audit.to)
}

// stale tells whether the table is not the one that was described.
func (s *session) stale(ctx context.Context, p *plan) (bool, error) {
	r := s.conn.ExecParams(ctx, p.shape, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return false, r.Err
	}
	if len(r.Rows) == 0 {
		return true, nil
	}
	_, stale, err := readShape(r.Rows[0], p.expected)
	return stale, err
}
