package graphqlhttp

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// How a request names its stream (PROTOCOL.md, "Making reservations"), and what our names look
// like, to tell them from tokens of other kinds.
const (
	streamTokenHeader    = "X-GraphQL-Event-Stream-Token" //nolint:gosec // the name of a header
	streamTokenParameter = "token"
	streamTokenLength    = 26 // of rand.Text: 128 bits and more
)

// A reservation is a stream in single connection mode, from the PUT that asks for it until the
// stream has ended.
type reservation struct {
	token     string
	principal *authz.Principal
	session   *fanout.Session
	client    *authz.Client
	lapsing   *time.Timer
	taken     bool // under Handler.mu: by its stream, or by its end
	// fresh has a token when there are operations to begin.
	fresh chan struct{}

	mu      sync.Mutex
	over    bool
	ops     map[string]*operation
	waiting []*operation // not begun
}

// An operation is one of a reservation's, under its id.
type operation struct {
	id     string
	quoted string
	// These two are under reservation.mu until it begins.
	sub    *fanout.Subscription // nil for a query
	result []byte               // of a query
}

func isStreamToken(s string) bool {
	return len(s) == streamTokenLength && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// streamToken gives the name of a request's stream, and whether it has one.
func streamToken(r *http.Request) (string, bool) {
	token := r.Header.Get(streamTokenHeader)
	if token == "" {
		token = r.URL.Query().Get(streamTokenParameter)
	}
	return token, token != ""
}

// reserve answers PUT.
func (h *Handler) reserve(w http.ResponseWriter, r *http.Request, v *visit) *fault {
	principal, err := h.principal(r)
	if err != nil {
		return explain(err)
	}
	session, err := h.cfg.Dispatcher.OpenFor(v.client, principal)
	if err != nil {
		return explain(err)
	}
	s := &reservation{
		token: rand.Text(), principal: principal, session: session, client: v.client,
		fresh: make(chan struct{}, 1), ops: map[string]*operation{},
	}
	if f := h.keep(s); f != nil {
		s.session.Close()
		return f
	}
	v.client = nil // it is the stream's
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write([]byte(s.token)) // to a client that is gone
	return nil
}

// keep holds a reservation until its stream comes, or for as long as it may take.
func (h *Handler) keep(s *reservation) *fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.draining {
		return explain(fanout.ErrDraining)
	}
	if h.waiting >= h.cfg.Reservations {
		return explain(&schema.Error{Code: schema.RateLimited, Message: "too many streams are reserved: come back in a second", RetryAfter: time.Second})
	}
	h.waiting++
	h.reserved[s.token] = s
	s.lapsing = time.AfterFunc(h.cfg.ReserveTimeout, func() { h.lapse(s) })
	return nil
}

// lapse ends a reservation that no stream has taken.
func (h *Handler) lapse(s *reservation) {
	if h.take(s) {
		h.release(s)
	}
}

// take takes a reservation, for its stream or to end it. Only one can.
func (h *Handler) take(s *reservation) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.taken {
		return false
	}
	s.taken = true
	h.waiting--
	s.lapsing.Stop()
	return true
}

// release forgets a reservation that was taken, and ends what belongs to it.
func (h *Handler) release(s *reservation) {
	h.mu.Lock()
	delete(h.reserved, s.token)
	h.mu.Unlock()
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.session.Close()
	s.client.Close()
}

func noStream() *fault {
	return refusal(http.StatusNotFound, schema.BadUserInput, "stream not found: reserve one with PUT")
}

// find gives the stream that a request names, if it is the request's to use. Whoever reserved
// it may; of one who sends no token but the stream's (a browser's EventSource cannot), only the
// stream itself is taken.
func (h *Handler) find(r *http.Request, token string, bare bool) (*reservation, *fault) {
	h.mu.Lock()
	s := h.reserved[token]
	h.mu.Unlock()
	if s == nil {
		return nil, noStream()
	}
	if bare && r.Header.Get("Authorization") == "" {
		return s, nil
	}
	p, err := h.principal(r)
	switch {
	case err != nil:
		return nil, explain(err)
	case p.Role != s.principal.Role || p.Subject != s.principal.Subject:
		return nil, explain(fanout.ErrOtherSubject)
	}
	return s, nil
}

// connect serves a reserved stream until it ends.
func (h *Handler) connect(w http.ResponseWriter, r *http.Request, token string) *fault {
	s, f := h.find(r, token, true)
	if f != nil {
		return f
	}
	if !h.take(s) {
		return refusal(http.StatusConflict, schema.BadUserInput, "stream is open already")
	}
	defer h.release(s)
	out, ctx, done := h.open(r.Context(), w, events{})
	defer done()
	s.run(ctx, out)
	out.finish(context.Cause(ctx))
	return nil
}

// run writes what a reservation's operations have to say until ctx ends.
func (s *reservation) run(ctx context.Context, out *stream) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.session.Ended():
			out.lose(s.session.Err())
			return
		case <-s.fresh:
		}
		s.mu.Lock()
		ops := s.waiting
		s.waiting = nil
		s.mu.Unlock()
		for _, op := range ops {
			wg.Go(func() { s.pump(ctx, out, op) })
		}
	}
}

// pump writes one operation's results until it ends.
func (s *reservation) pump(ctx context.Context, out *stream, op *operation) {
	if op.sub == nil {
		s.write(out, op, [][]byte{op.result}, true)
		return
	}
	defer op.sub.Close()
	for {
		payloads, err := op.sub.Next(ctx)
		switch {
		case err == nil:
			if !s.write(out, op, payloads, false) {
				return
			}
		case ofOperation(err):
			s.write(out, op, [][]byte{failure(err)}, true)
			return
		default:
			left := s.remove(op)
			if !errors.Is(err, fanout.ErrClosed) && (left == 0 || !errors.Is(err, fanout.ErrDraining)) {
				out.lose(err) // it is about all of them; those that drain get what is queued first
			}
			return
		}
	}
}

// write writes results of an operation that has not been ended, and whether that is so.
func (s *reservation) write(out *stream, op *operation, payloads [][]byte, last bool) bool {
	out.mu.Lock()
	defer out.mu.Unlock()
	if !s.has(op) {
		return false
	}
	for _, p := range payloads {
		out.buf = appendNextOf(out.buf, op.quoted, p)
		out.spillLocked()
	}
	if last {
		out.buf = appendCompleteOf(out.buf, op.quoted)
		s.remove(op)
	}
	out.flushLocked()
	return true
}

func (s *reservation) has(op *operation) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ops[op.id] == op
}

// remove frees an operation's id and tells how many are left.
func (s *reservation) remove(op *operation) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ops[op.id] == op {
		delete(s.ops, op.id)
	}
	return len(s.ops)
}

// operate begins an operation on a stream that is reserved or open.
func (h *Handler) operate(w http.ResponseWriter, r *http.Request, token string) *fault {
	s, f := h.find(r, token, false)
	if f != nil {
		return f
	}
	req, f := h.read(w, r)
	if f != nil {
		return f
	}
	op := &operation{id: req.operationID, quoted: quote(req.operationID)}
	if f := s.add(op, h.cfg.Subscriptions); f != nil {
		return f
	}
	resp, err := s.session.Subscribe(r.Context(), req.Request)
	if err != nil {
		s.remove(op)
		if errors.Is(err, fanout.ErrClosed) {
			return noStream()
		}
		return &fault{status: fanout.Explain(err).Status, err: err} // only 202 says that it runs
	}
	if !s.begin(op, resp) { // it was ended meanwhile
		if resp.Subscription != nil {
			resp.Subscription.Close()
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// add takes an operation's id.
func (s *reservation) add(op *operation, limit int) *fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case op.id == "":
		return badRequest("extensions.operationId is missing")
	case s.over:
		return noStream()
	case s.ops[op.id] != nil:
		return refusal(http.StatusConflict, schema.BadUserInput, "an operation with this id is there already")
	case len(s.ops) >= limit:
		return refusal(http.StatusUnprocessableEntity, schema.LimitExceeded,
			fmt.Sprintf("a stream may have %d operations at once: complete one first", limit))
	}
	s.ops[op.id] = op
	return nil
}

// begin hands an operation to its stream, unless it was ended.
func (s *reservation) begin(op *operation, resp fanout.Response) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.ops[op.id] != op {
		return false
	}
	op.sub, op.result = resp.Subscription, resp.Result
	s.waiting = append(s.waiting, op)
	select {
	case s.fresh <- struct{}{}:
	default:
	}
	return true
}

// complete answers DELETE: it ends an operation.
func (h *Handler) complete(w http.ResponseWriter, r *http.Request, token string) *fault {
	s, f := h.find(r, token, false)
	if f != nil {
		return f
	}
	id := r.URL.Query().Get("operationId")
	if id == "" {
		return badRequest("operationId is missing from the URL")
	}
	s.mu.Lock()
	var sub *fanout.Subscription
	if op := s.ops[id]; op != nil {
		sub = op.sub
	}
	delete(s.ops, id)
	s.mu.Unlock()
	if sub != nil {
		sub.Close()
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
