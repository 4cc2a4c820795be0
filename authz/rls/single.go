package rls

import (
	"context"

	"github.com/rowtide/rowtide/authz"
)

// maxWindow bounds the images that are asked about one by one in a transaction. The first has
// one, the next two, and so on: where each takes as long as it may, few are asked.
const maxWindow = 32

// A retry is the images of a task that have to be asked about one by one.
type retry struct {
	task   *task
	images []int
}

// singles evaluates each image on its own: with role and settings made anew, in a savepoint and
// with a timeout of its own, so that an error hides that image alone. Behind the first about
// which nothing can be known the rest is not asked: the subscription resyncs anyway.
func (g *Postgres) singles(ctx context.Context, s *session, j *judgement, r retry) error {
	window := 1
	for rest := r.images; len(rest) > 0; window = min(2*window, maxWindow) {
		n := min(window, len(rest))
		known, err := g.window(ctx, s, j, r.task, rest[:n])
		if err != nil {
			return err
		}
		rest = rest[n:]
		if !known && len(rest) > 0 {
			j.decide(r.task, rest, authz.Undecided, "not_asked", "")
			return nil
		}
	}
	return nil
}

// window evaluates some images one by one, each behind a probe that tells an image that
// Postgres cannot read from a policy that fails on it. It gives false where one is undecided.
func (g *Postgres) window(ctx context.Context, s *session, j *judgement, t *task, images []int) (bool, error) {
	asks := make([]ask, 0, 2*len(images))
	for _, i := range images {
		record := appendRecord(nil, j.q.Images[i])
		asks = append(asks,
			ask{key: statementKey{t.plan.probe, t.plan.role}, param: record},
			ask{as: t.as, key: t.eval, param: textArray([][]byte{record}), binary: true})
	}
	r, err := g.round(ctx, s, j, t.plan, asks, true)
	if err != nil {
		return false, err
	}
	if r.stale {
		j.decide(t, images, authz.Undecided, "catalog_changed", "")
		return false, nil
	}
	known := true
	var old []int
	for k, i := range images {
		probe, eval := r.answers[2*k], r.answers[2*k+1]
		switch {
		case probe.err == nil:
			known = j.settle(t, i, eval, "{t}") && known
		case t.plan.base != "" && probe.err.Code[:2] == "23": // integrity constraint violation, of a domain
			old = append(old, i)
		default:
			// The type has changed, or does not read what it wrote: the present rows tell.
			j.decide(t, []int{i}, authz.Undecided, "image_unreadable", probe.err.Code)
			known = false
		}
	}
	if len(old) == 0 {
		return known, nil
	}
	settled, err := g.asBaseTypes(ctx, s, j, t, old)
	return known && settled, err
}

// asBaseTypes evaluates images that are older than the constraints of their domains.
func (g *Postgres) asBaseTypes(ctx context.Context, s *session, j *judgement, t *task, images []int) (bool, error) {
	key := statementKey{t.plan.base, t.plan.role}
	refused, err := s.prepare(ctx, []statementKey{key})
	if err != nil {
		return false, err
	}
	if problem := refused[key]; problem != nil {
		j.decide(t, images, authz.Hidden, "domain_unsupported", problem.Code)
		return true, nil
	}
	asks := make([]ask, 0, len(images))
	for _, i := range images {
		asks = append(asks, ask{as: t.as, key: key, param: baseValues(t.plan.table.Def, j.q.Images[i]), binary: true})
	}
	r, err := g.round(ctx, s, j, t.plan, asks, true)
	if err != nil {
		return false, err
	}
	if r.stale {
		j.decide(t, images, authz.Undecided, "catalog_changed", "")
		return false, nil
	}
	known := true
	for k, i := range images {
		known = j.settle(t, i, r.answers[k], "t") && known
	}
	return known, nil
}

// settle decides on one image by the answer of an evaluation that was for it alone. It gives
// false where that leaves it undecided.
func (j *judgement) settle(t *task, image int, a answer, visible string) bool {
	only := []int{image}
	known := true
	switch {
	case a.role:
		j.decide(t, only, authz.Undecided, "role", a.err.Code)
		known = false
	case a.tampered == tamperedRole:
		j.decide(t, only, authz.Hidden, "role_tampered", "")
	case a.err != nil && determined(a.err.Code):
		j.decide(t, only, authz.Hidden, "policy_error", a.err.Code)
	case a.err != nil:
		j.decide(t, only, authz.Undecided, "policy_failed", a.err.Code)
		known = false
	default:
		t.out[image] = verdict(a.value == visible)
	}
	t.answered = t.answered || known
	return known
}
