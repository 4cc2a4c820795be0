package graphqlws

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// A conn is one connection. Its reader is the goroutine of ServeHTTP; a clock watches its times,
// and each operation has a goroutine of its own.
type conn struct {
	h      *Handler
	log    *slog.Logger
	header []string        // Authorization of the upgrade
	ws     *websocket.Conn // set by open
	wg     sync.WaitGroup

	// over is set before the close frame is sent, or the connection cut off: no other frame
	// is sent from then on.
	over atomic.Bool

	mu sync.Mutex
	// opened tells that ws is set; closing is closed when the close frame was sent and answered,
	// nil while none is on its way.
	opened   bool
	closing  chan struct{}
	protocol *protocol
	ops      map[string]*operation
	session  *fanout.Session // nil until authenticated
	draining bool
	cancel   context.CancelFunc
	below    *gatherer

	// refreshed has a token when the clock must look at the session's principal.
	refreshed chan struct{}
	// writing is held while a message is written.
	writing sync.Mutex
}

func newConn(h *Handler, authorization []string) *conn {
	return &conn{
		h: h, log: h.cfg.Logger, header: authorization, protocol: newProtocol(h.cfg.Operations), ops: map[string]*operation{},
		cancel: func() {}, refreshed: make(chan struct{}, 1),
	}
}

// serve serves the socket until it is closed, and returns when every goroutine has ended.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	c.mu.Lock()
	c.cancel, c.opened = cancel, true
	draining := c.draining
	c.mu.Unlock()
	if draining {
		c.closeFor(fanout.ErrDraining)
	}
	c.ws.SetReadLimit(c.h.cfg.ReadLimit)
	c.wg.Go(func() { c.clock(ctx) })
	c.read(ctx)
	c.mu.Lock()
	closing, session := c.closing, c.session
	c.mu.Unlock()
	if closing != nil {
		<-closing // the client gets the code
	}
	if session != nil {
		session.Close()
	}
	c.cut()
	c.wg.Wait()
	_ = c.ws.CloseNow()
}

// read does what the client's messages ask for, one after the other.
func (c *conn) read(ctx context.Context) {
	perSecond := c.h.cfg.MessageRate
	limit := rate.NewLimiter(rate.Limit(perSecond), perSecond)
	for {
		kind, data, err := c.ws.Read(ctx)
		if errors.Is(err, websocket.ErrMessageTooBig) {
			c.close(closing{codeTooBig, "message is too big"}) // reads what is on its way, so that the client sees this
		}
		if err != nil || limit.Wait(ctx) != nil {
			return
		}
		if kind != websocket.MessageText {
			c.close(closing{codeUnsupported, "messages are text"})
			return
		}
		c.mu.Lock()
		a := c.protocol.receive(data)
		c.mu.Unlock()
		if !c.do(ctx, a) {
			return
		}
	}
}

// do is false where the connection is to end.
func (c *conn) do(ctx context.Context, a action) bool {
	switch a.do {
	case nothing:
	case authenticate:
		return c.authenticate(ctx, a.token)
	case refresh:
		return c.refresh(ctx, *a.token)
	case pong:
		return c.send(ctx, pongMessage(a.payload)) == nil
	case start:
		c.start(ctx, a.id, a.request)
	case refuse:
		over := &schema.Error{Code: schema.LimitExceeded, Message: "the connection has as many operations as the server allows: complete one first"}
		return c.send(ctx, errorMessage(a.id, over)) == nil
	case stop:
		c.stop(a.id)
	case closeSocket:
		c.close(a.closing)
		return false
	}
	return true
}

// authenticate answers connection_init. The payload's token counts before the header's.
func (c *conn) authenticate(ctx context.Context, token *string) bool {
	if token == nil && len(c.header) > 0 {
		t := fanout.Bearer(c.header[0])
		token = &t
	}
	p, err := c.principal(token)
	if err != nil {
		c.closeFor(err)
		return false
	}
	session := c.h.cfg.Dispatcher.Open(p)
	c.mu.Lock()
	c.session = session
	c.protocol.accept()
	c.mu.Unlock()
	c.look()
	c.log.Debug("client connected", slog.String("role", p.Role))
	return c.send(ctx, []byte(`{"type":"`+typeAck+`"}`)) == nil
}

func (c *conn) principal(token *string) (*authz.Principal, error) {
	if token == nil {
		return c.h.cfg.Auth.Anonymous()
	}
	return c.h.cfg.Auth.Verify(*token)
}

// refresh goes on with a newer token, or closes.
func (c *conn) refresh(ctx context.Context, token string) bool {
	p, err := c.h.cfg.Auth.Verify(token)
	if err == nil {
		err = c.session.Refresh(p)
	}
	if err != nil {
		c.closeFor(err)
		return false
	}
	c.look()
	return c.send(ctx, pongMessage(nil)) == nil
}

func (c *conn) look() {
	select {
	case c.refreshed <- struct{}{}:
	default:
	}
}

// clock closes a connection that is not initialised in time, or whose token expires, and pings
// one that is silent.
func (c *conn) clock(ctx context.Context) {
	initialised := time.NewTimer(c.h.cfg.InitTimeout)
	defer initialised.Stop()
	ping := time.NewTicker(c.h.cfg.PingInterval)
	defer ping.Stop()
	expired := time.NewTimer(time.Hour)
	expired.Stop()
	defer expired.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-initialised.C:
			c.close(closing{codeInitTimeout, "Connection initialisation timeout"})
			return
		case <-c.refreshed:
			initialised.Stop()
			expired.Stop()
			if p := c.session.Principal(); !p.Expires.IsZero() {
				expired.Reset(time.Until(p.Expires))
			}
		case <-expired.C:
			c.closeFor(fanout.ErrExpired)
			return
		case <-ping.C:
			c.wg.Go(func() { c.ping(ctx) })
		}
	}
}

// ping drops a client that does not answer until the next one is due.
func (c *conn) ping(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, c.h.cfg.PingInterval)
	defer cancel()
	if err := c.ws.Ping(ctx); errors.Is(err, context.DeadlineExceeded) {
		c.log.Debug("client does not answer pings")
		c.cut()
	}
}

// errStopped says that a message was not sent because its operation or the connection is over.
var errStopped = errors.New("it is over")

// send writes one message. A client that does not take it in time is cut off.
func (c *conn) send(ctx context.Context, data []byte) error {
	return c.sendOf(ctx, nil, data)
}

// sendOf writes a message of an operation, unless that was stopped meanwhile.
func (c *conn) sendOf(ctx context.Context, op *operation, data []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.writeLocked(ctx, op, data)
}

// sendAll writes an operation's results with as few system calls as they fit in, each framed by
// head. It writes them from a buffer, which it gives back.
func (c *conn) sendAll(ctx context.Context, op *operation, head, buf []byte, payloads [][]byte) ([]byte, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	below := c.below
	c.mu.Unlock()
	below.hold()
	var err error
	for _, p := range payloads {
		buf = append(append(append(buf[:0], head...), p...), '}')
		if err = c.writeLocked(ctx, op, buf); err != nil {
			break
		}
	}
	if released := below.release(c.h.cfg.WriteTimeout); released != nil && err == nil {
		err = released
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.log.Info("client does not read")
		}
		c.cut()
	}
	return shrink(buf), err
}

// writeLocked needs writing held.
func (c *conn) writeLocked(ctx context.Context, op *operation, data []byte) error {
	if c.over.Load() || op != nil && op.stopped.Load() {
		return errStopped
	}
	// An operation that is stopped in the middle of a write must not take the connection with
	// it, as a cancelled Write would. cut ends one that hangs.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.h.cfg.WriteTimeout)
	defer cancel()
	err := c.ws.Write(ctx, websocket.MessageText, data)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			c.log.Info("client does not read")
		}
		c.cut()
	}
	return err
}

// closeFor closes for an error, as fanout.Explain says.
func (c *conn) closeFor(err error) {
	f := fanout.Explain(err)
	if f.Code == schema.Internal && !errors.Is(err, fanout.ErrDraining) {
		c.log.Error("connection ends by an error", slog.Any("error", err))
	}
	c.close(closing{f.Close, clip(f.Message)})
}

// close sends a close frame, waits a while for the client's, and ends the connection. The first
// call counts.
func (c *conn) close(why closing) {
	c.mu.Lock()
	if c.over.Swap(true) {
		c.mu.Unlock()
		return
	}
	closing := make(chan struct{})
	c.closing = closing
	c.mu.Unlock()
	defer close(closing)
	c.log.Debug("connection is closed", slog.Int("code", why.code))
	_ = c.ws.Close(websocket.StatusCode(why.code), why.reason) // the client may be gone
	c.cut()
}

// cut ends the connection without a word.
func (c *conn) cut() {
	c.over.Store(true)
	c.mu.Lock()
	cancel, below := c.cancel, c.below
	c.mu.Unlock()
	cancel()
	if below != nil {
		_ = below.Close()
	}
}

func (c *conn) grab(n *gatherer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.below = n
}

// drain closes the connection once its operations have ended.
func (c *conn) drain() {
	c.mu.Lock()
	c.draining = true
	idle := len(c.ops) == 0 && c.opened
	c.mu.Unlock()
	if idle {
		c.closeFor(fanout.ErrDraining)
	}
}
