package fanout

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// A Session is one client connection: a principal, and subscriptions that share a bound on what
// waits to be sent.
type Session struct {
	d      *Dispatcher
	id     uint64
	client *authz.Client // nil for one without limits
	opened time.Time
	limit  int
	// single tells that the session ends with its one subscription.
	single bool

	mu        sync.Mutex
	principal *authz.Principal
	expiry    *time.Timer     // nil for a principal that does not expire
	subs      []*Subscription // each knows its seat; a map would be larger
	err       error           // why it ended
	// ended and onEnd tell of the end; nil while nobody asks for that.
	ended    chan struct{}
	onEnd    func()
	deadline time.Time
	// used is the size of what waits, and of what was taken and perhaps not sent. freed is
	// closed when it falls; nil while nobody waits for that.
	used  int
	freed chan struct{}
}

// A Response is what a request gave: the result of a query, or a subscription.
type Response struct {
	Result       []byte
	Subscription *Subscription
}

// Open begins a session that is held to no limits of its client. It must be closed.
func (d *Dispatcher) Open(p *authz.Principal) *Session { return d.openSession(nil, p) }

// OpenFor begins a session for a client, which becomes its principal's; its error says when to
// come back. The session must be closed.
func (d *Dispatcher) OpenFor(c *authz.Client, p *authz.Principal) (*Session, error) {
	if err := c.Authenticate(p); err != nil {
		d.audit(authz.Record{Event: authz.EventDeny, Reason: "limit"}, c, p)
		return nil, err
	}
	s := d.openSession(c, p)
	// Behind the roster: who is revoked at this moment is found there, or here.
	if d.revoked(c, p) {
		s.Close()
		return nil, ErrRevoked
	}
	d.audit(authz.Record{Event: authz.EventConnect}, c, p)
	return s, nil
}

func (d *Dispatcher) revoked(c *authz.Client, p *authz.Principal) bool {
	if d.cfg.Revoked == nil || !d.cfg.Revoked(p) {
		return false
	}
	d.audit(authz.Record{Event: authz.EventDeny, Reason: "revoked"}, c, p)
	return true
}

func (d *Dispatcher) openSession(c *authz.Client, p *authz.Principal) *Session {
	s := &Session{d: d, client: c, opened: time.Now(), limit: d.cfg.Limits.QueueBytes}
	d.roster.enter(s)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.setPrincipalLocked(p)
	return s
}

// Ended is closed when the session ends: Err then says why.
func (s *Session) Ended() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended == nil {
		s.ended = make(chan struct{})
		if s.err != nil {
			close(s.ended)
		}
	}
	return s.ended
}

// OnEnd has f called, in a goroutine of its own, when the session ends, for whatever reason: Err
// then says why. It is called once at most.
func (s *Session) OnEnd(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		go f()
		return
	}
	s.onEnd = f
}

// Err is why the session sends nothing more, or nil.
func (s *Session) Err() error { return s.check() }

// setPrincipalLocked arms the expiry with a timer of the monotonic clock: a wall clock that is
// set back does not keep a session alive.
func (s *Session) setPrincipalLocked(p *authz.Principal) {
	if s.expiry != nil {
		s.expiry.Stop()
		s.expiry = nil
	}
	s.principal, s.deadline = p, time.Time{}
	if !p.Expires.IsZero() {
		left := p.Expires.Sub(s.d.cfg.Now())
		s.deadline = time.Now().Add(left)
		s.expiry = time.AfterFunc(left, func() { s.expire(p) })
	}
}

// check tells why the session sends nothing more, or nil. It does not rely on the timer having
// run.
func (s *Session) check() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.checkLocked()
}

func (s *Session) checkLocked() error {
	if s.err == nil && !s.deadline.IsZero() && !time.Now().Before(s.deadline) {
		return ErrExpired
	}
	return s.err
}

func (s *Session) expire(p *authz.Principal) {
	s.mu.Lock()
	if s.principal != p { // refreshed at the last moment
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	s.end(ErrExpired)
}

// end ends the session and its subscriptions at once. The first end counts.
func (s *Session) end(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		if s.ended != nil {
			close(s.ended)
		}
		if s.onEnd != nil {
			go s.onEnd()
		}
	}
	if s.expiry != nil {
		s.expiry.Stop()
	}
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	for _, sub := range subs {
		sub.end(err, atOnce)
	}
}

// Close ends the session and closes its subscriptions. It is idempotent.
func (s *Session) Close() {
	s.end(ErrClosed)
	s.mu.Lock()
	subs := s.subs
	s.subs = nil
	s.mu.Unlock()
	for _, sub := range subs {
		s.d.registry.remove(sub)
		s.client.Unsubscribe()
	}
	s.d.roster.leave(s)
}

// Principal is the session's present principal.
func (s *Session) Principal() *authz.Principal {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.principal
}

// Refresh goes on with a newer token of the same subject and role, and is ErrOtherSubject for
// any other. Where the new one's claims differ in more than the token's own life, what the
// subscriptions see may differ too: they resync.
func (s *Session) Refresh(p *authz.Principal) error {
	if s.d.revoked(s.client, p) {
		return ErrRevoked
	}
	s.mu.Lock()
	old := s.principal
	switch err := s.checkLocked(); {
	case err != nil:
		s.mu.Unlock()
		return err
	case p.Role != old.Role || p.Subject != old.Subject || p.Subject == "":
		s.mu.Unlock()
		s.d.audit(authz.Record{Event: authz.EventDeny, Reason: "other_subject"}, s.client, old)
		return ErrOtherSubject
	}
	s.setPrincipalLocked(p)
	subs := slices.Clone(s.subs)
	s.mu.Unlock()
	s.d.audit(authz.Record{Event: authz.EventRefresh}, s.client, p)
	same := sameClaims(old, p)
	for _, sub := range subs {
		sub.setPrincipal(p)
		s.d.registry.moves(sub)
		if !same {
			s.d.resync(sub, reasonPolicy)
		}
	}
	return nil
}

// Subscribe runs a request: a query at once, a subscription until it is closed or ends. Errors
// are for the client.
func (s *Session) Subscribe(ctx context.Context, req schema.Request) (Response, error) {
	return s.d.subscribe(ctx, s, req, "", nil)
}

// SubscribeFor is Subscribe, but the subscription is read by Take, when its Waker was told to. A
// transport without a goroutine for each subscription reads that way.
func (s *Session) SubscribeFor(ctx context.Context, req schema.Request, w Waker) (Response, error) {
	return s.d.subscribe(ctx, s, req, "", w)
}

// Resume is Subscribe behind a cursor that a transport brings beside the request: it stands in
// place of the operation's argument after. "" is none.
func (s *Session) Resume(ctx context.Context, req schema.Request, after string) (Response, error) {
	return s.d.subscribe(ctx, s, req, after, nil)
}

// add makes a subscription the session's, and the session's principal its own.
func (s *Session) add(sub *Subscription) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.checkLocked(); err != nil {
		return err
	}
	if err := s.client.Subscribe(); err != nil {
		return err
	}
	sub.view.principal = s.principal // nobody else knows sub yet
	sub.seat = int32(len(s.subs))    //nolint:gosec // a count
	s.subs = append(s.subs, sub)
	return nil
}

func (s *Session) remove(sub *Subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int(sub.seat) >= len(s.subs) || s.subs[sub.seat] != sub {
		return // it has gone already
	}
	last := len(s.subs) - 1
	s.subs[sub.seat], s.subs[last].seat = s.subs[last], sub.seat
	s.subs[last] = nil
	s.subs = s.subs[:last]
	s.client.Unsubscribe()
}

// reserve takes room for n bytes, or tells that there is none. One frame that is larger than the
// bound passes alone.
func (s *Session) reserve(n int, one bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used+n > s.limit && (s.used > 0 || !one) {
		return false
	}
	s.used += n
	return true
}

// await takes room for n bytes of what can wait, which gets half of the queue.
func (s *Session) await(ctx context.Context, n int) error {
	for {
		s.mu.Lock()
		if s.used == 0 || s.used+n <= s.limit/2 {
			s.used += n
			s.mu.Unlock()
			return nil
		}
		if s.freed == nil {
			s.freed = make(chan struct{})
		}
		freed := s.freed
		s.mu.Unlock()
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (s *Session) free(n int) {
	if n == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.used -= n
	if s.freed != nil {
		close(s.freed)
		s.freed = nil
	}
}
