package rowtide

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5/pgconn"
)

// A server that is there and not yet open to anybody, as behind a crash or when both are started
// together, is waited for. One that is not there at all is not: who mistyped its address wants to hear
// of it at once.
const (
	startingMost  = 2 * time.Minute
	startingEvery = 250 * time.Millisecond
)

// opened is open, but it waits for a server that starts up.
func (s *Server) opened(ctx context.Context) (*pipeline, error) {
	tick, late := time.NewTicker(startingEvery), time.Now().Add(startingMost)
	defer tick.Stop()
	for told := false; ; told = true {
		p, err := s.open(ctx)
		if err == nil || !startsUp(err) || time.Now().After(late) {
			return p, err
		}
		if !told {
			s.log.Warn("waiting for PostgreSQL, which is starting up or shutting down", "error", err, "at_most", startingMost)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// startsUp tells that the server is there, and takes no sessions for a while or has just ended them.
func startsUp(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	switch pe.Code {
	case pgerrcode.CannotConnectNow, pgerrcode.AdminShutdown, pgerrcode.CrashShutdown:
		return true
	}
	return false
}
