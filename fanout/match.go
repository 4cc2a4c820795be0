package fanout

import (
	"context"
	"log/slog"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A matcher turns batches into frames. It is a function of its input, the Judge's verdicts and
// the catalog that the lanes were compiled by; the dispatcher and every replay share it.
type matcher struct {
	judge    Judge
	comparer Comparer // nil for none
	bindings *bindings
	log      *slog.Logger
}

// A lane takes what one reading of the stream, live or a replay, makes for one subscription.
type lane struct {
	sub  *Subscription
	view view
	gen  uint64

	principal int           // index in the question
	facts     *schema.Facts // of the batch, where the filter asks for any
	frames    []frame
	// tail is held back until it is known whether more of its transaction follows; only a
	// selection of transaction.last needs that.
	tail *hit
	// resync is why the lane cannot go on, or "".
	resync string
}

func (l *lane) reset(v view) {
	clear(l.frames)
	l.view, l.facts, l.frames, l.resync = v, nil, l.frames[:0], ""
}

// A subject is one event of a table with what is needed to judge it. Its images are in the
// order of the table's columns; before and after index them in the question, -1 for none.
type subject struct {
	event         *cdc.Event
	old, new      cdc.Row
	before, after int
	// broken tells that an image which the transition needs is not in the stream.
	broken bool
}

// match makes the frames of a batch's events, which are all of one table, on lanes of
// subscriptions to that table. Its error is that ctx has ended.
func (m *matcher) match(ctx context.Context, w *writer, events []*cdc.Event, lanes []*lane) error {
	for _, e := range events {
		if e.Op == cdc.Gap {
			resyncAll(lanes, e.Reason)
			return nil
		}
	}
	q := authz.Question{XID: w.batch.XID, Commit: w.batch.Commit, Table: lanes[0].view.op.Table}
	subjects, ok := m.subjects(&q, events, lanes)
	if !ok {
		resyncAll(lanes, reasonUndecodable)
		return nil
	}
	verdicts, err := m.ask(ctx, &q, lanes)
	if err != nil {
		return err
	}
	m.facts(ctx, subjects, lanes, verdicts)
	for i := range subjects {
		for _, l := range lanes {
			if l.resync == "" {
				l.step(w, &subjects[i], verdicts[l.principal])
			}
		}
	}
	return nil
}

func resyncAll(lanes []*lane, reason string) {
	for _, l := range lanes {
		l.resync = reason
	}
}

// subjects binds the events that any lane wants, and puts their images into the question.
func (m *matcher) subjects(q *authz.Question, events []*cdc.Event, lanes []*lane) ([]subject, bool) {
	var kinds schema.KindSet
	for _, l := range lanes {
		kinds |= l.view.op.Kinds
	}
	ask := func(image cdc.Row, old bool) int {
		if image == nil {
			return -1
		}
		q.Images = append(q.Images, image)
		q.Old = append(q.Old, old)
		return len(q.Images) - 1
	}
	out := make([]subject, 0, len(events))
	for _, e := range events {
		if !wants(kinds, e.Op) {
			continue
		}
		b, err := m.bindings.get(q.Table, e.Relation)
		if err != nil {
			return nil, false
		}
		s := subject{event: e, old: b.Image(e.Old), new: b.Image(e.New), before: -1, after: -1}
		if s.broken = broken(e); !s.broken {
			s.before, s.after = ask(s.old, true), ask(s.new, false)
		}
		out = append(out, s)
	}
	return out, true
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

// ask judges all images for all distinct principals at once, and tells each lane its row of
// the answer.
func (m *matcher) ask(ctx context.Context, q *authz.Question, lanes []*lane) ([][]authz.Verdict, error) {
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

// step makes the frame of one event for one subscription, if it gets one.
func (l *lane) step(w *writer, s *subject, verdicts []authz.Verdict) {
	kinds := l.view.op.Kinds
	if !wants(kinds, s.event.Op) {
		return
	}
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
	l.hit(w, hit{view: l.view, kind: kind, old: s.old, new: s.new, pos: cdc.Position{Commit: w.batch.Commit, Seq: s.event.Seq}})
}

// sees tells whether the subscription sees an image: first the policies, then where, so that
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
	l.frames = append(l.frames, frame{payload: payload, pos: h.pos, xid: w.batch.XID})
}
