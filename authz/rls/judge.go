package rls

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowtide/rowtide/authz"
)

const (
	// chunkImages and chunkBytes bound what one statement evaluates: it has to end within its
	// timeout, and what is under way has to fit into memory.
	chunkImages = 512
	chunkBytes  = 1 << 20
	// groupPrincipals bounds the principals that are judged in one transaction, which keeps
	// vacuum waiting.
	groupPrincipals = 32
	// groupLeast is the least work that a second connection is worth.
	groupLeast = 8
)

// A judgement is one Question on its way to the verdicts.
type judgement struct {
	q        authz.Question
	verdicts [][]authz.Verdict
	// known are the images that are known well enough to be judged, and records their text,
	// made when it is first needed.
	known   []int
	records map[int][]byte
	// chunks are those of all known images, made when they are first needed.
	chunks []chunk
	// visible is set once the transaction is seen: it stays so.
	visible  atomic.Bool
	deadline time.Time
	audit    *tally
	// rows are what predicates need of the known images, whoever asks.
	rows map[*predicate]ofRows
	// aside tells that nobody waits.
	aside bool
}

// A chunk is some of the question's images, ready to send.
type chunk struct {
	images []int
	param  []byte
}

// A task is what is to be asked for one principal.
type task struct {
	as   *actor
	plan *plan
	// eval is the plan's statement, of the principal's role.
	eval statementKey
	// out are the verdicts on the images.
	out []authz.Verdict
	// images are those to ask Postgres about, and chunks the same ready to send.
	images []int
	chunks []chunk
	// fast are the verdicts that were reached in process, where Postgres is asked all the same.
	fast []authz.Verdict
	// answered and failed tell what came of asking: that a policy was evaluated, that it took
	// too long or ended the session.
	answered, failed bool
	// followers are tasks of principals whom the policies treat alike: they get the same. Notes
	// are what was audited, for them too.
	followers []*task
	notes     []note
}

// Judge gives the verdict of each principal on each image: [principal][image]. Its error is
// that of ctx: all else makes verdicts Hidden or Undecided.
//
// It asks once for each principal: who judges for many connections with the same
// authz.Principal.Key asks for one of them.
func (g *Postgres) Judge(ctx context.Context, q authz.Question) ([][]authz.Verdict, error) {
	j := g.judgement(q)
	defer j.audit.flush()
	g.see(&q)
	j.findKnown()
	tasks := g.prove(ctx, j, g.share(g.tasks(j))) //nolint:contextcheck // nobody waits for what is tried aside
	var wg sync.WaitGroup
	for _, group := range split(tasks, g.cfg.Conns) {
		wg.Go(func() { g.judge(ctx, j, group, false) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for _, t := range tasks {
		g.finish(j, t)
	}
	return j.verdicts, nil
}

func (g *Postgres) judgement(q authz.Question) *judgement {
	return &judgement{
		q: q, verdicts: make([][]authz.Verdict, len(q.Principals)), deadline: time.Now().Add(g.cfg.VisibilityWait),
		audit: newTally(g.cfg.Audit, q.Table),
	}
}

// tasks decides what needs no question, and gives the rest. What nobody decides later stays
// Undecided.
func (g *Postgres) tasks(j *judgement) []*task {
	var tasks []*task
	for i, principal := range j.q.Principals {
		p := g.plan(j.q.Table, principal.Role)
		verdict := p.fixed
		if verdict == 0 {
			verdict = authz.Undecided
		}
		j.verdicts[i] = make([]authz.Verdict, len(j.q.Images))
		for k := range j.verdicts[i] {
			j.verdicts[i][k] = verdict
		}
		if p.fixed != 0 {
			g.ways.fixed.Add(uint64(len(j.q.Images)))
			continue
		}
		t := &task{as: &actor{principal: principal}, plan: p, eval: statementKey{p.eval, p.role}, out: j.verdicts[i]}
		if p.refused() {
			j.hide(t)
			continue
		}
		if t.images = j.wanted(t, i); len(t.images) > 0 && g.remains(j, t) {
			tasks = append(tasks, t)
		}
	}
	return tasks
}

// wanted are the known images that matter to a principal of the question.
func (j *judgement) wanted(t *task, principal int) []int {
	images, all := j.known, len(j.q.Images)
	if j.q.Wanted != nil {
		images, all = nil, len(j.q.Wanted[principal])
		for _, i := range j.q.Wanted[principal] {
			if _, known := slices.BinarySearch(j.known, int(i)); known {
				images = append(images, int(i))
			}
		}
	}
	if n := all - len(images); n > 0 {
		j.audit.add(t, authz.EventUndecided, "image_incomplete", "", n)
	}
	return images
}

// remains decides in process, and readies what is left to ask Postgres. It gives false where that
// is nothing.
func (g *Postgres) remains(j *judgement, t *task) bool {
	all := len(t.images)
	if all >= manyImages && g.overspent(j, t) {
		return false
	}
	if p := t.plan.predicate; p != nil {
		rest := g.timed(t, func() []int { return g.inProcess(j, t, p) })
		if g.cfg.Shadow && !j.q.AsOf && j.q.XID != 0 && len(p.kept) == 0 { // Postgres only knows what others hold now
			t.fast = slices.Clone(t.out)
		} else {
			t.images = rest
		}
	}
	fast := &g.ways.compiled
	if p := t.plan.predicate; p != nil && len(p.kept) > 0 {
		fast = &g.ways.kept
	}
	fast.Add(uint64(all - len(t.images)))
	g.ways.asked.Add(uint64(len(t.images)))
	if j.q.AsOf && len(t.images) > 0 {
		j.decide(t, t.images, authz.Undecided, "membership_unknown", "")
		return false
	}
	if len(t.images) == 0 || g.suspended(j, t) || g.overspent(j, t) {
		return false
	}
	if len(t.images) < len(j.known) {
		t.chunks = j.pack(t.images)
	} else {
		if j.chunks == nil {
			j.chunks = j.pack(j.known)
		}
		t.chunks = j.chunks
	}
	t.as = newActor(t.as.principal, g.path)
	return true
}

// inProcess decides by a predicate, and gives the images on which Postgres has to decide.
func (g *Postgres) inProcess(j *judgement, t *task, p *predicate) []int {
	b := g.bounds.of(p, t.as.principal)
	if len(p.kept) == 0 {
		return p.judge(j, t, b)
	}
	s := g.keeps
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch s.stand(p, j.q.Commit) {
	case standsFast:
		return p.judge(j, t, b)
	case standsLost:
		j.decide(t, t.images, authz.Undecided, "membership_unknown", "")
		return nil
	case standsNot:
	}
	return t.images
}

// split makes groups, each for one connection at a time.
func split(tasks []*task, conns int) [][]*task {
	size := max(groupLeast, (len(tasks)+conns-1)/conns)
	size = min(size, groupPrincipals)
	var groups [][]*task
	for len(tasks) > 0 {
		n := min(size, len(tasks))
		groups = append(groups, tasks[:n])
		tasks = tasks[n:]
	}
	return groups
}

// judge judges a group. A session that breaks, or that a policy function meddles with, may have
// done so for one of its principals: the group is halved, in new sessions, until that one is
// alone.
func (g *Postgres) judge(ctx context.Context, j *judgement, group []*task, fresh bool) {
	err := g.attempt(ctx, j, group, fresh)
	switch {
	case err == nil || ctx.Err() != nil:
	case len(group) > 1:
		half := len(group) / 2
		g.judge(ctx, j, group[:half], true)
		g.judge(ctx, j, group[half:], true)
	case errors.Is(err, errPoisoned):
		j.decide(group[0], nil, authz.Hidden, "session_tampered", "")
	case !fresh:
		g.judge(ctx, j, group, true)
	default:
		j.decide(group[0], nil, authz.Undecided, "connection_lost", "")
	}
}

var errPoisoned = errors.New("prepared statements were tampered with")

// attempt judges a group in one session. Its error tells that the session broke, and that
// nothing of what it decided counts.
func (g *Postgres) attempt(ctx context.Context, j *judgement, group []*task, fresh bool) error {
	s, err := g.judges.acquire(ctx, fresh)
	if err != nil {
		for _, t := range group {
			j.decide(t, nil, authz.Undecided, "unavailable", "")
		}
		return nil
	}
	defer g.judges.release(ctx, s)
	group, err = g.supported(ctx, s, j, group)
	if err != nil || len(group) == 0 {
		return err
	}
	r, err := g.ask(ctx, s, j, group)
	switch {
	case err != nil:
		return err
	case r == nil:
		return nil // decided: nothing can be known
	}
	var again []retry
	answers := r.answers
	for _, t := range group {
		if images := j.readBatches(t, r.patient, answers[:len(t.chunks)]); len(images) > 0 {
			again = append(again, retry{t, images})
		}
		answers = answers[len(t.chunks):]
	}
	for _, a := range again {
		if err := g.singles(ctx, s, j, a); err != nil {
			return err
		}
	}
	return nil
}

// ask evaluates all chunks for all principals of the group, behind the gate: the transaction
// must be visible in a snapshot taken before. It asks in the hope that it is, which saves a
// round trip, and throws the answers away where it is not. It gives nil where it decided that
// nothing can be known.
func (g *Postgres) ask(ctx context.Context, s *session, j *judgement, group []*task) (*round, error) {
	var asks []ask
	for _, t := range group {
		for _, c := range t.chunks {
			asks = append(asks, ask{as: t.as, key: t.eval, param: c.param, binary: true, images: len(c.images)})
		}
	}
	giveUp := func(reason string) (*round, error) {
		for _, t := range group {
			j.decide(t, nil, authz.Undecided, reason, "")
		}
		return nil, nil
	}
	if j.q.XID == 0 { // the invalid transaction id: somebody forgot it, and there is no gate
		return giveUp("no_transaction")
	}
	for {
		r, err := g.round(ctx, s, j, group[0].plan, asks, false)
		switch {
		case err != nil:
			return nil, err
		case r.stale:
			return giveUp("catalog_changed")
		case j.visible.Load() || r.snapshot.Sees(j.q.XID):
			j.visible.Store(true)
			return &r, nil
		}
		seen, err := s.await(ctx, []uint32{j.q.XID}, j.deadline)
		if err != nil {
			return nil, err
		}
		if !seen {
			return giveUp("visibility")
		}
		j.visible.Store(true)
	}
}

// round is session.round, of which a poisoned one is an error and the end of the session. Again tells
// that what is asked has failed once.
func (g *Postgres) round(ctx context.Context, s *session, j *judgement, p *plan, asks []ask, again bool) (round, error) {
	limit := g.cfg.StatementTimeout
	if !j.aside {
		most := 1
		for _, a := range asks {
			most = max(most, a.images)
		}
		limit = g.limit(p, most, again)
	}
	r, err := s.round(ctx, limit, p, asks)
	g.charge(asks, r.answers)
	r.teach(p, asks)
	r.patient = limit == g.cfg.StatementTimeout || r.calm(limit)
	if err == nil && r.poisoned {
		s.close(ctx)
		return r, errPoisoned
	}
	return r, err
}

// readBatches takes the answers to a principal's chunks, and gives the images that have to be
// asked about one by one: of chunks in which one raised an error, or changed the role or the
// settings for those behind it. One that took as long as it may is not asked about again, where patience
// would not help.
func (j *judgement) readBatches(t *task, patient bool, answers []answer) []int {
	var again []int
	for i, a := range answers {
		images := t.chunks[i].images
		if a.role {
			j.decide(t, images, authz.Undecided, "role", a.err.Code)
			continue
		}
		if patient && len(images) == 1 && a.err != nil && a.err.Code == queryCanceled {
			j.decide(t, images, authz.Undecided, "policy_failed", a.err.Code)
			continue
		}
		// A boolean[] of n elements is {t,f,…}.
		if a.err != nil || a.tampered != 0 || len(a.value) != 2*len(images)+1 {
			again = append(again, images...)
			continue
		}
		t.answered = true
		for k, image := range images {
			t.out[image] = verdict(a.value[1+2*k] == 't')
		}
	}
	return again
}

func verdict(visible bool) authz.Verdict {
	if visible {
		return authz.Visible
	}
	return authz.Hidden
}

// queryCanceled is the SQLSTATE of a timeout.
const queryCanceled = "57014"

// decide sets the verdict on some images, nil for all that were to be asked about, and audits it.
func (j *judgement) decide(t *task, images []int, v authz.Verdict, reason, sqlstate string) {
	event := authz.EventDeny
	if v == authz.Undecided || v == authz.Overspent {
		event = authz.EventUndecided
	}
	if images == nil {
		images = t.images
	}
	for _, i := range images {
		t.out[i] = v
	}
	t.failed = t.failed || reason == "connection_lost" || reason == "policy_failed" && sqlstate == queryCanceled
	j.audit.add(t, event, reason, sqlstate, len(images))
	if len(t.followers) > 0 {
		t.notes = append(t.notes, note{event, reason, sqlstate, len(images)})
	}
}
