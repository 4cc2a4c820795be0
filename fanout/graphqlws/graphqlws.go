// Package graphqlws serves subscriptions over WebSockets by the protocol graphql-transport-ws,
// as PROTOCOL.md of npm's graphql-ws has it.
//
// It guarantees that nothing is executed before a connection is acknowledged, that what is
// malformed or out of turn closes the socket with the protocol's code and harms nobody else,
// that frames of one operation keep their order and come to an end with its complete or error,
// and that when Drain or Close has returned no goroutine and no socket of it is left.
//
// message.go reads messages and knows the protocol's rules about them; it does no I/O. conn.go
// is one socket. What a subscription delivers is package fanout's part.
package graphqlws

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
)

// Subprotocol is the only one that is spoken.
const Subprotocol = "graphql-transport-ws"

// An Authenticator makes principals of what clients bring. Its errors are *schema.Error.
type Authenticator interface {
	Verify(token string) (*authz.Principal, error)
	Anonymous() (*authz.Principal, error)
}

// Config configures a Handler.
type Config struct {
	// Dispatcher and Auth are required.
	Dispatcher *fanout.Dispatcher
	Auth       Authenticator
	// Origins are those whose pages may connect: scheme, host and port, compared whole. Pages
	// of this machine, and those that the service serves under an IP address, always may;
	// clients that send no origin are no pages. Defaults to none.
	Origins []string
	// InitTimeout is how long a socket may go without connection_init. Defaults to 3 s.
	InitTimeout time.Duration
	// ReadLimit is the largest message taken, in bytes. Defaults to 64 KiB.
	ReadLimit int64
	// WriteTimeout is how long one message may take to be written. Defaults to 10 s.
	WriteTimeout time.Duration
	// PingEvery is how often a silent socket is asked whether it is there. Defaults to 30 s.
	PingEvery time.Duration
	// Subscriptions is the most that one socket may have at once. Defaults to 100.
	Subscriptions int
	// Logger defaults to slog.Default(). Tokens are never logged.
	Logger *slog.Logger
}

func (c *Config) check() error {
	if c.Dispatcher == nil || c.Auth == nil {
		return errors.New("make WebSocket handler: Dispatcher and Auth are required")
	}
	if c.InitTimeout == 0 {
		c.InitTimeout = 3 * time.Second
	}
	if c.ReadLimit == 0 {
		c.ReadLimit = 64 << 10
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.PingEvery == 0 {
		c.PingEvery = 30 * time.Second
	}
	if c.Subscriptions == 0 {
		c.Subscriptions = 100
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// A Handler upgrades requests and serves their sockets.
type Handler struct {
	cfg Config

	mu       sync.Mutex
	conns    map[*conn]struct{}
	draining bool
	running  sync.WaitGroup
}

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, conns: map[*conn]struct{}{}}, nil
}

// ServeHTTP upgrades one request and returns when its socket is closed.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !h.originAllowed(r):
		http.Error(w, "this origin may not connect: start the service with --allow-origin for it", http.StatusForbidden)
		return
	case tokenInURL(r):
		http.Error(w, "a token in the URL ends in logs: send it in connection_init or the Authorization header", http.StatusBadRequest)
		return
	}
	c := &conn{h: h, header: bearer(r.Header.Get("Authorization")), ops: map[string]*operation{}}
	if !h.enter(c) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "service is restarting: come back", http.StatusServiceUnavailable)
		return
	}
	defer h.leave(c)
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:       []string{Subprotocol},
		InsecureSkipVerify: true, // originAllowed has decided
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return // Accept has answered
	}
	defer ws.CloseNow()
	if ws.Subprotocol() != Subprotocol {
		_ = ws.Close(closeSubprotocol, "Subprotocol not acceptable: speak "+Subprotocol)
		return
	}
	ws.SetReadLimit(h.cfg.ReadLimit)
	c.ws = ws
	c.run(r.Context())
}

func (h *Handler) enter(c *conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return false
	}
	c.over = make(chan struct{})
	h.conns[c] = struct{}{}
	h.running.Add(1)
	return true
}

func (h *Handler) leave(c *conn) {
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
	h.running.Done()
}

// Drain refuses new sockets, lets those there are take what is queued for them, closes them
// with 1012 and returns when they are gone; or soon after ctx ends.
func (h *Handler) Drain(ctx context.Context) error {
	h.stop()
	err := h.cfg.Dispatcher.Drain(ctx)
	h.Close()
	return err
}

// Close closes every socket with 1012 and returns when they are gone. It is idempotent.
func (h *Handler) Close() {
	for _, c := range h.stop() {
		c.end(fanout.Explain(fanout.ErrDraining))
	}
	h.running.Wait()
}

// stop refuses new sockets and gives those there are.
func (h *Handler) stop() []*conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	out := make([]*conn, 0, len(h.conns))
	for c := range h.conns {
		out = append(out, c)
	}
	return out
}

// tokenInURL tells of a token in the query string, under the names that people give it.
func tokenInURL(r *http.Request) bool {
	q := r.URL.Query()
	return slices.ContainsFunc([]string{"token", "access_token", "authorization", "jwt"}, q.Has)
}

// bearer gives the token of an Authorization value, with or without its scheme.
func bearer(value string) string {
	value = strings.TrimSpace(value)
	if scheme, rest, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(rest)
	}
	return value
}
