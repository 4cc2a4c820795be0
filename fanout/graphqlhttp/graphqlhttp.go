// Package graphqlhttp serves GraphQL over plain HTTP: queries as the GraphQL over HTTP
// specification has them, and subscriptions as event streams (PROTOCOL.md of npm's graphql-sse,
// distinct connections and single connection mode) or as multipart responses
// (multipart/mixed;subscriptionSpec=1.0, as Apollo's router and client speak it).
//
// It guarantees that a page of another origin can have nothing executed but by the leave of
// Config.Origins; that a request costs no more than its limits, however slowly it comes; that
// results of one operation keep their order; that a stream ends without a word of completion
// where its client should come back; and that when Drain or Close has returned no stream and no
// goroutine of it is left.
//
// accept.go and request.go read requests, sse.go and multipart.go know what goes around a
// payload; none of these does I/O but for reading a body. stream.go is one response that goes
// on, single.go what several requests share in single connection mode. What a subscription
// delivers is package fanout's part.
//
// An event's id is its cursor. Last-Event-ID resumes an event stream of its own behind that
// cursor, in place of the operation's argument after; it is the browser, or the client, that
// knows it better than the document. Frames without a cursor (RESET, SNAPSHOT) clear the id, so
// that a stream that breaks off within a snapshot begins anew. In single connection mode several
// operations share a stream, which has one last id: their events carry none, and clients resume
// by the argument.
package graphqlhttp

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// Config configures a Handler.
type Config struct {
	// Dispatcher and Auth are required.
	Dispatcher *fanout.Dispatcher
	Auth       fanout.Authenticator
	// Origins are those whose pages may ask, across origins (CORS). Defaults to none.
	Origins fanout.Origins
	// ReadLimit is the largest body taken, in bytes. Defaults to 64 KiB.
	ReadLimit int64
	// ReadTimeout is how long a body may take to come. Defaults to 10 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long what is ready may take to be written. Defaults to 10 s.
	WriteTimeout time.Duration
	// Heartbeat is the silence after which a stream says that it is there: proxies and
	// Apollo's router think of some seconds. Defaults to 5 s.
	Heartbeat time.Duration
	// Subscriptions is the most operations that one stream in single connection mode may have
	// at once. Defaults to 100.
	Subscriptions int
	// Reservations is the most streams in single connection mode that may be reserved and not
	// yet open. Defaults to 1,000.
	Reservations int
	// ReserveTimeout is how long a reservation waits for its stream. Defaults to 10 s.
	ReserveTimeout time.Duration
	// Limiter bounds requests and streams, and by way of Dispatcher operations. Defaults to one of
	// authz.DefaultLimits.
	Limiter *authz.Limiter
	// Proxies are believed about where a client is. Defaults to none.
	Proxies fanout.Proxies
	// Audit is told who was not let in, and why. It must not block. Defaults to none.
	Audit authz.Auditor
	// Logger defaults to slog.Default(). Tokens are never logged.
	Logger *slog.Logger
}

func (c *Config) check() error {
	if c.Dispatcher == nil || c.Auth == nil {
		return errors.New("make HTTP handler: Dispatcher and Auth are required")
	}
	if c.ReadLimit == 0 {
		c.ReadLimit = 64 << 10
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = 10 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 10 * time.Second
	}
	if c.Heartbeat == 0 {
		c.Heartbeat = 5 * time.Second
	}
	if c.Subscriptions == 0 {
		c.Subscriptions = 100
	}
	if c.Reservations == 0 {
		c.Reservations = 1000
	}
	if c.ReserveTimeout == 0 {
		c.ReserveTimeout = 10 * time.Second
	}
	if c.Limiter == nil {
		c.Limiter = authz.NewLimiter(authz.DefaultLimits())
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// A Handler answers requests and serves streams.
type Handler struct {
	cfg Config

	mu sync.Mutex
	// visits are the requests being served; the function ends one.
	visits   map[*visit]struct{}
	reserved map[string]*reservation
	waiting  int // reservations whose stream is not open
	draining bool
	running  sync.WaitGroup
}

// A visit is one request while it is served.
type visit struct {
	end context.CancelCauseFunc
	// client is nil once a reservation has taken it over.
	client *authz.Client
}

// New makes a Handler.
func New(cfg Config) (*Handler, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	return &Handler{cfg: cfg, visits: map[*visit]struct{}{}, reserved: map[string]*reservation{}}, nil
}

// ServeHTTP answers one request, or serves its stream until that ends.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store, no-transform")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	accept := parseAccept(r.Header.Values("Accept"))
	if f := h.admit(w, r); f != nil {
		h.denied(r, f)
		h.refuse(w, accept, f)
		return
	}
	if r.Method == http.MethodOptions {
		w.Header().Set("Allow", allowedMethods)
		w.WriteHeader(http.StatusNoContent)
		return
	}
	client, err := h.cfg.Limiter.Connect(h.cfg.Proxies.Client(r), "http")
	if err != nil {
		f := explain(err)
		h.denied(r, f)
		h.refuse(w, accept, f)
		return
	}
	v := &visit{client: client}
	ctx, leave, ok := h.enter(r.Context(), v)
	if !ok {
		client.Close()
		h.refuse(w, accept, explain(fanout.ErrDraining))
		return
	}
	defer leave()
	if f := h.route(w, r.WithContext(ctx), accept, v); f != nil {
		h.refuse(w, accept, f)
	}
}

// denied records a request that was not let in.
func (h *Handler) denied(r *http.Request, f *fault) {
	if h.cfg.Audit != nil {
		h.cfg.Audit.Record(authz.Record{
			Event: authz.EventDeny, Address: h.cfg.Proxies.Client(r), Transport: "http", Reason: string(fanout.Explain(f.err).Code),
		})
	}
}

// route hands a request to what serves it. A fault has not been answered yet.
func (h *Handler) route(w http.ResponseWriter, r *http.Request, accept accept, v *visit) *fault {
	token, single := streamToken(r)
	switch r.Method {
	case http.MethodGet, http.MethodPost:
		switch {
		case !single:
			return h.serve(w, r, accept, v.client)
		case accept.quality(eventStream) > 0:
			return h.connect(w, r, token)
		}
		return h.operate(w, r, token)
	case http.MethodPut:
		return h.reserve(w, r, v)
	case http.MethodDelete:
		return h.complete(w, r, token)
	}
	w.Header().Set("Allow", allowedMethods)
	return refusal(http.StatusMethodNotAllowed, schema.BadUserInput, "method is not allowed: send POST or GET")
}

// serve answers a query, or serves a subscription as a stream of its own.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, accept accept, client *authz.Client) *fault {
	if !accept.any() {
		return refusal(http.StatusNotAcceptable, schema.BadUserInput, "nothing of what Accept names can be answered: name "+mediaTypes[responseJSON])
	}
	principal, err := h.principal(r)
	if err != nil {
		return explain(err)
	}
	req, f := h.read(w, r)
	if f != nil {
		return f
	}
	session, err := h.cfg.Dispatcher.OpenFor(client, principal)
	if err != nil {
		return explain(err)
	}
	defer session.Close()
	media := accept.forStream()
	var after string
	if media == eventStream {
		after = r.Header.Get("Last-Event-ID")
	}
	resp, err := session.Resume(r.Context(), req.Request, after)
	switch {
	case err != nil && media == eventStream && accept.forResult() == eventStream && ofOperation(err):
		h.tell(r.Context(), w, media, failure(err))
		return nil
	case err != nil:
		return explain(err)
	case resp.Subscription != nil && media == 0:
		return refusal(http.StatusNotAcceptable, schema.BadUserInput, "a subscription is answered by a stream: send Accept: "+
			mediaTypes[eventStream]+", or Accept: "+mediaTypes[multipart]+", or connect with a WebSocket")
	case resp.Subscription != nil:
		h.follow(r.Context(), w, media, resp.Subscription)
		return nil
	}
	media = accept.forResult()
	if media == eventStream || media == multipart {
		h.tell(r.Context(), w, media, resp.Result)
		return nil
	}
	h.answer(w, media, http.StatusOK, resp.Result)
	return nil
}

func (h *Handler) principal(r *http.Request) (*authz.Principal, error) {
	verify := h.cfg.Auth.Anonymous
	if token := fanout.Bearer(r.Header.Get("Authorization")); token != "" {
		verify = func() (*authz.Principal, error) { return h.cfg.Auth.Verify(token) }
	}
	p, err := verify()
	if err != nil {
		h.denied(r, explain(err))
	}
	return p, err
}

// enter counts a request in, and gives a context that Close ends.
func (h *Handler) enter(ctx context.Context, v *visit) (context.Context, func(), bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return nil, nil, false
	}
	ctx, cancel := context.WithCancelCause(ctx)
	v.end = cancel
	h.visits[v] = struct{}{}
	h.running.Add(1)
	return ctx, func() {
		cancel(nil)
		v.client.Close()
		h.mu.Lock()
		delete(h.visits, v)
		h.mu.Unlock()
		h.running.Done()
	}, true
}

// Requests is the number of requests and streams that are being served.
func (h *Handler) Requests() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.visits)
}

// Drain refuses new requests, lets streams take what is queued for them, ends them such that
// clients come back, and returns when they are gone; or soon after ctx ends.
func (h *Handler) Drain(ctx context.Context) error {
	h.stop()
	err := h.cfg.Dispatcher.Drain(ctx)
	h.Close()
	return err
}

// Close ends every stream, such that clients come back, and returns when they are gone. It is
// idempotent.
func (h *Handler) Close() {
	visits, reservations := h.stop()
	for _, v := range visits {
		v.end(fanout.ErrDraining)
	}
	for _, r := range reservations {
		h.lapse(r)
	}
	h.running.Wait()
}

// stop refuses new requests and gives what is there.
func (h *Handler) stop() (visits []*visit, reservations []*reservation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.draining = true
	for v := range h.visits {
		visits = append(visits, v)
	}
	for _, r := range h.reserved {
		reservations = append(reservations, r)
	}
	return visits, reservations
}
