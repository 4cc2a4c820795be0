package authz

import "time"

// unit is what evaluation is counted in.
const unit = time.Microsecond

// mostDebt bounds what one evaluation can cost, in bursts: what takes longer has timed out.
const mostDebt = 12

// crowded is how long somebody else counts as waiting behind whoever is evaluated.
const crowded = 5 * time.Second

// A crowd remembers who was evaluated last, so that somebody alone is told from one of several.
type crowd struct {
	last, other         payer
	lastSeen, otherSeen time.Time
}

// see notes somebody.
func (c *crowd) see(who payer, now time.Time) {
	if who != c.last {
		c.other, c.otherSeen = c.last, c.lastSeen
		c.last = who
	}
	c.lastSeen = now
}

// besides tells whether somebody other than one was there lately.
func (c *crowd) besides(who payer, now time.Time) bool {
	seen := c.lastSeen
	if who == c.last {
		seen = c.otherSeen
	}
	return now.Sub(seen) < crowded
}

// A payer is who pays for an evaluation: all who have no subject together.
type payer struct{ role, subject string }

func payerOf(p *Principal) payer { return payer{p.Role, p.Subject} }

// See notes that images are judged for principals, some of them or all.
func (l *Limiter) See(some ...*Principal) {
	if l == nil || len(some) == 0 {
		return
	}
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range some {
		l.crowd.see(payerOf(p), now)
	}
}

// Spend counts time that was spent on deciding what a principal sees: of Postgres on policies and
// filters, and of the process where that is worth measuring. It is counted behind the fact.
func (l *Limiter) Spend(p *Principal, took time.Duration) {
	if l == nil || took <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, m := range l.budgetsLocked(p) {
		r := l.rateLocked(m)
		for left := min(int(took/unit), mostDebt*r.Burst()); left > 0; left -= r.Burst() {
			r.ReserveN(now, min(left, r.Burst()))
		}
	}
}

// Overspent tells whether a principal has spent more than it may while others were to be judged
// too. Whoever is alone keeps nobody waiting.
func (l *Limiter) Overspent(p *Principal) bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, m := range l.budgetsLocked(p) {
		if l.rates[m] != nil && l.rates[m].TokensAt(now) < 0 && l.crowd.besides(payerOf(p), now) {
			l.refused[m.Refusal]++
			return true
		}
	}
	return false
}

func (l *Limiter) budgetsLocked(p *Principal) []meter {
	var out []meter
	if l.limits[Evaluation][PerPrincipal] > 0 {
		out = append(out, meter{Refusal{Evaluation, PerPrincipal}, p.Role + "\x00" + p.Subject})
	}
	if l.limits[Evaluation][PerRole] > 0 {
		out = append(out, meter{Refusal{Evaluation, PerRole}, p.Role})
	}
	return out
}

// A Budget is what time for deciding is drawn from. *Limiter is one.
type Budget interface {
	// See notes who is judged, Spend what that took, and Overspent tells who has to wait.
	See(some ...*Principal)
	Spend(p *Principal, took time.Duration)
	Overspent(p *Principal) bool
}
