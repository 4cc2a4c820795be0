// Package graphqlws serves subscriptions over WebSockets by the graphql-transport-ws protocol, to
// the letter of its document (enisdenjo/graphql-ws, PROTOCOL.md).
//
// Guarantees:
//   - Nothing is run before the client was authenticated, and nothing is sent after its token
//     has expired.
//   - A frame that is sent is whole and in its operation's order; after complete or error there is
//     none of that operation.
//   - What one client holds is bounded: the size and rate of its messages, its operations, what
//     waits for it. One that does not read is cut off.
//   - Every goroutine ends with its connection; Drain and Close wait for all.
//
// Cookies are not read, so a page of another origin gains nothing by opening a socket from its
// visitor's browser; the list of origins keeps it from doing so at all.
package graphqlws

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// Subprotocol is the only one that is spoken.
const Subprotocol = "graphql-transport-ws"

// Config configures a Handler.
type Config struct {
	// Dispatcher and Auth are required.
	Dispatcher *fanout.Dispatcher
	Auth       fanout.Authenticator
	// Origins are the origins (scheme, host and port, as browsers write them) whose pages may
	// connect. A client that sends no Origin is no browser and may. Defaults to none.
	Origins []string
	// InitTimeout is how long a client may take to send connection_init. Defaults to 3 s.
	InitTimeout time.Duration
	// WriteTimeout is how long a client may take to read one message. Defaults to 10 s.
	WriteTimeout time.Duration
	// PingInterval is the time between WebSocket pings, and how long one may stay unanswered.
	// Defaults to 25 s, below the minute after which proxies drop idle connections.
	PingInterval time.Duration
	// ReadLimit is the largest message taken, in bytes. Defaults to 64 KiB.
	ReadLimit int64
	// ReadTimeout is how long a message may take from its first byte to its last. Defaults to
	// 10 s.
	ReadTimeout time.Duration
	// Operations is how many operations one connection may have at once. Defaults to 100.
	Operations int
	// Limiter bounds connections, messages and bytes, and by way of Dispatcher subscriptions.
	// Defaults to one of authz.DefaultLimits.
	Limiter *authz.Limiter
	// Proxies are believed about where a client is. Defaults to none.
	Proxies fanout.Proxies
	// Audit is told who was not let in, and why. It must not block. Defaults to none.
	Audit authz.Auditor
	// Logger gets no token, payload or query. Defaults to slog.Default().
	Logger *slog.Logger
}

func (c *Config) check() error {
	if c.Dispatcher == nil || c.Auth == nil {
		return errors.New("make WebSocket handler: Dispatcher and Auth are required")
	}
	for _, d := range []struct {
		value     *time.Duration
		otherwise time.Duration
	}{
		{&c.InitTimeout, 3 * time.Second},
		{&c.WriteTimeout, 10 * time.Second},
		{&c.PingInterval, 25 * time.Second},
		{&c.ReadTimeout, 10 * time.Second},
	} {
		if *d.value < 0 {
			return errors.New("make WebSocket handler: a time is negative")
		}
		if *d.value == 0 {
			*d.value = d.otherwise
		}
	}
	if c.Operations < 0 {
		return errors.New("make WebSocket handler: a limit is negative")
	}
	if c.Operations == 0 {
		c.Operations = 100
	}
	if c.Limiter == nil {
		c.Limiter = authz.NewLimiter(authz.DefaultLimits())
	}
	if c.ReadLimit <= 0 {
		c.ReadLimit = 64 << 10
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// A Handler upgrades requests to WebSockets and serves them.
type Handler struct {
	cfg      Config
	buffers  buffers
	messages messages

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	// running counts the connections that are served: by wg.Add under mu and not draining.
	running sync.WaitGroup
}

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, conns: map[*conn]struct{}{}}, nil
}

// ServeHTTP upgrades the request and serves the socket until it is closed.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	address := h.cfg.Proxies.Client(r)
	if refused := h.refuse(r); refused != nil {
		h.denied(address, refused.reason)
		http.Error(w, refused.message, refused.status)
		return
	}
	client, full := h.cfg.Limiter.Connect(address, "websocket")
	if f := fanout.Explain(full); full != nil && f.Code == schema.RateLimited {
		h.denied(address, string(f.Code))
		w.Header().Set("Retry-After", strconv.Itoa(fanout.Seconds(f.RetryAfter)))
		http.Error(w, f.Message, f.Status)
		return
	}
	c := newConn(h, client, r.Header.Values("Authorization"))
	if !h.add(c) {
		client.Close()
		w.Header().Set("Retry-After", "1")
		http.Error(w, "the service is restarting", http.StatusServiceUnavailable)
		return
	}
	ws, err := websocket.Accept(&grabber{ResponseWriter: w, c: c}, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // refuse has checked the origin, more strictly
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     c.answersPing,
		OnPongReceived:     c.takesPong,
	})
	if err != nil { // Accept has answered
		h.remove(c)
		return
	}
	c.ws = ws
	if full == nil {
		c.serve() //nolint:contextcheck // it outlives the request
		return
	}
	h.denied(address, string(schema.LimitExceeded))
	go func() { // the goroutine of the request keeps its stack and buffers
		defer h.remove(c)
		c.closeFor(full)
	}()
}

// denied records a client that was not let in.
func (h *Handler) denied(address, reason string) {
	if h.cfg.Audit != nil {
		h.cfg.Audit.Record(authz.Record{Event: authz.EventDeny, Address: address, Transport: "websocket", Reason: reason})
	}
}

// add makes a connection known. It is false while draining.
func (h *Handler) add(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return false
	}
	h.conns[c] = struct{}{}
	h.running.Add(1)
	return true
}

func (h *Handler) remove(c *conn) {
	c.client.Close()
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
	h.running.Done()
}

// stopAccepting gives the connections that there are.
func (h *Handler) stopAccepting() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	return slices.Collect(maps.Keys(h.conns))
}

// Drain takes no new connections, has the dispatcher end all subscriptions behind what is queued,
// closes each connection with 1012 once that is sent, and waits for all; when ctx ends it cuts
// off those that are left.
func (h *Handler) Drain(ctx context.Context) error {
	conns := h.stopAccepting()
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(c.drain)
	}
	wg.Go(func() { _ = h.cfg.Dispatcher.Drain(ctx) }) // what it could not flush, cutting off ends
	done := make(chan struct{})
	go func() {
		wg.Wait()
		h.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	for _, c := range conns {
		c.cut()
	}
	<-done
	return fmt.Errorf("drain WebSockets: %w", context.Cause(ctx))
}

// Close cuts all connections off and waits for them. It is idempotent.
func (h *Handler) Close() {
	for _, c := range h.stopAccepting() {
		c.cut()
	}
	h.running.Wait()
}

// Connections is the number of connections.
func (h *Handler) Connections() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.conns)
}
