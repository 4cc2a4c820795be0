package rowtide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
)

// revocations keeps what is revoked in schema rowtide, and learns what others keep there: a
// process that takes over, or serves the same database beside this one.
type revocations struct {
	pool *pgxpool.Pool
	held *authz.Revocations
	log  *slog.Logger

	// since is a transaction id below which everything was read. Only whoever reads knows it.
	since uint64
	// without tells that the database has no place for revocations.
	without atomic.Bool

	mu      sync.Mutex
	trouble map[string]bool // what was logged and is not over
}

const (
	// revokedEvery is how often others' revocations are looked for: what is revoked anywhere is
	// revoked everywhere within twice that.
	revokedEvery = 400 * time.Millisecond
	// revokedMost bounds a look.
	revokedMost = 5 * time.Second
)

// load reads everything that is revoked. Nobody is let in before: it tries until it can, or ctx ends.
func (r *revocations) load(ctx context.Context) error {
	for {
		if _, err := r.learn(ctx); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(revokedEvery):
		}
	}
}

// followRevoked brings what is revoked elsewhere into force, and keeps what could not be kept at
// its time.
func (p *pipeline) followRevoked(ctx context.Context) error {
	tick := time.NewTicker(revokedEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if news, err := p.revoked.learn(ctx); err == nil && news {
			p.endRevoked()
		}
		p.keepRevoked(ctx)
	}
}

// endRevoked ends the sessions of whoever is revoked, and tells how many.
func (p *pipeline) endRevoked() int {
	return p.dispatcher.EndSessions(fanout.ErrRevoked, func(_ uint64, of *authz.Principal) bool { return p.guard.revoked.Revoked(of) })
}

// keepRevoked keeps what is in this process alone, and tells whether nothing is any more.
func (p *pipeline) keepRevoked(ctx context.Context) bool {
	what := p.guard.revoked.Unkept()
	if len(what) == 0 {
		return true
	}
	err := p.revoked.keep(ctx, what)
	p.revoked.tell(ctx, "revocations are in force, but not kept yet for other processes", err)
	return err == nil
}

func (r *revocations) keep(ctx context.Context, what []authz.Revocation) error {
	if r.without.Load() {
		return errNoPlace
	}
	ctx, cancel := context.WithTimeout(ctx, revokedMost)
	defer cancel()
	batch := &pgx.Batch{}
	for _, one := range what {
		batch.Queue(`SELECT rowtide.revoke($1, $2, $3, $4)`, one.TokenID, one.Subject, one.At, one.Expires)
	}
	if err := r.pool.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("keep revocations: %w", err)
	}
	r.held.Kept(what)
	return nil
}

var errNoPlace = errors.New("schema rowtide has no place for revocations, or this login may not use it: run rowtide setup again")

// learn reads what is new, and tells whether anything is. A database that setup has not been run
// in again since an older version has no place for revocations: they last as long as the process.
func (r *revocations) learn(ctx context.Context) (bool, error) {
	if r.without.Load() {
		return false, nil
	}
	news, err := r.read(ctx)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == pgerrcode.UndefinedTable || pg.Code == pgerrcode.InsufficientPrivilege) {
		r.without.Store(true)
		r.log.Warn("revocations last as long as this process, and no longer", "why", errNoPlace)
		return false, nil
	}
	r.tell(ctx, "what is revoked elsewhere is not known", err)
	return news, err
}

func (r *revocations) read(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, revokedMost)
	defer cancel()
	// Transactions end in another order than they begin: below the oldest that runs, all is told.
	rows, err := r.pool.Query(ctx, `
SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::bigint, coalesce(jti, ''), coalesce(subject, ''), at, expires_at
FROM (SELECT) AS one LEFT JOIN rowtide.revocations ON xid OPERATOR(pg_catalog.>=) $1::text::pg_catalog.xid8`, fmt.Sprint(r.since))
	if err != nil {
		return false, fmt.Errorf("read revocations: %w", err)
	}
	var oldest int64
	var at *time.Time
	var one authz.Revocation
	var kept []authz.Revocation
	_, err = pgx.ForEachRow(rows, []any{&oldest, &one.TokenID, &one.Subject, &at, &one.Expires}, func() error {
		if at != nil {
			one.At = *at
			kept = append(kept, one)
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("read revocations: %w", err)
	}
	r.since = uint64(oldest) //nolint:gosec // an id of 64 bits that began at 3
	return r.held.Learn(kept), nil
}

// tell logs trouble when it begins, and when it is over.
func (r *revocations) tell(ctx context.Context, what string, err error) {
	if ctx.Err() != nil {
		return
	}
	r.mu.Lock()
	was := r.trouble[what]
	if r.trouble == nil {
		r.trouble = map[string]bool{}
	}
	r.trouble[what] = err != nil
	r.mu.Unlock()
	if err != nil && !was {
		r.log.Warn("revocations are in trouble", "what", what, "error", err)
	}
}
