// Package replication owns the replication connection: the slot, the stream, the keepalives and
// the acknowledgements.
//
// A Consumer guarantees that the slot moves only past what Progress was told is held, or past
// what does not concern the publication; that the connection stays alive however long the
// handler blocks; that a server which shuts down is not kept waiting; and that it comes back
// after every error that is not on one explicit list (Reason.Terminal). What the slot cannot
// give any more is an error (SlotLost, Gap, NoPublication), never skipped.
//
// It does not guarantee that a transaction is handed on once: after a reconnection what was not
// held comes again, from its Begin. It does not decode, and keeps nothing on disk.
package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/cdc"
)

// A Handler takes the stream, one call at a time.
type Handler interface {
	// Handle takes one message of the output plugin, in the order of the stream. data is
	// valid only until it returns. It may block as long as it likes, that is what
	// backpressure is; but it must return when ctx ends. An error ends the connection, and Run
	// too where the error has a method Terminal() that says true.
	//
	// Once the bus holds a transaction whole, the handler tells Progress.Held.
	Handle(ctx context.Context, data []byte) error
	// Reset is called at each connection before its first message. The stream begins anew
	// with what commits behind start, relations and all; a transaction that was begun and not
	// held will be sent again.
	Reset(start cdc.LSN)
	// Lost is called between two streams where what committed before at, and was not handed
	// on, cannot be had: a part of the window that is read again after a restart.
	Lost(ctx context.Context, at cdc.LSN) error
}

// Config says what to stream, and to whom.
type Config struct {
	// URL is the connection string of a login with REPLICATION. Required.
	URL string
	// Slot is the name of the slot, of a-z, 0-9 and _. It is made where it does not exist.
	// Required.
	Slot string
	// Publications are the names of the publications, which must exist before the slot. A
	// table that is in several comes once. Required.
	Publications []string
	// Handler takes the stream. Required.
	Handler Handler
	// Progress is what the handler reports to. Required.
	Progress *Progress
	// MustResumeFrom is the position up to which the caller knows that it has everything. The
	// stream begins there; a slot that is gone, or that has moved past it, is an error (SlotLost,
	// Gap). A caller that uses it must keep what State says is Confirmed, which moves also while
	// nothing is streamed. Defaults to 0: begin wherever the slot stands.
	MustResumeFrom cdc.LSN
	// QueueBytes bounds what is received ahead of the handler. Up to twice as much is held in
	// memory, and one message where that is larger. Defaults to 4 MiB.
	QueueBytes int
	// StartTimeout is how long Run tries to reach the server for the first time before it
	// gives up; a server that says that it is starting up is waited for eight times as long. Once
	// it has streamed it never gives up. Defaults to 15 s.
	StartTimeout time.Duration
	// SlotTimeout is how long Run waits for a slot that another session streams from; a session
	// whose client is gone lasts for wal_sender_timeout. Below 0 it waits for ever, as a node
	// that stands by does. Defaults to 90 s.
	SlotTimeout time.Duration
	// CreateTimeout is how long making the slot may take; PostgreSQL waits for all older
	// transactions. Defaults to no limit.
	CreateTimeout time.Duration
	// Silence is how long the server may say nothing, although asked, until the connection
	// counts as dead. Defaults to five intervals between statuses and at least 10 s; an
	// interval is a third of wal_sender_timeout and at most 10 s.
	Silence time.Duration
	// Retain is how far back window slots reach: copies of the slot, from the oldest of which
	// the first connection reads again what was handed on before, so that a handler whose
	// memory went with its process has it again. Defaults to 0: none, and those there are go.
	Retain time.Duration
	// RetainWAL bounds the WAL, in bytes, that window slots hold back beyond the slot itself;
	// where it is not enough for Retain the window is shorter. Defaults to 256 MiB.
	RetainWAL int64
	// OnServer is told at each connection which server it is, before the stream goes on from it.
	// An error ends the attempt. Defaults to none.
	OnServer func(context.Context, Server) error
	// OnLoss is told where the stream cannot go on from where it was left: the slot is gone,
	// invalidated or moved by somebody else, the publication was missing for a while, or the
	// server is another or older. By then there is a slot from which it will; an error ends the
	// attempt. Where it is set, Run also waits for somebody to move the slot past a transaction
	// that cannot be decoded, and to make a publication again that was dropped. Defaults to none:
	// such a loss ends Run.
	OnLoss func(context.Context, Loss) error
	// OnReached is told from time to time, at least each second, that everything that commits
	// before a position was handed on and is held; calls of it and of the handler do not
	// overlap. An error ends the connection. Defaults to none.
	OnReached func(ctx context.Context, end cdc.LSN) error
	// Logger defaults to none.
	Logger *slog.Logger
}

// State is how a Consumer is doing.
type State struct {
	// Connected tells that the stream is running.
	Connected bool
	// Confirmed is what was acknowledged last, ServerEnd the end of the server's WAL as it said
	// last.
	Confirmed, ServerEnd cdc.LSN
	// Heard is when the server last said anything.
	Heard time.Time
	// Queued is what has been received ahead of the handler, in bytes; QueuedMessages in messages.
	Queued, QueuedMessages int
	// Connections counts the streams begun.
	Connections int
	// Created tells that the slot was made by this Consumer: what committed before is not in it.
	Created bool
	// Window is what could be read again after a restart.
	Window WindowState
	// Err is why there is no stream, or why the stream cannot get past a transaction; nil while
	// all is well.
	Err error
}

// WindowState is what the window slots hold.
type WindowState struct {
	// Slots counts them. Where it is 0 so is the rest.
	Slots int
	// From is the position behind which everything can be read again.
	From cdc.LSN
	// Age is how long ago the oldest was made, by the server's clock.
	Age time.Duration
	// Bytes is the WAL that is held for them beyond what the slot itself needs or has passed.
	Bytes uint64
}

// A Consumer streams one slot to one Handler.
type Consumer struct {
	cfg       Config
	conn      *pgconn.Config
	log       *slog.Logger
	tellEvery time.Duration // between log lines while the slot is being made

	running atomic.Bool
	// started is closed, once, when the handler has what there was before this process.
	started chan struct{}
	once    sync.Once
	// Of the first connection; what comes later must be the same server. Only Run uses them.
	systemID uint64
	timeline uint32
	streamed bool
	// undecodable tells that the last stream ended so; unpublished that one has, and that what
	// was not published has not been told to OnLoss yet.
	undecodable, unpublished bool
	// before is where the WAL ended when nobody streamed from the slot yet.
	before cdc.LSN

	mu     sync.Mutex
	state  State
	stuck  stuck
	stream *stream // the running one, nil without
}

// New checks the configuration. It does not connect.
func New(cfg Config) (*Consumer, error) {
	switch {
	case !regexp.MustCompile(`^[a-z0-9_]{1,63}$`).MatchString(cfg.Slot):
		return nil, fmt.Errorf("slot name %q: use up to 63 of the characters a-z, 0-9 and _", cfg.Slot)
	case len(cfg.Publications) == 0:
		return nil, errors.New("no publication is named: what should be streamed?")
	case slices.ContainsFunc(cfg.Publications, func(p string) bool { return p == "" || len(p) > 63 }):
		return nil, fmt.Errorf("publication names %q: use 1 to 63 bytes", cfg.Publications)
	case cfg.Handler == nil:
		return nil, errors.New("no handler")
	case cfg.Progress == nil:
		return nil, errors.New("no progress")
	case cfg.QueueBytes < 0 || cfg.StartTimeout < 0 || cfg.CreateTimeout < 0 || cfg.Silence < 0 || cfg.Retain < 0 || cfg.RetainWAL < 0:
		return nil, errors.New("a negative limit")
	case cfg.Retain > 0 && len(cfg.Slot) > maxSlotName:
		return nil, fmt.Errorf("slot name %q: use up to %d characters, window slots have longer names", cfg.Slot, maxSlotName)
	}
	conn, err := replicationConfig(cfg.URL)
	if err != nil {
		return nil, err
	}
	defaultTo(&cfg.QueueBytes, 4<<20)
	defaultTo(&cfg.StartTimeout, 15*time.Second)
	defaultTo(&cfg.SlotTimeout, 90*time.Second)
	defaultTo(&cfg.RetainWAL, 256<<20)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Consumer{cfg: cfg, conn: conn, log: cfg.Logger, tellEvery: 10 * time.Second, started: make(chan struct{})}, nil
}

func defaultTo[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// State tells how it is doing now.
func (c *Consumer) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.state
	if c.stream != nil {
		c.stream.report(&s)
	}
	if s.Err == nil && c.stuck.err != nil && c.cfg.Progress.Position() == c.stuck.at {
		s.Err = c.stuck.err
	}
	return s
}

// stuck is why a transaction could not be handed on, and the position that stays until it is.
// Meanwhile there may well be a connection, on which it comes again.
type stuck struct {
	err error
	at  cdc.LSN
}

// Started gives a channel that is closed when the slot is there, the window has been read again
// and the slot's own stream has come to where the server's WAL ended when it began: whatever was
// handed on by another process before has been handed on by this one too, and what commits from
// then on will be.
func (c *Consumer) Started() <-chan struct{} { return c.started }

func (c *Consumer) beStarted() { c.once.Do(func() { close(c.started) }) }

// Run streams until ctx ends, and then gives nil; or until an error that it cannot get over,
// and gives that. When it returns, nothing of it is left: no goroutine, no connection. It may
// be called once.
func (c *Consumer) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("run consumer: it has run before")
	}
	ctx, stop := context.WithCancel(ctx)
	var window sync.WaitGroup
	defer window.Wait()
	defer stop()
	window.Go(func() { c.keepWindow(ctx) })
	p := &patience{start: c.cfg.StartTimeout, slot: c.cfg.SlotTimeout}
	wait := newBackoff()
	for {
		began := c.connections()
		err := c.session(ctx)
		if ctx.Err() != nil {
			return nil // it was told to stop, and how the last stream ended is of no concern
		}
		if c.connections() > began {
			p.streamed()
			wait = newBackoff()
		}
		c.setErr(err)
		if (Terminal(err) && !c.waitsForSomebody(err)) || p.isOver(err, time.Now()) {
			return err
		}
		delay := wait.next()
		c.log.Warn("replication stream ended", "error", err, "retry_in", delay)
		if !sleep(ctx, delay) {
			return nil
		}
	}
}

// waitsForSomebody tells that the stream will go on, behind a loss, when somebody has done something:
// moved the slot past a transaction, or made the publication again. At the very first start a
// publication that is not there is a mistake, and who made it wants to hear of it.
func (c *Consumer) waitsForSomebody(err error) bool {
	c.undecodable = reasonOf(err) == Undecodable
	noPublication := reasonOf(err) == NoPublication && c.streamed
	c.unpublished = c.unpublished || noPublication
	return c.cfg.OnLoss != nil && (c.undecodable || noPublication)
}

// session is one connection, from its first byte to its last.
func (c *Consumer) session(ctx context.Context) error {
	conn, srv, err := c.connect(ctx)
	if err != nil {
		return err
	}
	hijacked := false
	defer func() {
		if !hijacked {
			closeConn(ctx, conn)
		}
	}()
	slot, err := c.resume(ctx, conn, srv)
	if err != nil {
		return err
	}
	if err := c.openWindow(ctx, conn, slot); err != nil {
		return err
	}
	from := max(slot.confirmed, c.expected())
	if err := c.start(ctx, conn, c.cfg.Slot, from); err != nil {
		if slot.created {
			c.dropSlot(ctx, conn)
		}
		return c.streamError(fmt.Errorf("start replication from slot %q: %w", c.cfg.Slot, err), 0)
	}
	hc, err := conn.Hijack()
	if err != nil {
		return fmt.Errorf("take over the connection: %w", err)
	}
	hijacked = true
	c.cfg.Progress.start(from)
	return c.follow(ctx, newStream(c, hc, srv), from, slot.created)
}

// follow runs a stream and keeps the state meanwhile.
func (c *Consumer) follow(ctx context.Context, s *stream, from cdc.LSN, created bool) error {
	c.mu.Lock()
	c.stream = s
	c.state.Connected, c.state.Err = true, nil
	c.state.Connections++
	c.state.Created = c.state.Created || created
	c.mu.Unlock()
	c.log.Info("replication stream started", "slot", c.cfg.Slot, "from", from)
	c.cfg.Handler.Reset(from)
	c.streamed = true
	select {
	case <-c.started:
	default:
		s.behind = c.before
	}
	err := s.run(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	s.report(&c.state)
	c.stream = nil
	c.state.Connected, c.state.Queued, c.state.QueuedMessages = false, 0, 0
	return err
}

// expected is the position from which the slot must still be able to go on, 0 where any will do.
func (c *Consumer) expected() cdc.LSN {
	if c.streamed {
		return max(c.cfg.MustResumeFrom, c.cfg.Progress.Position())
	}
	return c.cfg.MustResumeFrom
}

func (c *Consumer) connections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state.Connections
}

func (c *Consumer) setErr(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.Err = err
	var h *handlerError
	if errors.As(err, &h) || reasonOf(err) == Undecodable {
		c.stuck = stuck{err, c.cfg.Progress.Position()}
	}
}
