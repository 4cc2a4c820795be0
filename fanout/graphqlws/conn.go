package graphqlws

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// A conn is one connection. While nothing happens it has one goroutine, which rests: the reader. A
// reader that has read goes on to rest in a new goroutine, whose stack is small. Another one sends
// while there is something to send, timers ping and watch, and operations have none.
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
	ops      []*operation    // few: a map would be larger
	session  *fanout.Session // nil until authenticated
	draining bool
	below    *below // set before ws

	// pings is nil until the client sends one; ignored are those without an answer. Both are of
	// whoever reads.
	pings   *rate.Limiter
	ignored int
	// The timers are set by serve.
	initialised, pinger *time.Timer

	// ended tells that no goroutine may join any more.
	joining sync.Mutex
	ended   bool

	// queue is held, alone or inside mu, for what waits to be sent: sending tells that a goroutine
	// sends what is ready.
	queue   sync.Mutex
	ready   []*operation
	sending bool
}

// Pings of a client that are answered, a second and at once. RFC 6455, 5.5.3, lets an endpoint
// answer only the latest.
const (
	pingRate  = 10
	pingBurst = 50
)

func newConn(h *Handler, client *authz.Client, authorization []string) *conn {
	return &conn{
		h: h, client: client, log: h.cfg.Logger, header: authorization, protocol: newProtocol(h.cfg.Operations),
	}
}

// maxIgnored is how many pings are left without an answer before a connection that sends nothing
// better is cut off.
const maxIgnored = 500

// answersPing has a ping cost its sender what a message would: it waits for its turn, and so does
// whatever is behind it. Cutting the connection off at once would be no defence, since making
// another costs the service more than five hundred pings.
func (c *conn) answersPing(context.Context, []byte) bool {
	_ = c.below.pause(c.client.Wait(authz.Messages, 1))
	if c.pings == nil {
		c.pings = rate.NewLimiter(pingRate, pingBurst)
	}
	if c.pings.Allow() {
		return true
	}
	if c.ignored++; c.ignored > maxIgnored {
		c.log.Info("client floods with pings")
		c.cut()
	}
	return false
}

// takesPong has it cost the same: clients owe one for each of our pings, and may send more.
func (c *conn) takesPong(context.Context, []byte) {
	c.below.unanswered.Store(0)
	_ = c.below.pause(c.client.Wait(authz.Messages, 1))
}

// join counts a goroutine in, unless the connection is about to end: it waits for those that are.
func (c *conn) join() bool {
	c.joining.Lock()
	defer c.joining.Unlock()
	if c.ended {
		return false
	}
	c.wg.Add(1)
	return true
}

// serve begins to serve the socket.
func (c *conn) serve() {
	c.mu.Lock()
	c.opened = true
	draining := c.draining
	c.mu.Unlock()
	if draining {
		c.closeFor(fanout.ErrDraining)
	}
	c.ws.SetReadLimit(c.h.cfg.ReadLimit)
	c.joining.Lock() // the timers' functions join
	c.initialised = time.AfterFunc(c.h.cfg.InitTimeout, c.late)
	c.pinger = time.AfterFunc(c.h.cfg.PingInterval, c.ping)
	c.joining.Unlock()
	go c.rest()
}

// rest waits until the client has sent something, and reads it. Few of these frames are on the
// stack while it waits; those of reading are gone when the next goroutine rests.
func (c *conn) rest() {
	c.below.rest()
	if c.read() {
		go c.rest()
		return
	}
	c.end()
}

// end waits until every goroutine of the connection has ended.
func (c *conn) end() {
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
	c.joining.Lock()
	c.ended = true
	if c.initialised != nil {
		c.initialised.Stop()
	}
	c.joining.Unlock()
	c.pinger.Stop()
	_ = c.ws.CloseNow()
	c.wg.Wait()
	c.h.remove(c)
}

// read does what the client's messages ask for, one after the other. It is true once there is
// nothing more to read, and false when the connection is to end.
func (c *conn) read() bool {
	for {
		kind, data, err := c.message()
		switch {
		case errors.Is(err, errNothing):
			return true
		case errors.Is(err, websocket.ErrMessageTooBig):
			c.close(closing{codeTooBig, "message is too big"}) // reads what is on its way, so that the client sees this
			return false
		case err != nil || c.below.pause(c.client.Wait(authz.Messages, 1)) != nil:
			return false
		case kind != websocket.MessageText:
			c.close(closing{codeUnsupported, "messages are text"})
			return false
		}
		c.mu.Lock()
		a := c.protocol.receive(data.Bytes())
		c.mu.Unlock()
		if !c.do(a) {
			return false
		}
		c.h.messages.put(data)
	}
}

// message reads one message. One that takes too long, in however many frames, ends the connection.
// The library is given no context to watch, which costs memory on each idle connection: whoever
// ends the connection closes what is below.
func (c *conn) message() (websocket.MessageType, *bytes.Buffer, error) {
	kind, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return 0, nil, err
	}
	late := time.AfterFunc(c.h.cfg.ReadTimeout, c.cut)
	defer late.Stop()
	data := c.h.messages.get()
	_, err = data.ReadFrom(r)
	return kind, data, err
}

// do is false where the connection is to end.
func (c *conn) do(a action) bool {
	switch a.do {
	case nothing:
	case authenticate:
		return c.authenticate(a.token)
	case refresh:
		return c.refresh(*a.token)
	case pong:
		return c.send(pongMessage(a.payload)) == nil
	case start:
		c.start(a.id, a.request)
	case refuse:
		over := &schema.Error{Code: schema.LimitExceeded, Message: "the connection has as many operations as the server allows: complete one first"}
		return c.send(errorMessage(a.id, over)) == nil
	case stop:
		c.stop(a.id)
	case closeSocket:
		c.close(a.closing)
		return false
	}
	return true
}

// authenticate answers connection_init. The payload's token counts before the header's.
func (c *conn) authenticate(token *string) bool {
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
	c.initialised.Stop()
	c.joining.Lock()
	c.initialised = nil // it would be held for as long as the connection
	c.joining.Unlock()
	session.OnEnd(c.sessionEnded)
	c.log.Debug("client connected", slog.String("role", p.Role))
	return c.send([]byte(`{"type":"`+typeAck+`"}`)) == nil
}

func (c *conn) principal(token *string) (*authz.Principal, error) {
	if token == nil {
		return c.h.cfg.Auth.Anonymous()
	}
	return c.h.cfg.Auth.Verify(*token)
}

// refresh goes on with a newer token, or closes.
func (c *conn) refresh(token string) bool {
	p, err := c.h.cfg.Auth.Verify(token)
	if err == nil {
		err = c.session.Refresh(p)
	}
	if err != nil {
		c.closeFor(err)
		return false
	}
	return c.send(pongMessage(nil)) == nil
}

// sessionEnded closes a connection whose session has ended: its token has expired, or the operator
// has ended it.
func (c *conn) sessionEnded() {
	if !c.join() {
		return
	}
	defer c.wg.Done()
	if err := c.session.Err(); !errors.Is(err, fanout.ErrClosed) {
		c.closeFor(err)
	}
}

// late closes a connection whose client has not said who it is.
func (c *conn) late() {
	if c.join() {
		defer c.wg.Done()
		c.close(closing{codeInitTimeout, "Connection initialisation timeout"})
	}
}

// ping drops a client that does not answer until the next one is due. One that is sent frames all the
// while may not have come to the ping yet: megabytes of them may be on their way before it, in the
// buffers of both systems. Whether it takes them is for WriteTimeout, and for the system to notice. Pings
// of the library's would leave each connection a map, and wait in a goroutine.
func (c *conn) ping() {
	if !c.join() {
		return
	}
	defer c.wg.Done()
	c.pinger.Reset(c.h.cfg.PingInterval)
	if alive, err := c.below.ping(); !alive || err != nil {
		c.log.Debug("client does not answer pings")
		c.cut()
	}
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
	below := c.below
	c.mu.Unlock()
	if below != nil {
		_ = below.Close()
	}
}

func (c *conn) grab(n *below) {
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
