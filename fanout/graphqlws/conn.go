package graphqlws

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// A conn is one socket: a goroutine that reads, one for each operation that writes, one that
// asks a silent peer whether it is there.
type conn struct {
	h      *Handler
	ws     *websocket.Conn
	header string // the token of the Authorization header
	over   chan struct{}

	// session is set by the reader when it acknowledges the connection, and is its alone.
	session *fanout.Session

	ending sync.Once
	ended  fanout.Fault

	// mu is held while a message is written, so that an operation that was ended writes
	// nothing more under an id that may already belong to another.
	mu  sync.Mutex
	ops map[string]*operation
}

// An operation is one subscription under its id.
type operation struct {
	id   string // quoted
	sub  *fanout.Subscription
	over bool // under conn.mu: nothing may be written any more
}

// closeTimeout is how long a peer has to answer a close, or to take it at all.
const closeTimeout = time.Second

// run serves the socket until it ends.
func (c *conn) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel() // the reader's Read ends with ctx
		select {
		case <-c.over:
			late := time.AfterFunc(closeTimeout, func() { _ = c.ws.CloseNow() })
			_ = c.ws.Close(websocket.StatusCode(c.ended.Close), c.ended.Message)
			late.Stop()
		case <-ctx.Done():
		}
	})
	wg.Go(func() { c.askPeer(ctx) })
	init := time.AfterFunc(c.h.cfg.InitTimeout, func() { c.end(*fault(closeInitTimeout, "Connection initialisation timeout")) })
	c.read(ctx, &wg, init)
	init.Stop()
	if c.session != nil {
		c.session.Close()
	}
	select {
	case <-c.over: // the closing handshake goes on
	default:
		cancel()
	}
	wg.Wait()
	cancel()
}

// end closes the socket; the first call counts.
func (c *conn) end(f fanout.Fault) {
	c.ending.Do(func() {
		c.ended = *fault(f.Close, f.Message)
		close(c.over)
	})
}

// read takes messages until the socket is over.
func (c *conn) read(ctx context.Context, wg *sync.WaitGroup, init *time.Timer) {
	for {
		typ, data, err := c.ws.Read(ctx)
		if err != nil {
			return
		}
		select {
		case <-c.over:
			return // what comes after a mistake is not looked at
		default:
		}
		if typ != websocket.MessageText {
			c.end(*fault(closeNotText, "messages are text"))
			return
		}
		m, f := parse(data)
		if f == nil {
			f = c.handle(ctx, wg, init, &m)
		}
		if f != nil {
			c.end(*f)
			return
		}
	}
}

// handle does what a message asks for. A fault ends the socket.
func (c *conn) handle(ctx context.Context, wg *sync.WaitGroup, init *time.Timer, m *message) *fanout.Fault {
	switch m.kind {
	case typeInit:
		return c.initialise(ctx, init, m.payload)
	case typePing:
		return c.ping(ctx, m.payload)
	case typePong:
		return nil
	}
	if c.session == nil {
		return fault(closeUnauthorized, "Unauthorized")
	}
	if m.kind == typeComplete {
		c.complete(m.id)
		return nil
	}
	return c.subscribe(ctx, wg, m)
}

func (c *conn) initialise(ctx context.Context, init *time.Timer, payload json.RawMessage) *fanout.Fault {
	if c.session != nil {
		return fault(closeTooManyInits, "Too many initialisation requests")
	}
	principal, err := c.principal(payload)
	if err != nil {
		f := fanout.Explain(err)
		return &f
	}
	if !init.Stop() {
		return nil // too late by a hair: it is being closed
	}
	c.session = c.h.cfg.Dispatcher.Open(principal)
	return c.say(ctx, []byte(`{"type":"connection_ack"}`))
}

func (c *conn) principal(payload json.RawMessage) (*authz.Principal, error) {
	token, ok := tokenOf(payload)
	switch {
	case ok:
		return c.h.cfg.Auth.Verify(token)
	case c.header != "":
		return c.h.cfg.Auth.Verify(c.header)
	}
	return c.h.cfg.Auth.Anonymous()
}

// ping answers with what came, but for a token, which goes on with the session under it.
func (c *conn) ping(ctx context.Context, payload json.RawMessage) *fanout.Fault {
	token, refresh := tokenOf(payload)
	if !refresh || c.session == nil {
		pong := []byte(`{"type":"pong"}`)
		if payload != nil && !refresh {
			pong = fmt.Appendf(nil, `{"type":"pong","payload":%s}`, payload)
		}
		return c.say(ctx, pong)
	}
	principal, err := c.h.cfg.Auth.Verify(token)
	if err == nil {
		err = c.session.Refresh(principal)
	}
	if err != nil {
		f := fanout.Explain(err)
		return &f
	}
	return c.say(ctx, []byte(`{"type":"pong"}`))
}

func (c *conn) subscribe(ctx context.Context, wg *sync.WaitGroup, m *message) *fanout.Fault {
	c.mu.Lock()
	_, taken := c.ops[m.id]
	n := len(c.ops)
	c.mu.Unlock()
	if taken {
		return fault(closeDuplicate, "Subscriber for "+m.id+" already exists")
	}
	id := quote(m.id)
	if n >= c.h.cfg.Subscriptions {
		return c.refuse(ctx, id, &schema.Error{
			Code:    schema.LimitExceeded,
			Message: fmt.Sprintf("a connection may have %d subscriptions at once: complete one first", c.h.cfg.Subscriptions),
		})
	}
	resp, err := c.session.Subscribe(ctx, m.request)
	if err != nil {
		return c.refuse(ctx, id, err)
	}
	if resp.Subscription == nil {
		if f := c.say(ctx, appendNext(nil, id, resp.Result)); f != nil {
			return f
		}
		return c.say(ctx, fmt.Appendf(nil, `{"id":%s,"type":"complete"}`, id))
	}
	op := &operation{id: id, sub: resp.Subscription}
	c.mu.Lock()
	c.ops[m.id] = op
	c.mu.Unlock()
	wg.Go(func() { c.pump(ctx, m.id, op) })
	return nil
}

// refuse answers one operation with its error and leaves the socket as it is.
func (c *conn) refuse(ctx context.Context, id string, err error) *fanout.Fault {
	if f, all := whole(err); all {
		return &f
	}
	return c.say(ctx, errorMessage(id, err))
}

func errorMessage(id string, err error) []byte {
	msg := fmt.Appendf(nil, `{"id":%s,"type":"error","payload":`, id)
	return append(fanout.AppendErrors(msg, err), '}')
}

// whole tells of errors that are about the connection rather than about one operation.
func whole(err error) (fanout.Fault, bool) {
	var list schema.ErrorList
	var e *schema.Error
	if errors.As(err, &list) || errors.As(err, &e) {
		return fanout.Fault{}, false
	}
	return fanout.Explain(err), true
}

// complete ends an operation because its client does not want it any more. Its id is free.
func (c *conn) complete(id string) {
	c.mu.Lock()
	op := c.ops[id]
	delete(c.ops, id)
	if op != nil {
		op.over = true
	}
	c.mu.Unlock()
	if op != nil {
		op.sub.Close()
	}
}

// pump writes an operation's results until it ends.
func (c *conn) pump(ctx context.Context, id string, op *operation) {
	defer op.sub.Close()
	var buf []byte
	for {
		payloads, err := op.sub.Next(ctx)
		if err != nil {
			c.finish(ctx, id, op, err)
			return
		}
		for _, p := range payloads {
			buf = appendNext(buf[:0], op.id, p)
			if !c.write(ctx, op, buf) {
				return
			}
		}
	}
}

// finish tells the client why an operation ends. A socket that drains is closed with its last
// operation, so that each gets what was queued for it.
func (c *conn) finish(ctx context.Context, id string, op *operation, err error) {
	op.sub.Close()
	f, all := whole(err)
	c.mu.Lock()
	if op.over || ctx.Err() != nil {
		c.mu.Unlock()
		return
	}
	op.over = true
	delete(c.ops, id)
	left := len(c.ops)
	c.mu.Unlock()
	switch {
	case all && errors.Is(err, fanout.ErrDraining) && left > 0:
	case all:
		c.end(f)
	default:
		_ = c.say(ctx, errorMessage(op.id, err))
	}
}

// write writes a message of an operation, unless that has ended.
func (c *conn) write(ctx context.Context, op *operation, msg []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !op.over && c.writeLocked(ctx, msg)
}

// say writes a message. Where it cannot be written the socket is lost.
func (c *conn) say(ctx context.Context, msg []byte) *fanout.Fault {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.writeLocked(ctx, msg)
	return nil
}

// writeLocked holds mu across the write, which the write's timeout bounds.
func (c *conn) writeLocked(ctx context.Context, msg []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, c.h.cfg.WriteTimeout)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, msg); err != nil {
		c.end(fanout.Explain(fanout.ErrSlow))
		return false
	}
	return true
}

// askPeer finds out about peers that are gone without a word.
func (c *conn) askPeer(ctx context.Context) {
	tick := time.NewTicker(c.h.cfg.PingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ping, cancel := context.WithTimeout(ctx, c.h.cfg.PingEvery)
		err := c.ws.Ping(ping)
		cancel()
		if err != nil {
			_ = c.ws.CloseNow()
			return
		}
	}
}
