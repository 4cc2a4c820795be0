package replication

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// errShutdown ends a stream whose server shuts down. PostgreSQL waits without limit for a
// walsender whose client has not acknowledged everything (WalSndDone in
// src/backend/replication/walsender.c), and a handler that blocks would make it wait for us.
var errShutdown = errors.New("the server is shutting down")

// shutdownSigns recognises a shutdown by what WalSndDone does: it answers each of our statuses
// with a keepalive that wants another, as fast as they come. Else a server asks for a reply only
// when half of wal_sender_timeout has passed without a status, and those come at each third.
type shutdownSigns struct {
	within time.Duration // two keepalives further apart are not of one burst
	last   time.Time
	count  int
}

// burst is how many keepalives in a row that want a reply, with no data between, are a shutdown.
// At one status a statusGap they take about a tenth of a second, time enough for a handler that
// is only a little behind to let the server end by itself.
const burst = 20

func newShutdownSigns(senderTimeout time.Duration) shutdownSigns {
	within := 200 * time.Millisecond
	if senderTimeout > 0 {
		within = min(within, senderTimeout/4)
	}
	return shutdownSigns{within: within}
}

// keepalive notes a keepalive that wants a reply, and tells whether the server is shutting down.
func (s *shutdownSigns) keepalive(now time.Time) bool {
	if now.Sub(s.last) > s.within {
		s.count = 0
	}
	s.last = now
	s.count++
	return s.count >= burst
}

// data notes that there still is something to send.
func (s *shutdownSigns) data() { s.count = 0 }

// probeEvery is how often a server is asked whether it shuts down, while what it does would not
// show it. Each time costs it a connection.
const probeEvery = 3 * time.Second

// watch asks a server that is ahead of us whether it shuts down. It would first send all that it
// has, and so show no sign while the handler is blocked with the queue full, or works its way
// through hours of WAL. A server that has nothing more to send says so by a keepalive.
func (s *stream) watch(ctx context.Context) error {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		ahead := since(&s.heardData) < probeEvery && since(&s.heardKeepalive) > probeEvery
		if (ahead || s.full.Load()) && isShuttingDown(ctx, s.c.conn) {
			return errShutdown
		}
	}
}

// isShuttingDown asks by connecting: a server that streams to us and does not accept connections
// is on its way down.
func isShuttingDown(ctx context.Context, replication *pgconn.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, probeEvery)
	defer cancel()
	cfg := replication.Copy()
	delete(cfg.RuntimeParams, "replication") // an ordinary session, which takes no walsender's place
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return sqlState(err) == cannotConnectNow
	}
	closeConn(ctx, conn)
	return false
}
