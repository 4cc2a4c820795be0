package graphqlws

import (
	"context"
	"errors"
	"io"
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
	client *authz.Client
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

	// authenticated is closed when the session is there.
	authenticated chan struct{}
	pings         *rate.Limiter
	// writing is held while a message is written.
	writing sync.Mutex
}

// Pings of a client that are answered, a second and at once. RFC 6455, 5.5.3, lets an endpoint
// answer only the latest.
const (
	pingRate  = 10
	pingBurst = 50
)

func newConn(h *Handler, client *authz.Client, authorization []string) *conn {
	return &conn{
		h: h, client: client, log: h.cfg.Logger, header: authorization, protocol: newProtocol(h.cfg.Operations), ops: map[string]*operation{},
		cancel: func() {}, authenticated: make(chan struct{}), pings: rate.NewLimiter(pingRate, pingBurst),
	}
}

func (c *conn) answersPing(context.Context, []byte) bool { return c.pings.Allow() }

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
	for {
		kind, data, err := c.message(ctx)
		if errors.Is(err, websocket.ErrMessageTooBig) {
			c.close(closing{codeTooBig, "message is too big"}) // reads what is on its way, so that the client sees this
		}
		if err != nil || pause(ctx, c.client.Wait(authz.Messages, 1)) != nil {
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

// message reads one message. One that takes too long, in however many frames, ends the connection.
func (c *conn) message(ctx context.Context) (websocket.MessageType, []byte, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	kind, r, err := c.ws.Reader(ctx)
	if err != nil {
		return 0, nil, err
	}
	late := time.AfterFunc(c.h.cfg.ReadTimeout, cancel)
	defer late.Stop()
	data, err := io.ReadAll(r)
	return kind, data, err
}

func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
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
		c.h.denied(c.client.Address, string(fanout.Explain(err).Code))
		c.closeFor(err)
		return false
	}
	session, err := c.h.cfg.Dispatcher.OpenFor(c.client, p)
	if err != nil {
		c.closeFor(err)
		return false
	}
	c.mu.Lock()
	c.session = session
	c.protocol.accept()
	c.mu.Unlock()
	close(c.authenticated)
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
	return c.send(ctx, pongMessage(nil)) == nil
}

// clock closes a connection that is not initialised in time, or whose session ends (its token
// expires, the operator ends it), and pings one that is silent.
func (c *conn) clock(ctx context.Context) {
	initialised := time.NewTimer(c.h.cfg.InitTimeout)
	defer initialised.Stop()
	ping := time.NewTicker(c.h.cfg.PingInterval)
	defer ping.Stop()
	authenticated := c.authenticated
	var ended <-chan struct{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-initialised.C:
			c.close(closing{codeInitTimeout, "Connection initialisation timeout"})
			return
		case <-authenticated:
			initialised.Stop()
			authenticated, ended = nil, c.session.Ended()
		case <-ended:
			if err := c.session.Err(); !errors.Is(err, fanout.ErrClosed) {
				c.closeFor(err)
			}
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
