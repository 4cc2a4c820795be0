package rls

import (
	"context"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// A policy that times out, or ends the connection, holds up everybody whose changes wait behind.
// So it is not asked again for a while, and who needs it resyncs at once: a principal whose
// evaluation failed, and all principals of a plan of which so many failed in a row, where nobody was
// answered lately: else whoever has a few subjects could have everybody suspended. When the while
// is over one image is asked about aside, with nobody waiting; only its answer ends the suspension.
const (
	maxFailures    = 3
	lately         = 5 * time.Second
	firstBackOff   = time.Second
	longestBackOff = time.Minute
	// maxBreakers bounds the principals that are remembered to have failed.
	maxBreakers = 10_000
)

// A breaker is what is remembered of failures: there is none where the last evaluation succeeded.
type breaker struct {
	failures int
	until    time.Time
	trying   bool
}

// A breakerKey is a plan, and one principal or all of them.
type breakerKey struct {
	plan *plan
	one  authz.Key
}

type breakers struct {
	mu     sync.Mutex
	failed map[breakerKey]*breaker
	// proven are the plans that were evaluated in time since they last failed.
	proven map[*plan]bool
	// answered is when they last were.
	answered map[*plan]time.Time

	// trials are asked one at a time, so that they leave the connections to others.
	trials sync.WaitGroup
	turn   chan struct{}
	closed chan struct{}
}

func newBreakers() *breakers {
	return &breakers{failed: map[breakerKey]*breaker{}, proven: map[*plan]bool{}, answered: map[*plan]time.Time{}, turn: make(chan struct{}, 1), closed: make(chan struct{})}
}

// close ends the trials.
func (b *breakers) close() {
	b.mu.Lock()
	if !b.closing() {
		close(b.closed)
	}
	b.mu.Unlock()
	b.trials.Wait()
}

func (b *breakers) closing() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

func (b *breakers) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.failed)
	clear(b.proven)
	clear(b.answered)
}

// suspended decides that nothing is known of a task whose policies, or whose principal's, are
// suspended.
func (g *Postgres) suspended(j *judgement, t *task) bool {
	due, suspended := g.breakers.check(t)
	if !suspended {
		return false
	}
	if due {
		g.try(j, t)
	}
	j.decide(t, nil, authz.Undecided, "policy_suspended", "")
	return true
}

// check tells whether a task is suspended, and whether it is to be tried aside. For that one it
// counts as being tried from then on.
func (b *breakers) check(t *task) (due, suspended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	for _, key := range []breakerKey{{t.plan, authz.Key{}}, {t.plan, t.as.principal.Key()}} {
		k := b.failed[key]
		if k == nil || key.one == (authz.Key{}) && k.failures < maxFailures {
			continue
		}
		suspended = true
		if !k.trying && now.After(k.until) && !b.closing() {
			k.trying, due = true, true
			return due, suspended
		}
	}
	return false, suspended
}

// try asks about one image aside.
func (g *Postgres) try(j *judgement, t *task) {
	b := g.breakers
	aside := g.judgement(authz.Question{
		XID: j.q.XID, Commit: j.q.Commit, Table: j.q.Table, Images: []cdc.Row{j.q.Images[t.images[0]]}, Principals: []*authz.Principal{t.as.principal},
	})
	aside.aside = true
	one := &task{as: newActor(t.as.principal, g.path), plan: t.plan, eval: t.eval, out: make([]authz.Verdict, 1), images: []int{0}}
	one.chunks = aside.pack(one.images)
	ctx, cancel := context.WithCancel(context.Background())
	b.trials.Go(func() {
		select {
		case <-b.closed:
			cancel()
		case <-ctx.Done():
		}
	})
	b.trials.Go(func() {
		defer cancel()
		select {
		case b.turn <- struct{}{}:
		case <-ctx.Done():
			return
		}
		defer func() { <-b.turn }()
		g.judge(ctx, aside, []*task{one}, false)
		b.note(one)
		aside.audit.flush()
	})
}

// note takes what came of asking.
func (b *breakers) note(t *task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	everybody, one := breakerKey{plan: t.plan}, breakerKey{t.plan, t.as.principal.Key()}
	switch {
	case t.failed:
		b.proven[t.plan] = false
		if time.Since(b.answered[t.plan]) > lately {
			b.fail(everybody)
		}
		b.fail(one)
	case t.answered:
		b.proven[t.plan], b.answered[t.plan] = true, time.Now()
		delete(b.failed, everybody)
		delete(b.failed, one)
	default: // nobody knows: another time
		for _, key := range []breakerKey{everybody, one} {
			if k := b.failed[key]; k != nil {
				k.trying = false
			}
		}
	}
}

func (b *breakers) fail(key breakerKey) {
	k := b.failed[key]
	if k == nil {
		if len(b.failed) >= maxBreakers {
			clear(b.failed)
		}
		k = &breaker{}
		b.failed[key] = k
	}
	k.failures++
	k.trying = false
	k.until = time.Now().Add(min(firstBackOff<<min(k.failures-1, 10), longestBackOff))
}

// prove asks for one principal after another as long as nobody knows whether the policies are
// evaluated in time: a timeout for each of many would take as long as all of them together. It
// gives the tasks that are left.
func (g *Postgres) prove(ctx context.Context, j *judgement, tasks []*task) []*task {
	var rest []*task
	for i, t := range tasks {
		switch {
		case g.breakers.isProven(t.plan):
			rest = append(rest, t)
		case g.suspended(j, t): //nolint:contextcheck // nobody waits for what is tried aside
			j.follow(t)
		default:
			g.judge(ctx, j, []*task{t}, false)
			g.finish(j, t)
			if !t.answered && !t.failed { // that says nothing of the policies
				return append(rest, tasks[i+1:]...)
			}
		}
	}
	return rest
}

// finish takes what came of a task.
func (g *Postgres) finish(j *judgement, t *task) {
	g.breakers.note(t)
	if t.fast != nil {
		g.reconcile(j, t)
	}
	j.follow(t)
}

func (b *breakers) isProven(p *plan) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.proven[p]
}

// suspensions counts what is suspended.
func (b *breakers) suspensions() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for key, k := range b.failed {
		if key.one != (authz.Key{}) || k.failures >= maxFailures {
			n++
		}
	}
	return n
}
