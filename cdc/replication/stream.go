package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/rowtide/rowtide/cdc"
)

// A stream is one connection in copy-both mode. Its goroutines: one reads the socket into the
// queue, one empties the queue into the handler, one writes statuses, one watches for a shutdown.
// So a status goes out in time whatever the handler does, and the memory between is bounded.
//
// They touch different things. The reader alone uses the frontend, whose buffers are not safe for
// concurrent use; the writer writes whole messages to the net.Conn, which is.
type stream struct {
	c        *Consumer
	conn     net.Conn
	frontend *pgproto3.Frontend
	gulp     *gulp // below the frontend
	queue    *queue
	progress *Progress
	// until ends the stream with errReached once the handler has had everything that commits
	// before it; 0 for never.
	until cdc.LSN
	// behind is the end of the server's WAL when the consumer began: once the handler has had it the consumer counts as started. 0 afterwards. Of handle alone.
	behind cdc.LSN

	interval, silence time.Duration
	answer            chan struct{} // holds a token when the server wants a status

	// Of the reader alone: signs of a shutdown; the commit LSN of the transaction that is coming
	// in, 0 between transactions.
	shutdown shutdownSigns
	open     cdc.LSN
	// fresh tells that the message was not read together with the one before: the clock is asked
	// for those alone.
	fresh bool

	// When something last came, in Unix nanoseconds: anything, a keepalive, data.
	heard, heardKeepalive, heardData atomic.Int64
	// full tells that the reader waits for a place in the queue.
	full atomic.Bool

	confirmed atomic.Uint64
	serverEnd atomic.Uint64
}

// statusGap is the least time between two statuses: many transactions share one, and a storm of
// keepalives that want an answer costs little. Who waits for the answer (synchronous replication,
// a shutdown) waits no longer than this.
const statusGap = 5 * time.Millisecond

// A server without wal_sender_timeout is told as often as one with the default of a minute is.
const longestInterval = 10 * time.Second

// askEvery is how often a server that says nothing is asked where it is, for OnReached.
const askEvery = 900 * time.Millisecond

// askAtStart is how often it is asked until the consumer counts as started: clients wait for that.
const askAtStart = 20 * time.Millisecond

func newStream(c *Consumer, hc *pgconn.HijackedConn, srv *server) *stream {
	s := &stream{
		c:        c,
		conn:     hc.Conn,
		frontend: hc.Frontend,
		gulp:     srv.gulp,
		queue:    newQueue(c.cfg.QueueBytes),
		progress: c.cfg.Progress,
		interval: longestInterval,
		answer:   make(chan struct{}, 1),
	}
	if t := srv.senderTimeout; t > 0 {
		s.interval = min(s.interval, t/3)
	}
	s.silence = c.cfg.Silence
	defaultTo(&s.silence, max(5*s.interval, longestInterval))
	s.shutdown = newShutdownSigns(srv.senderTimeout)
	hear(&s.heard)
	hear(&s.heardKeepalive)
	return s
}

func hear(at *atomic.Int64) { at.Store(time.Now().UnixNano()) }

// since is how long ago something was heard.
func since(at *atomic.Int64) time.Duration { return time.Duration(time.Now().UnixNano() - at.Load()) }

func (s *stream) report(st *State) {
	st.Heard = time.Unix(0, s.heard.Load())
	st.Confirmed, st.ServerEnd = cdc.LSN(s.confirmed.Load()), cdc.LSN(s.serverEnd.Load())
	st.Queued, st.QueuedMessages = s.queue.depth()
}

// errServerEnded is the orderly end of a stream, at a shutdown for instance.
var errServerEnded = errors.New("the server ended the stream")

// patienceAtEnd is how long the end of a stream waits for others: for the handler to return, for
// the server to say goodbye.
const patienceAtEnd = time.Second

// run streams until ctx ends or something fails, and gives what failed first. It closes the
// connection, and returns when its goroutines have ended.
func (s *stream) run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var all sync.WaitGroup
	defer all.Wait()
	defer s.conn.Close() // before the wait: it ends the reader
	read, handled, others := make(chan error, 1), make(chan error, 1), make(chan error, 2)
	all.Go(func() { read <- s.read(ctx) })
	all.Go(func() { handled <- s.handle(ctx) })
	all.Go(func() { others <- s.write(ctx) })
	all.Go(func() { others <- s.watch(ctx) })

	var err error
	orderly := true // the server is there to be said goodbye to
	select {
	case <-ctx.Done():
	case err = <-read:
		orderly = false
	case err = <-others:
		orderly = false
		if !errors.Is(err, errShutdown) {
			err = firstOf(read, err) // which knows better why
		}
	case err = <-handled:
		handled <- err
	}
	stop()
	wait(handled)
	_ = s.sendStatus(false) // what is not acknowledged now comes again
	if orderly {
		s.goodbye(read)
	}
	return err
}

// firstOf gives what the channel has within the patience, else err.
func firstOf(c <-chan error, err error) error {
	t := time.NewTimer(patienceAtEnd)
	defer t.Stop()
	select {
	case better := <-c:
		return better
	case <-t.C:
		return err
	}
}

// wait waits for a goroutine's end, but not for ever: a handler that does not mind its context
// must not keep the server from shutting down.
func wait(c <-chan error) {
	_ = firstOf(c, nil)
}

// goodbye ends copy-both mode, so that the slot is free when Run returns. The server answers
// when it is done with the transaction that it is sending, which the reader throws away.
func (s *stream) goodbye(read <-chan error) {
	if s.send(&pgproto3.CopyDone{}) == nil {
		wait(read)
		_ = s.send(&pgproto3.Terminate{}) // politeness: it is closed in any case
	}
}

func (s *stream) send(m pgproto3.FrontendMessage) error {
	b, err := m.Encode(nil)
	if err != nil {
		return err
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(s.silence)); err != nil {
		return err
	}
	_, err = s.conn.Write(b)
	return err
}

// sendStatus acknowledges what is held.
func (s *stream) sendStatus(wantReply bool) error {
	b, position := s.progress.status(time.Now(), wantReply)
	if b == nil {
		return nil
	}
	if err := s.send(&pgproto3.CopyData{Data: b}); err != nil {
		return fmt.Errorf("send status: %w", err)
	}
	s.confirmed.Store(uint64(position))
	return nil
}

// write sends a status at each interval, when the server asks, and when there is more to
// acknowledge. Where the server has been silent it asks for a sign of life: the server sends
// none by itself while our statuses come.
func (s *stream) write(ctx context.Context) error {
	interval := s.interval
	if s.c.cfg.OnReached != nil {
		interval = min(interval, askEvery)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	soon := time.NewTicker(askAtStart)
	defer soon.Stop()
	for {
		wantReply := false
		select {
		case <-ctx.Done():
			return nil
		case <-soon.C:
			select {
			case <-s.c.started:
				soon.Stop()
				continue
			default:
				wantReply = true
			}
		case <-tick.C:
			wantReply = since(&s.heard) >= interval
		case <-s.answer:
		case <-s.progress.moved:
		}
		if err := s.sendStatus(wantReply); err != nil {
			return err
		}
		if !sleep(ctx, statusGap) {
			return nil
		}
	}
}

// A handlerError is one of the handler.
type handlerError struct{ err error }

// Error says whose it is.
func (e *handlerError) Error() string { return "handle message: " + e.err.Error() }

// Unwrap gives what the handler said.
func (e *handlerError) Unwrap() error { return e.err }

// handle gives the handler what is queued, and Progress what the handler has had.
func (s *stream) handle(ctx context.Context) error {
	handle := func(data []byte) error { return s.c.cfg.Handler.Handle(ctx, data) }
	told := func(end cdc.LSN) error {
		if s.c.cfg.OnReached == nil || s.until != 0 {
			return nil
		}
		return s.c.cfg.OnReached(ctx, end)
	}
	var batch *slab
	for ctx.Err() == nil {
		if batch = s.queue.take(batch); batch == nil {
			select {
			case <-ctx.Done():
			case <-s.queue.filled:
			}
			continue
		}
		from := 0
		for _, it := range batch.items {
			if ctx.Err() != nil {
				return nil
			}
			data := batch.data[from:it.end:it.end]
			if err := deliver(it, data, s.progress, handle, told); err != nil {
				return &handlerError{err}
			}
			if s.until != 0 && reached(it, data, s.until) {
				return errReached
			}
			if s.behind != 0 && reached(it, data, s.behind) {
				s.behind = 0
				s.c.beStarted()
			}
			from = it.end
		}
	}
	return nil
}

// reached tells whether nothing that commits before a position can follow. A keepalive in the
// middle of a transaction says no more than where that was reached in the WAL, so one that commits
// behind the position may be cut off by it, and comes again.
func reached(it item, data []byte, position cdc.LSN) bool {
	end, ok := endsAt(data)
	return it.serverEnd >= position || ok && end >= position
}

// deliver passes on one item of the queue: a keepalive to p, once the handler has had all that
// came before it, and to told where nothing else is to be held; a message to the handler, once
// p knows of the transaction that it may open.
func deliver(it item, data []byte, p *Progress, handle func([]byte) error, told func(cdc.LSN) error) error {
	if it.serverEnd != 0 {
		if p.keepalive(it.serverEnd) {
			return told(it.serverEnd)
		}
		return nil
	}
	if commit, ok := beginsAt(data); ok {
		p.begin(commit)
	}
	return handle(data)
}
