package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A shift is what a change of membership means to some subscriptions to one table: ENTER and LEAVE
// of rows that its transaction did not write, as of that transaction. It is worked out beside the
// dispatcher, while the subscriptions concerned hold what comes behind.
//
// The rows are read in a snapshot that sees the transaction. What later transactions wrote is undone
// by the old images of the first of them that wrote to a key. Then each row is judged by the
// memberships before the transaction and behind it.
type shift struct {
	table *schema.Table
	w     *writer // of the transaction
	lanes []*shiftLane

	// done is closed when the lanes have their frames, or reason is why nobody can get any.
	done   chan struct{}
	reason string
}

// A shiftLane is what a shift has for views that get the same.
type shiftLane struct {
	lane
	of *shift
}

// Bounds on a shift; beyond, the subscriptions resync: rows to look at, of one and for all principals
// together; bytes of the stream between the transaction and the snapshot; and the time until both
// are read.
const (
	shiftRows    = 10_000
	shiftImages  = 500_000
	shiftRewinds = 64 << 20
	shiftWait    = 30 * time.Second
	// shiftsAtOnce is how many are worked out at once.
	shiftsAtOnce = 4
)

// shiftSeq is the place of all frames of a shift: behind what the transaction wrote. They are repeated
// together, to whoever resumes from one of them.
const shiftSeq = cdc.EndOfTransaction - 1

// A moved is the classes that a transaction's change of membership concerns.
type moved struct {
	lanes  map[*class]*shiftLane
	shifts map[*schema.Table]*shift
}

// of gives the lane of a class, a new one where there is none.
func (m *moved) of(c *class, cursors *CursorCodec, b *cdc.Batch) {
	if m.lanes == nil {
		m.lanes = map[*class]*shiftLane{}
	}
	m.lanes[c] = m.add(c.view, cursors, b)
}

// add gives a new lane for a view.
func (m *moved) add(v view, cursors *CursorCodec, b *cdc.Batch) *shiftLane {
	sh := m.shifts[v.op.Table]
	if sh == nil {
		sh = &shift{table: v.op.Table, w: newWriter(cursors.frozen()), done: make(chan struct{})}
		sh.w.turn(&cdc.Batch{Transaction: b.Transaction, Last: true})
		if m.shifts == nil {
			m.shifts = map[*schema.Table]*shift{}
		}
		m.shifts[v.op.Table] = sh
	}
	l := &shiftLane{lane: lane{view: v}, of: sh}
	sh.lanes = append(sh.lanes, l)
	return l
}

// start has all be worked out.
func (m *moved) start(d *Dispatcher) {
	for _, sh := range m.shifts {
		d.enqueueShift(sh)
	}
}

// behind is the position up to which a subscription has everything before the shift.
func (l *shiftLane) behind() cdc.Position {
	commit := l.of.w.batch.Commit
	switch {
	case l.tail == nil:
		return cdc.Position{Commit: commit, Seq: shiftSeq}
	case l.tail.pos.Seq == 0:
		return cdc.Position{Commit: commit - 1, Seq: cdc.EndOfTransaction}
	}
	return cdc.Position{Commit: commit, Seq: l.tail.pos.Seq - 1}
}

// wait gives the frames, once they are there.
func (l *shiftLane) wait(ctx context.Context) ([]frame, error) {
	select {
	case <-l.of.done:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if ctx.Err() != nil { // then that is why there is a reason
		return nil, context.Cause(ctx)
	}
	if l.of.reason != "" {
		return nil, errResync{l.of.reason}
	}
	if l.resync != "" {
		return nil, errResync{l.resync}
	}
	return l.frames, nil
}

// workOut makes the frames of a shift.
func (d *Dispatcher) workOut(ctx context.Context, sh *shift) {
	defer close(sh.done)
	sh.reason = reasonMembership
	if err := acquire(ctx, d.shifting); err != nil {
		return
	}
	defer func() { <-d.shifting }()
	ctx, cancel := context.WithTimeout(ctx, shiftWait)
	defer cancel()
	rows, err := d.rowsAsOf(ctx, sh)
	if err == nil {
		err = sh.match(ctx, d.matcher, rows)
	}
	if err != nil {
		d.log.Info("cannot tell which rows came and went with a membership: subscriptions resync", slog.Any("error", err),
			slog.String("table", sh.table.Def.Schema+"."+sh.table.Def.Name), slog.Int("classes", len(sh.lanes)))
		return
	}
	sh.reason = ""
}

// principals are the distinct ones.
func (sh *shift) principals() []*authz.Principal {
	var out []*authz.Principal
	met := map[authz.Key]bool{}
	for _, l := range sh.lanes {
		if p := l.view.principal; !met[p.Key()] {
			met[p.Key()] = true
			out = append(out, p)
		}
	}
	return out
}

// rowsAsOf gives the rows that may have come or gone, as they were behind the transaction, in the
// order of their keys.
func (d *Dispatcher) rowsAsOf(ctx context.Context, sh *shift) ([]cdc.Row, error) {
	who := sh.principals()
	end, rows, err := d.follower.Near(ctx, sh.table, sh.w.batch.Commit, who, d.registry.settled.list(), shiftRows)
	if err != nil {
		return nil, err
	}
	r := rewind{table: sh.table, bindings: d.matcher.bindings, commit: sh.w.batch.Commit, end: end, own: map[string]bool{}, was: map[string]cdc.Row{}}
	if err := r.read(ctx, d.cfg.Bus); err != nil {
		return nil, err
	}
	rows = r.apply(rows)
	if len(rows)*len(who) > shiftImages {
		return nil, errors.New("a change of membership concerns too many rows of too many principals")
	}
	return rows, nil
}

// match makes the frames.
func (sh *shift) match(ctx context.Context, m matcher, rows []cdc.Row) error {
	m.asOf = true
	lanes := make([]*lane, len(sh.lanes))
	for i, l := range sh.lanes {
		lanes[i] = &l.lane
	}
	for from := 0; from < len(rows); from += chunkEvents {
		chunk := rows[from:min(from+chunkEvents, len(rows))]
		subjects := make([]subject, len(chunk))
		all := make([]int32, len(chunk))
		for i, row := range chunk {
			e := &cdc.Event{Op: cdc.Update, Seq: shiftSeq, Old: row, New: row}
			subjects[i] = subject{event: e, nth: from + i + 1, old: row, new: row, before: -1, after: -1}
			all[i] = int32(i) //nolint:gosec // there are few
		}
		for _, l := range lanes {
			l.subjects = all
		}
		if err := m.match(ctx, sh.w, subjects, lanes); err != nil {
			return fmt.Errorf("judge rows: %w", err)
		}
	}
	for _, l := range lanes {
		l.subjects, l.facts = nil, nil
		if l.resync != "" {
			l.resync = reasonMembership
			continue
		}
		l.finish(sh.w)
	}
	return nil
}
