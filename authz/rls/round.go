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
)

const (
	beginJudging = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
	savepoint    = "SAVEPOINT judged"
	back         = "ROLLBACK TO SAVEPOINT judged"
	rollback     = "ROLLBACK"
	// foreignStatements tells whether somebody made a prepared statement in SQL, which we never
	// do. It uses no operator, so that no search_path can change it.
	foreignStatements = "SELECT FROM pg_catalog.pg_prepared_statements WHERE from_sql LIMIT 1"
	// unlock gives back what else a policy function may take that no rollback gives back.
	unlock = "SELECT pg_catalog.pg_advisory_unlock_all()"
)

// flushAt is how much may wait to be sent.
const flushAt = 256 << 10

// An ask is one statement that is evaluated in a savepoint of its own.
type ask struct {
	// as is under whose role and settings it runs; nil for the login's own.
	as     *actor
	key    statementKey
	param  []byte
	binary bool
	images int // that it evaluates, if several
}

// An actor is a principal and the statements that make and read back its role and settings.
type actor struct {
	principal      *authz.Principal
	assume, verify statementKey
	path           string
	// alike are the principals for whom the answer is too.
	alike []*authz.Principal
}

func newActor(p *authz.Principal, path string) *actor {
	return &actor{principal: p, path: path, assume: statementKey{sql: assumeSQL(p)}, verify: statementKey{sql: verifySQL(p)}}
}

// An answer is the reply to an ask.
type answer struct {
	// value is the first column of the row.
	value string
	// err is the error that the statement raised.
	err *pgconn.PgError
	// role tells that err is of setting up role and settings, before the evaluation.
	role bool
	// tampered tells what was not the principal's any more afterwards.
	tampered tampering
	// took is the time from the reply before this one.
	took time.Duration
}

// tampering is what a policy function changed.
type tampering uint8

const (
	tamperedSettings tampering = iota + 1
	tamperedRole               // or the search_path
)

// A round is what came of one transaction.
type round struct {
	snapshot cdc.Snapshot
	// stale tells that the table is not the one that was described.
	stale bool
	// poisoned tells that prepared statements were meddled with: no answer counts, and the
	// session must not be used again.
	poisoned bool
	answers  []answer
	// patient tells that a statement which ran out of time would do so again: it had as long as any
	// may have, or others were answered quickly meanwhile, so that the server is not to blame.
	patient bool
}

// calm tells that something was answered, and nothing took long for a limit.
func (r *round) calm(limit time.Duration) bool {
	answered := false
	for _, a := range r.answers {
		if a.err == nil {
			if answered = true; a.took > limit/8 {
				return false
			}
		}
	}
	return answered
}

// round asks everything in one read-only transaction and one pipeline. Each ask begins with
// going back to the savepoint, which takes away every setting that the one before left, and
// makes role and settings anew. Nothing is ever committed. Its error is one of the connection.
func (s *session) round(ctx context.Context, limit time.Duration, p *plan, asks []ask) (round, error) {
	keys := statementsOf(p, asks)
	refused, err := s.prepare(ctx, keys)
	if err != nil {
		return round{}, err
	}
	for _, problem := range refused {
		return round{}, problem // ours are right, the plan's have been prepared before
	}
	// The server ends each statement in time; this ends a wait for a server that is gone.
	ctx, cancel := context.WithTimeout(ctx, limit*time.Duration(len(asks)+1)+5*time.Second)
	defer cancel()
	pipe := s.conn.StartPipeline(ctx)
	if err := s.send(pipe, limit, p, asks); err != nil {
		return round{}, errors.Join(err, pipe.Close())
	}
	r, err := s.read(pipe, p, asks)
	if err := errors.Join(err, pipe.Close()); err != nil {
		return round{}, err
	}
	return r, nil
}

// statementsOf are the prepared statements that a round uses.
func statementsOf(p *plan, asks []ask) []statementKey {
	keys := []statementKey{{sql: p.shape}}
	seen := map[statementKey]bool{}
	add := func(k statementKey) {
		if !seen[k] {
			seen[k] = true
			keys = append(keys, k)
		}
	}
	for _, a := range asks {
		add(a.key)
		if a.as != nil {
			add(a.as.assume)
			add(a.as.verify)
		}
	}
	return keys
}

func (s *session) send(pipe *pgconn.Pipeline, limit time.Duration, p *plan, asks []ask) error {
	shape := s.statements.name(statementKey{sql: p.shape})
	control(pipe, beginJudging)
	pipe.SendQueryPrepared(shape, nil, nil, nil)
	control(pipe, "SET LOCAL statement_timeout = "+strconv.FormatInt(max(limit.Milliseconds(), 1), 10))
	control(pipe, savepoint)
	pipe.SendPipelineSync()
	waiting := 0
	for _, a := range asks {
		control(pipe, back)
		if a.as != nil {
			pipe.SendQueryPrepared(s.statements.name(a.as.assume), assumeParams(a.as.principal), nil, nil)
		}
		format := textFormat
		if a.binary {
			format = binaryFormat
		}
		pipe.SendQueryPrepared(s.statements.name(a.key), [][]byte{a.param}, []int16{format}, nil)
		if a.as != nil {
			pipe.SendQueryPrepared(s.statements.name(a.as.verify), nil, nil, nil)
		}
		pipe.SendPipelineSync()
		if waiting += len(a.param) + 1024; waiting >= flushAt {
			waiting = 0
			if err := pipe.Flush(); err != nil {
				return err
			}
		}
	}
	control(pipe, back)
	pipe.SendQueryPrepared(shape, nil, nil, nil)
	control(pipe, foreignStatements)
	control(pipe, unlock)
	control(pipe, rollback)
	return pipe.Sync()
}

// The formats of parameters (protocol, Bind).
const textFormat, binaryFormat = int16(0), int16(1)

func (s *session) read(pipe *pgconn.Pipeline, p *plan, asks []ask) (round, error) {
	var r round
	opened, err := receive(pipe)
	if err != nil {
		return r, err
	}
	if opened.err != nil {
		return r, opened.err
	}
	if r.snapshot, r.stale, err = readShape(opened.rows[1], p.expected); err != nil {
		return r, err
	}
	r.answers = make([]answer, len(asks))
	before := time.Now()
	for i, a := range asks {
		reply, err := receive(pipe)
		if err != nil {
			return r, err
		}
		now := time.Now()
		r.answers[i] = readAnswer(a, reply)
		r.answers[i].took, before = now.Sub(before), now
	}
	closed, err := receive(pipe)
	if err != nil {
		return r, err
	}
	switch {
	case closed.err == nil:
	case closed.err.Code == "26000", closed.err.Code == "08P01":
		// invalid_sql_statement_name, protocol_violation: somebody dropped or replaced ours.
		r.poisoned = true
		return r, nil
	default:
		return r, closed.err
	}
	// A row without columns is not nil, and no row is.
	if r.poisoned = closed.rows[2] != nil; r.poisoned {
		return r, nil
	}
	_, stale, err := readShape(closed.rows[1], p.expected)
	r.stale = r.stale || stale
	return r, err
}

// readShape reads a row of the statement of shapeSQL, and tells whether the table is not what it
// is expected to be.
func readShape(row [][]byte, expected tableShape) (cdc.Snapshot, bool, error) {
	if len(row) != 4 {
		return cdc.Snapshot{}, true, nil // the table is gone
	}
	s, err := cdc.ParseSnapshot(string(row[0]))
	now := tableShape{schema: string(row[1]), name: string(row[2]), columns: string(row[3])}
	return s, now != expected, err
}

func readAnswer(a ask, r reply) answer {
	at := 1 // behind going back to the savepoint
	if a.as != nil {
		at = 2
	}
	if r.err != nil {
		out := answer{err: r.err, role: len(r.rows) < at}
		if len(r.rows) > at { // reading back failed: somebody meddled with more than settings
			out.tampered = tamperedRole
		}
		return out
	}
	var out answer
	if row := r.rows[at]; len(row) == 1 { // else somebody replaced the statement, and nothing counts
		out.value = string(row[0])
	}
	if a.as != nil {
		out.tampered = a.as.compare(r.rows[at+1])
	}
	return out
}

// assumeSQL makes role and settings for the rest of the transaction. Names stand in it,
// values are parameters.
func assumeSQL(p *authz.Principal) string {
	var b strings.Builder
	b.WriteString("SELECT pg_catalog.num_nulls(pg_catalog.set_config('role', $1, true)")
	for i, s := range p.Settings {
		b.WriteString(", pg_catalog.set_config(" + literal(s.Name) + ", $" + strconv.Itoa(i+2) + ", true)")
	}
	b.WriteString(")")
	return b.String()
}

func assumeParams(p *authz.Principal) [][]byte {
	params := make([][]byte, 0, 1+len(p.Settings))
	params = append(params, []byte(p.Role))
	for _, s := range p.Settings {
		params = append(params, []byte(s.Value))
	}
	return params
}

// verifySQL reads back what assumeSQL has set. It has no operator that a search_path could
// change, and no parameter, so that Postgres keeps its plan.
func verifySQL(p *authz.Principal) string {
	var b strings.Builder
	b.WriteString("SELECT current_user, pg_catalog.current_setting('search_path')")
	for _, s := range p.Settings {
		b.WriteString(", pg_catalog.current_setting(" + literal(s.Name) + ", true)")
	}
	return b.String()
}

// compare tells what is not the principal's any more behind an evaluation: a policy function
// changed it, and what was evaluated later was not judged for this principal (S50, S51).
func (a *actor) compare(row [][]byte) tampering {
	p := a.principal
	if len(row) != 2+len(p.Settings) || string(row[0]) != p.Role || string(row[1]) != a.path {
		return tamperedRole
	}
	for i, s := range p.Settings {
		if string(row[i+2]) != s.Value {
			return tamperedSettings
		}
	}
	return 0
}
