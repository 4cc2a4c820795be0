package fanout

import (
	"context"
	"errors"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A Comparer makes the comparisons of text that only PostgreSQL can make. It is asked about
// images that policies show to who asks, and about those alone.
type Comparer interface {
	// Compare answers facts, in their order.
	Compare(ctx context.Context, facts []schema.Fact) ([]int, error)
}

// facts has those of a batch answered that filters need: one question for all lanes. Where there
// is no answer, the lanes that need one see that by themselves.
func (m *matcher) facts(ctx context.Context, subjects []subject, lanes []*lane, verdicts [][]authz.Verdict) {
	var facts *schema.Facts
	var asking []*lane
	var wants []int // of each of them, the facts that nobody before wants
	for _, l := range lanes {
		if l.view.op.Where == nil || !l.view.op.Where.Asks() {
			continue
		}
		if m.budget.Overspent(l.view.principal) {
			l.resync = reasonOverspent
			continue
		}
		if facts == nil {
			facts = &schema.Facts{}
		}
		l.facts = facts
		before := facts.Pending()
		for _, i := range l.subjects {
			// Only what is visible goes on to the filter: what it asks tells of the row (S41).
			_, _ = l.sees(subjects[i].old, subjects[i].before, verdicts[l.principal])
			_, _ = l.sees(subjects[i].new, subjects[i].after, verdicts[l.principal])
		}
		asking, wants = append(asking, l), append(wants, facts.Pending()-before)
	}
	began := time.Now()
	for i, all := 0, m.learn(ctx, facts); i < len(asking) && all > 0; i++ {
		m.budget.Spend(asking[i].view.principal, time.Since(began)*time.Duration(wants[i])/time.Duration(all))
	}
}

// learn has answered what facts wants, where that can be had, and tells how much that was.
func (m *matcher) learn(ctx context.Context, facts *schema.Facts) int {
	if facts == nil || m.comparer == nil {
		return 0
	}
	wanted := facts.Wanted()
	if len(wanted) == 0 {
		return 0
	}
	answers, err := m.comparer.Compare(ctx, wanted)
	if err != nil {
		m.log.Warn("Postgres does not answer what filters ask: their subscriptions resync", "error", err)
		return len(wanted)
	}
	facts.Learn(wanted, answers)
	return len(wanted)
}

// filterReason is why a filter cannot be told.
func filterReason(err error) string {
	if errors.Is(err, schema.ErrUnasked) {
		return reasonUnavailable // Postgres was asked in vain: as with policies, later it may answer
	}
	return reasonUndecodable
}

// A sieve lets those rows of a snapshot through that match where. Rows about which PostgreSQL has
// to be asked wait until there are enough of them for one question.
type sieve struct {
	matcher *matcher
	where   *schema.Filter
	pass    func(cdc.Row) error

	waiting []cdc.Row
	bytes   int
}

// sieveRows and sieveBytes bound what waits.
const (
	sieveRows  = 500
	sieveBytes = 256 << 10
)

func (s *sieve) row(ctx context.Context, r cdc.Row) error {
	if s.where == nil {
		return s.pass(r)
	}
	if !s.where.Asks() {
		return s.judge(r, nil)
	}
	s.waiting = append(s.waiting, r)
	if s.bytes += r.Size(); len(s.waiting) < sieveRows && s.bytes < sieveBytes {
		return nil
	}
	return s.flush(ctx)
}

// flush judges what waits; it is called once more at the end.
func (s *sieve) flush(ctx context.Context) error {
	facts := &schema.Facts{}
	for _, r := range s.waiting {
		_, _ = s.where.Match(r, facts)
	}
	s.matcher.learn(ctx, facts)
	for _, r := range s.waiting {
		if err := s.judge(r, facts); err != nil {
			return err
		}
	}
	clear(s.waiting)
	s.waiting, s.bytes = s.waiting[:0], 0
	return nil
}

func (s *sieve) judge(r cdc.Row, facts *schema.Facts) error {
	match, err := s.where.Match(r, facts)
	if err != nil {
		return resyncRequired(filterReason(err)) // only another try at another time could help
	}
	if !match {
		return nil
	}
	return s.pass(r)
}
