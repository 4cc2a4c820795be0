package rls

import "time"

// A policy that takes as long as it may, for one principal, holds up everybody whose changes wait
// behind. How long a plan's policies usually take is known from those that were answered: an
// evaluation may take many times that, and where nothing is known, as long as is configured.
const (
	paceTimes = 16
	// leastLimit allows for a server that is busy with something else.
	leastLimit = 200 * time.Millisecond
	// paceStep bounds what one answer changes: a principal whose policies are slow, but not too slow, among others
	// whose are not, does not make for more patience.
	paceStep = 8
)

// limit is how long a statement may take that evaluates a number of images.
func (g *Postgres) limit(p *plan, images int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	most := g.cfg.StatementTimeout
	if p.pace == 0 {
		return most
	}
	return min(max(paceTimes*p.pace*time.Duration(images), leastLimit), most)
}

// took learns from an answer about a number of images.
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
