package rls

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxSessionAge bounds how long Postgres can go by what a session has cached and is not told
// about: the plans of SQL inside functions, and the policies that a role got when a statement
// was planned, which a GRANT of a role does not invalidate.
const maxSessionAge = time.Minute

var errPoolClosed = errors.New("row security is closed")

// A session is a connection and the statements prepared in it. One goroutine uses it at a time.
type session struct {
	conn       *pgconn.PgConn
	born       time.Time
	statements statements
}

// A pool holds a fixed number of places for sessions.
type pool struct {
	config *pgconn.Config
	// places has one entry for each session that is not in use; nil where it is not connected.
	places chan *session
	closed chan struct{}
	once   sync.Once
}

func newPool(config *pgconn.Config, size int) *pool {
	p := &pool{config: config, places: make(chan *session, size), closed: make(chan struct{})}
	for range size {
		p.places <- nil
	}
	return p
}

// acquire waits for a place and gives its session; a new one where fresh is set.
func (p *pool) acquire(ctx context.Context, fresh bool) (*session, error) {
	var s *session
	select {
	case <-p.closed:
		return nil, errPoolClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	case s = <-p.places:
	}
	if s != nil && (fresh || s.conn.IsClosed() || time.Since(s.born) > maxSessionAge) {
		s.close(ctx)
		s = nil
	}
	if s != nil {
		return s, nil
	}
	conn, err := pgconn.ConnectConfig(ctx, p.config)
	if err != nil {
		p.places <- nil
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &session{conn: conn, born: time.Now()}, nil
}

// release gives the place back. A session that is not idle outside any transaction is not fit
// for anybody else.
func (p *pool) release(ctx context.Context, s *session) {
	if s.conn.IsClosed() || s.conn.TxStatus() != 'I' {
		s.close(ctx)
		s = nil
	}
	p.places <- s
}

// close waits for every session to come back.
func (p *pool) close() {
	p.once.Do(func() {
		close(p.closed)
		for range cap(p.places) {
			if s := <-p.places; s != nil {
				s.close(context.Background())
			}
		}
	})
}

// close ends the session, whatever state it is in.
func (s *session) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // it may be broken already: there is nothing to save
}
