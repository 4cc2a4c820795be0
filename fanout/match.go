package fanout

import (
	"context"
	"log/slog"
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A matcher turns batches into frames. It is a function of its input, the Judge's verdicts and
// the catalog that the lanes were compiled by; the dispatcher and every replay share it.
type matcher struct {
	judge    Judge
	comparer Comparer // nil for none
	budget   authz.Budget
	bindings *bindings
	log      *slog.Logger
	// asOf asks for verdicts as of the transaction alone.
	asOf bool
}

// A lane takes what one reading of the stream, live or a replay, makes for one class of
// subscriptions.
type lane struct {
	class *class // nil in a replay
	view  view
	// listed tells that the lane takes part in the present match, with these of its subjects.
	listed   bool
	subjects []int32

	principal int           // index in the question
	facts     *schema.Facts // of the batch, where the filter asks for any
	frames    []frame
	// tail is held back until it is known whether more of its transaction follows; only a
	// selection of transaction.last needs that.
	tail *hit
	// resync is why the lane cannot go on, or "".
	resync string
}

// begin has the lane take part in a match of events of a transaction.
func (l *lane) begin(v view, tx *cdc.Transaction) {
	if l.tail != nil && l.tail.pos.Commit != tx.Commit {
		l.tail = nil // of a transaction whose end everybody has left
	}
	l.view, l.frames, l.resync, l.listed, l.subjects = v, l.frames[:0], "", true, l.subjects[:0]
}

// keptFrames is how many frames a lane keeps the memory of: most classes get few, now and then.
const keptFrames = 64

// end lets go of what the match was about.
func (l *lane) end() {
	l.listed = false
	clear(l.frames)
	l.facts = nil
	if cap(l.frames) > keptFrames {
		l.frames, l.subjects = nil, nil
	}
}

// A subject is one event of a table with what is needed to judge it. Its images are in the
// order of the table's columns; before and after index them in the question, -1 for none.
type subject struct {
	event *cdc.Event
	// nth tells the rows of a shift apart, which have one place in the stream; else it is 0.
	nth           int
	old, new      cdc.Row
	before, after int
	// asked tells that a lane looks at it, broken that an image which the transition needs is
	// not in the stream.
	asked, broken bool
}

// bind makes subjects of those of a table's events that kinds want. The reason is why whoever
// follows the table must resync, or "".
func (m *matcher) bind(t *schema.Table, kinds schema.KindSet, events []*cdc.Event) (subjects []subject, reason string) {
	for _, e := range events {
		if e.Op == cdc.Gap {
			return nil, e.Reason
		}
	}
	out := make([]subject, 0, len(events))
	for _, e := range events {
		if !wants(kinds, e.Op) {
			continue
		}
		b, err := m.bindings.get(t, e.Relation)
		if err != nil {
			return nil, reasonUndecodable
		}
		s := subject{event: e, before: -1, after: -1, broken: broken(e)}
		if !s.broken {
			s.old, s.new = b.Image(e.Old), b.Image(e.New)
		}
		out = append(out, s)
	}
	return out, ""
}

// match makes the frames of subjects, which are all of one table, on the lanes that have them to
// look at. Its error is that ctx has ended.
func (m *matcher) match(ctx context.Context, w *writer, subjects []subject, lanes []*lane) error {
	if len(lanes) == 0 {
		return nil
	}
	q := authz.Question{XID: w.batch.XID, Commit: w.batch.Commit, AsOf: m.asOf, Table: lanes[0].view.op.Table}
	question(&q, subjects, lanes)
	verdicts, err := m.ask(ctx, &q)
	if err != nil {
		return err
	}
	m.facts(ctx, subjects, lanes, verdicts)
	for _, l := range lanes {
		for _, i := range l.subjects {
			if l.resync == "" {
				l.step(w, &subjects[i], verdicts[l.principal])
			}
		}
	}
	return nil
}

// question puts the images that lanes look at into the question, and their distinct principals,
// each with the images that matter to it.
func question(q *authz.Question, subjects []subject, lanes []*lane) {
	for _, l := range lanes {
		for _, i := range l.subjects {
			subjects[i].asked = true
		}
	}
	ask := func(image cdc.Row, old bool) int {
		if image == nil {
			return -1
		}
		q.Images = append(q.Images, image)
		q.Old = append(q.Old, old)
		return len(q.Images) - 1
	}
	for i := range subjects {
		if s := &subjects[i]; s.asked && !s.broken {
			s.before, s.after = ask(s.old, true), ask(s.new, false)
		}
	}
	index := map[authz.Key]int{}
	for _, l := range lanes {
		key := l.view.principal.Key()
		n, ok := index[key]
		if !ok {
			n = len(q.Principals)
			index[key] = n
			q.Principals = append(q.Principals, l.view.principal)
		}
		l.principal = n
	}
	if len(q.Principals) > 1 {
		q.Wanted = matter(len(q.Principals), subjects, lanes)
	}
}

// matter gives for each principal the images that its lanes look at.
func matter(principals int, subjects []subject, lanes []*lane) [][]int32 {
	out := make([][]int32, principals)
	for _, l := range lanes {
		list := out[l.principal]
		shared := list != nil
		for _, i := range l.subjects {
			for _, n := range [...]int{subjects[i].before, subjects[i].after} {
				if n >= 0 {
					list = append(list, int32(n)) //nolint:gosec // there are few
				}
			}
		}
		if shared {
			slices.Sort(list)
			list = slices.Compact(list)
		}
		out[l.principal] = list
	}
	return out
}

// broken tells that an event lacks an image that says who saw the row: under any identity but
// the full one the old image is absent or has the key alone.
func broken(e *cdc.Event) bool {
	switch e.Op {
	case cdc.Insert:
		return e.New == nil
	case cdc.Update:
		return e.New == nil || e.Old == nil || e.Relation.Identity != cdc.IdentityFull
	case cdc.Delete:
		return e.Old == nil || e.Relation.Identity != cdc.IdentityFull
	case cdc.Truncate, cdc.Gap:
	}
	return false
}

// ask judges all images for all distinct principals at once.
func (m *matcher) ask(ctx context.Context, q *authz.Question) ([][]authz.Verdict, error) {
	if len(q.Images) == 0 {
		return make([][]authz.Verdict, len(q.Principals)), nil
	}
	verdicts, err := m.judge.Judge(ctx, *q)
	if err != nil {
		return nil, err
	}
	if len(verdicts) != len(q.Principals) { // nothing is shown by a Judge's mistake
		verdicts = make([][]authz.Verdict, len(q.Principals))
	}
	return verdicts, nil
}

// step makes the frame of one event for one class, if it gets one.
func (l *lane) step(w *writer, s *subject, verdicts []authz.Verdict) {
	kinds := l.view.op.Kinds
	if s.broken {
		l.resync = reasonUndecodable
		return
	}
	var see sight
	if see.before, l.resync = l.sees(s.old, s.before, verdicts); l.resync != "" {
		return
	}
	if see.after, l.resync = l.sees(s.new, s.after, verdicts); l.resync != "" {
		return
	}
	kind := transition(s.event.Op, see, func() bool { return l.view.op.Selection.Changed(s.old, s.new) })
	if kind == 0 || !kinds.Has(kind) {
		return
	}
	l.hit(w, hit{view: l.view, kind: kind, old: s.old, new: s.new, nth: s.nth, pos: cdc.Position{Commit: w.batch.Commit, Seq: s.event.Seq}})
}

// sees tells whether the class sees an image: first the policies, then where, so that
// where never tells anything of a row that policies hide. The reason is why it cannot be told.
func (l *lane) sees(image cdc.Row, n int, verdicts []authz.Verdict) (seen bool, reason string) {
	if n < 0 {
		return false, ""
	}
	verdict := authz.Undecided
	if n < len(verdicts) {
		verdict = verdicts[n]
	}
	switch verdict {
	case authz.Visible:
	case authz.Hidden:
		return false, ""
	case authz.Overspent:
		return false, reasonOverspent
	case authz.Undecided:
		return false, reasonUnavailable
	default: // one that was forgotten
		return false, reasonUnavailable
	}
	if l.view.op.Where == nil {
		return true, ""
	}
	seen, err := l.view.op.Where.Match(image, l.facts)
	if err != nil {
		return false, filterReason(err)
	}
	return seen, ""
}

// hit takes what is to become a frame, and writes it as soon as it is known whether it is its
// transaction's last.
func (l *lane) hit(w *writer, h hit) {
	if !l.view.usesLast {
		l.write(w, &h, false)
		return
	}
	if l.tail != nil {
		l.write(w, l.tail, false)
	}
	held := h // else every h were on the heap
	l.tail = &held
}

// finish writes what was held back, at the end of a transaction.
func (l *lane) finish(w *writer) {
	if l.tail != nil {
		l.write(w, l.tail, true)
		l.tail = nil
	}
}

func (l *lane) write(w *writer, h *hit, last bool) {
	payload, err := w.write(h, last)
	if err != nil {
		l.resync = reasonUndecodable
		return
	}
	image := h.new
	if image == nil {
		image = h.old
	}
	l.frames = append(l.frames, frame{payload: payload, image: image, pos: h.pos, xid: w.batch.XID})
}
