package rls

import (
	"context"
	"errors"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxStatements bounds the statements prepared in one session.
const maxStatements = 128

// A statementKey names a prepared statement. Statements that run under a role belong to it
// alone, so that no plan that was made for one role serves another (CVE-2024-10976 and its
// family).
type statementKey struct{ sql, role string }

// statements are those prepared in a session.
type statements struct {
	byKey map[statementKey]*statement
	made  int
	clock int
}

type statement struct {
	name string
	used int
}

// name is that of a statement that is prepared.
func (st *statements) name(key statementKey) string {
	s := st.byKey[key]
	st.clock++
	s.used = st.clock
	return s.name
}

// prepare prepares what is missing among the wanted. Those that Postgres refuses are in the
// map; the error is one of the connection.
//
// It happens as the service's login, which needs USAGE on the schemas that policies name but no
// right on what is in them: rights on tables and functions are checked when a statement runs,
// under the role (R05, R06). What the login cannot prepare, for lack of USAGE or because of
// policies that bind it and not the role, is prepared under the role.
func (s *session) prepare(ctx context.Context, wanted []statementKey) (map[statementKey]*pgconn.PgError, error) {
	var missing []statementKey
	for _, key := range wanted {
		if st := s.statements.byKey[key]; st == nil {
			missing = append(missing, key)
		} else {
			s.statements.clock++
			st.used = s.statements.clock
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	if err := s.makeRoom(ctx, len(missing)); err != nil {
		return nil, err
	}
	refused := map[statementKey]*pgconn.PgError{}
	for _, key := range missing {
		problem, err := s.prepareOne(ctx, key)
		if err != nil {
			return nil, err
		}
		if problem != nil {
			refused[key] = problem
		}
	}
	return refused, nil
}

func (s *session) prepareOne(ctx context.Context, key statementKey) (*pgconn.PgError, error) {
	s.statements.made++
	name := "rowtide_" + strconv.Itoa(s.statements.made)
	_, err := s.conn.Prepare(ctx, name, key.sql, nil)
	problem, lost := asPgError(err)
	if problem != nil && key.role != "" {
		problem, lost = s.prepareAs(ctx, name, key)
	}
	if lost != nil || problem != nil {
		return problem, lost
	}
	if s.statements.byKey == nil {
		s.statements.byKey = map[statementKey]*statement{}
	}
	s.statements.clock++
	s.statements.byKey[key] = &statement{name: name, used: s.statements.clock}
	return nil, nil
}

// prepareAs prepares under the role. The statement outlives the transaction.
func (s *session) prepareAs(ctx context.Context, name string, key statementKey) (problem *pgconn.PgError, lost error) {
	p := s.conn.StartPipeline(ctx)
	control(p, beginJudging)
	p.SendQueryParams("SELECT pg_catalog.set_config('role', $1, true)", [][]byte{[]byte(key.role)}, nil, nil, nil)
	p.SendPrepare(name, key.sql, nil)
	p.SendPipelineSync()
	control(p, "ROLLBACK")
	if err := p.Sync(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	made, err := receive(p)
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if _, err := receive(p); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return made.err, p.Close()
}

// makeRoom drops the statements that were used longest ago.
func (s *session) makeRoom(ctx context.Context, n int) error {
	for len(s.statements.byKey) > 0 && len(s.statements.byKey)+n > maxStatements {
		var oldest statementKey
		at := s.statements.clock + 1
		for key, st := range s.statements.byKey {
			if st.used < at {
				oldest, at = key, st.used
			}
		}
		if err := s.conn.Deallocate(ctx, s.statements.byKey[oldest].name); err != nil {
			return err
		}
		delete(s.statements.byKey, oldest)
	}
	return nil
}

// asPgError tells an error of a statement from one that ends the connection.
func asPgError(err error) (problem *pgconn.PgError, lost error) {
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.SeverityUnlocalized != "FATAL" && pe.SeverityUnlocalized != "PANIC" {
		return pe, nil
	}
	return nil, err
}
