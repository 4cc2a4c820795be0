package authz

import (
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/rowtide/rowtide/schema"
)

// A Limiter holds clients to Limits. What it remembers is bounded by them: counts of what is
// there, and rates of who asked within the last seconds. A nil Limiter bounds nothing.
type Limiter struct {
	limits Limits

	mu      sync.Mutex
	counts  map[meter]int
	rates   map[meter]*rate.Limiter
	sweepAt int // how many rates there are when those that are full again are forgotten
	refused map[Refusal]uint64
	crowd   crowd
}

// A meter is one thing that is bounded: a resource of a scope, and whose.
type meter struct {
	Refusal

	whose string
}

// NewLimiter makes a Limiter.
func NewLimiter(limits Limits) *Limiter {
	return &Limiter{limits: limits, counts: map[meter]int{}, rates: map[meter]*rate.Limiter{}, sweepAt: leastSweep, refused: map[Refusal]uint64{}}
}

// leastSweep is how many rates are not worth looking through.
const leastSweep = 1024

// A Client is one connection, as far as limits and logs are concerned. It must be closed. A nil
// Client is bounded by nothing.
type Client struct {
	// Address is where it comes from: an IP address, or "" where there is none.
	Address string
	// Transport is websocket or http.
	Transport string

	l *Limiter

	mu     sync.Mutex
	whose  [scopes]string
	known  [scopes]bool
	rates  [resources]*rate.Limiter
	taken  []meter // until Close
	closed bool
}

// Connect counts a connection in, or says that it must come back later.
func (l *Limiter) Connect(address, transport string) (*Client, error) {
	c := &Client{Address: address, Transport: transport, l: l}
	if l == nil {
		return c, nil
	}
	c.known[InAll] = true
	if a, err := netip.ParseAddr(address); err == nil && !a.IsLoopback() {
		c.known[PerAddress], c.whose[PerAddress] = true, customer(a)
	}
	for r := range c.rates {
		if n := l.limits[r][PerConnection]; n > 0 && Resource(r).rated() {
			c.rates[r] = newRate(Resource(r), n)
		}
	}
	if err := c.spend(Connects, 1); err != nil {
		return nil, err
	}
	for _, r := range []Resource{Connections, Pending} {
		taken, err := l.take(c.metersLocked(r))
		if err != nil {
			c.Close()
			return nil, err
		}
		c.taken = append(c.taken, taken...)
	}
	return c, nil
}

// customer is what one customer of a provider has: RFC 6177 gives each at least 64 bits.
func customer(a netip.Addr) string {
	a = a.Unmap()
	if a.Is6() {
		if p, err := a.WithZone("").Prefix(64); err == nil {
			return p.String()
		}
	}
	return a.String()
}

func newRate(r Resource, perSecond int) *rate.Limiter {
	if r == Evaluation {
		perSecond *= int(time.Millisecond / unit)
	}
	return rate.NewLimiter(rate.Limit(perSecond), perSecond*r.burst())
}

// Authenticate counts a connection as its principal's.
func (c *Client) Authenticate(p *Principal) error {
	if c == nil || c.l == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known[PerRole] || c.closed {
		return nil
	}
	var whose []meter
	c.known[PerRole], c.whose[PerRole] = true, p.Role
	whose = append(whose, meter{Refusal{Connections, PerRole}, p.Role})
	if p.Subject != "" {
		c.known[PerPrincipal], c.whose[PerPrincipal] = true, p.Role+"\x00"+p.Subject
		whose = append(whose, meter{Refusal{Connections, PerPrincipal}, c.whose[PerPrincipal]})
	}
	taken, err := c.l.take(whose)
	if err != nil {
		return err
	}
	kept := c.taken[:0]
	for _, m := range c.taken {
		if m.Resource == Pending {
			c.l.give(m)
			continue
		}
		kept = append(kept, m)
	}
	c.taken = append(kept, taken...)
	return nil
}

// Operate counts an operation begun, or says when to come back.
func (c *Client) Operate() error {
	if c == nil || c.l == nil {
		return nil
	}
	return c.spend(Operations, 1)
}

// Subscribe counts a subscription in. Where it gives none, Unsubscribe must be called.
func (c *Client) Subscribe() error {
	if c == nil || c.l == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.l.take(c.metersLocked(Subscriptions))
	return err
}

// Unsubscribe counts a subscription out.
func (c *Client) Unsubscribe() {
	if c == nil || c.l == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.l.give(c.metersLocked(Subscriptions)...)
}

// Wait counts n of a rated resource, and gives how long to read nothing more.
func (c *Client) Wait(r Resource, n int) time.Duration {
	if c == nil || c.l == nil {
		return 0
	}
	now := time.Now()
	var wait time.Duration
	c.mu.Lock()
	own, meters := c.rates[r], c.metersLocked(r)
	c.mu.Unlock()
	if own != nil {
		wait = delay(own, now, n)
		c.l.note(Refusal{r, PerConnection}, wait > 0)
	}
	for _, m := range meters {
		c.l.mu.Lock()
		d := delay(c.l.rateLocked(m), now, n)
		c.l.mu.Unlock()
		c.l.note(m.Refusal, d > 0)
		wait = max(wait, d)
	}
	return wait
}

// Afford says when to come back, where more of a rated resource was taken than there is.
func (c *Client) Afford(r Resource) error {
	if c == nil || c.l == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	debt := func(of *rate.Limiter, which Refusal) error {
		left := of.TokensAt(now)
		if left >= 0 {
			return nil
		}
		return l.refuseLocked(which, l.limits[r][which.Scope], time.Duration(-left/float64(of.Limit())*float64(time.Second)))
	}
	if own := c.rates[r]; own != nil {
		if err := debt(own, Refusal{r, PerConnection}); err != nil {
			return err
		}
	}
	for _, m := range c.metersLocked(r) {
		if err := debt(l.rateLocked(m), m.Refusal); err != nil {
			return err
		}
	}
	return nil
}

func delay(l *rate.Limiter, now time.Time, n int) time.Duration {
	r := l.ReserveN(now, min(n, l.Burst()))
	return r.DelayFrom(now)
}

// Close counts the connection out. It is idempotent.
func (c *Client) Close() {
	if c == nil || c.l == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.l.give(c.taken...)
	c.taken = nil
}

// metersLocked are those that a resource of this connection counts on, but for its own.
func (c *Client) metersLocked(r Resource) []meter {
	var out []meter
	for s := PerAddress; s < scopes; s++ {
		if c.known[s] && c.l.limits[r][s] > 0 {
			out = append(out, meter{Refusal{r, s}, c.whose[s]})
		}
	}
	return out
}

// spend takes n of a rated resource at once, in all scopes or none.
func (c *Client) spend(r Resource, n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	l := c.l
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	spent := make([]*rate.Reservation, 0, scopes)
	try := func(of *rate.Limiter, which Refusal) error {
		left := of.ReserveN(now, n)
		wait := left.DelayFrom(now)
		if wait == 0 {
			spent = append(spent, left)
			return nil
		}
		left.CancelAt(now)
		for _, s := range spent {
			s.CancelAt(now)
		}
		return l.refuseLocked(which, l.limits[r][which.Scope], wait)
	}
	if own := c.rates[r]; own != nil {
		if err := try(own, Refusal{r, PerConnection}); err != nil {
			return err
		}
	}
	for _, m := range c.metersLocked(r) {
		if err := try(l.rateLocked(m), m.Refusal); err != nil {
			return err
		}
	}
	return nil
}

// take counts one on each meter, or on none.
func (l *Limiter) take(meters []meter) ([]meter, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range meters {
		if most := l.limits[m.Resource][m.Scope]; most > 0 && l.counts[m] >= most {
			return nil, l.refuseLocked(m.Refusal, most, 0)
		}
	}
	for _, m := range meters {
		l.counts[m]++
	}
	return meters, nil
}

func (l *Limiter) give(meters ...meter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range meters {
		if l.counts[m]--; l.counts[m] <= 0 {
			delete(l.counts, m)
		}
	}
}

// rateLocked gives the rate of a meter. Those that are full again are forgotten from time to
// time: they would come back the same.
func (l *Limiter) rateLocked(m meter) *rate.Limiter {
	if r := l.rates[m]; r != nil {
		return r
	}
	if len(l.rates) >= l.sweepAt {
		for k, r := range l.rates {
			if r.Tokens() >= float64(r.Burst()) {
				delete(l.rates, k)
			}
		}
		l.sweepAt = max(leastSweep, 2*len(l.rates))
	}
	r := newRate(m.Resource, l.limits[m.Resource][m.Scope])
	l.rates[m] = r
	return r
}

func (l *Limiter) note(which Refusal, refused bool) {
	if !refused {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refused[which]++
}

// comeBack is when to try again where nobody knows when there is room.
const comeBack = 5 * time.Second

func (l *Limiter) refuseLocked(which Refusal, most int, wait time.Duration) error {
	l.refused[which]++
	e := &schema.Error{Code: schema.LimitExceeded, RetryAfter: comeBack}
	whose := [scopes]string{"this connection", "this address", "this user", "this role", "the server"}[which.Scope]
	if which.Resource.rated() {
		e.Code, e.RetryAfter = schema.RateLimited, max(time.Second, wait)
		what := which.Resource.String()
		if which.Resource == Replayed {
			what = "changes replayed"
		}
		e.Message = fmt.Sprintf("too many %s a second for %s: come back in %d s", what, whose, seconds(e.RetryAfter))
	} else {
		e.Message = fmt.Sprintf("%s has %d %s, as many as it may: come back in %d s", whose, most, which.Resource, seconds(e.RetryAfter))
	}
	return e
}

func seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
