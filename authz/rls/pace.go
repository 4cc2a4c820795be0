package rls

import "time"

// A policy that takes as long as it may, for one principal, holds up everybody whose changes wait
// behind. How long a plan's policies usually take is known from those that were answered: an
// evaluation may take many times that, and where nothing is known, as long as is configured.
//
// The budget (budget.go) does not do this: it counts what was spent, behind the fact, and a policy that asks much of
// everybody may spend it rightly. Nor does the pace do what the budget does: who always stays just below it is never late.
const (
	paceTimes = 16
	// leastLimit allows for a server that is busy with something else; what is asked again gets more.
	leastLimit = 500 * time.Millisecond
	// paceStep bounds what one answer changes: a principal whose policies are slow, but not too slow, among others
	// whose are not, does not make for more patience.
	paceStep = 8
)

// limit is how long a statement may take that evaluates a number of images.
func (g *Postgres) limit(p *plan, images int, again bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := g.cfg.StatementTimeout
	if p.pace == 0 {
		return most
	}
	limit := max(paceTimes*p.pace*time.Duration(images), leastLimit)
	if again {
		limit *= 2
	}
	return min(limit, most)
}

// teach tells the plan how long a round took, of all of it together: what waits to be read is
// read in no time.
func (r *round) teach(p *plan, asks []ask) {
	var took time.Duration
	images := 0
	for i, a := range r.answers {
		if a.err != nil && a.err.Code == queryCanceled {
			return
		}
		took += a.took
		images += max(asks[i].images, 1)
	}
	if images > 0 && !r.poisoned {
		p.took(took, images)
	}
}

// took learns from answers about a number of images.
func (p *plan) took(d time.Duration, images int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one := max(d/time.Duration(images), time.Microsecond)
	if p.pace == 0 {
		p.pace = one
		return
	}
	step := max(p.pace/paceStep, time.Microsecond)
	p.pace += min(max(one-p.pace, -step), step)
	p.pace = max(p.pace, time.Microsecond)
}
