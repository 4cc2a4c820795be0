package rls

import (
	"time"

	"github.com/rowtide/rowtide/authz"
)

// What evaluation costs is charged to whom it is for: the time of Postgres by the replies, which
// come one by one; that of compiled policies where there are many images at once. Who has spent
// more than it may is not evaluated while others would have to wait (S72).

// see notes who is judged: two of them are enough to tell one alone from several.
func (g *Postgres) see(q *authz.Question) {
	g.cfg.Budget.See(q.Principals[:min(2, len(q.Principals))]...)
}

// overspent decides that nobody looks at a task's images now.
func (g *Postgres) overspent(j *judgement, t *task) bool {
	if !g.cfg.Budget.Overspent(t.as.principal) {
		return false
	}
	j.decide(t, nil, authz.Overspent, "evaluation_budget", "")
	return true
}

// charge divides what each answer took among those who are answered by it.
func (g *Postgres) charge(asks []ask, answers []answer) {
	for i, a := range answers {
		as := asks[i].as
		if as == nil {
			continue
		}
		share := a.took / time.Duration(1+len(as.alike))
		g.cfg.Budget.Spend(as.principal, share)
		for _, p := range as.alike {
			g.cfg.Budget.Spend(p, share)
		}
	}
}

// manyImages is how many evaluations in process are worth looking at the clock for.
const manyImages = 64

// timed has evaluation in process charged to its principal.
func (g *Postgres) timed(t *task, evaluate func() []int) []int {
	if len(t.images) < manyImages {
		return evaluate()
	}
	began := time.Now()
	defer func() { g.cfg.Budget.Spend(t.as.principal, time.Since(began)) }()
	return evaluate()
}
