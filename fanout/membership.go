package fanout

import (
	"context"
	"log/slog"
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A Follower is a Judge that keeps what policies ask of other tables, and brings it up to date
// from the stream. It can then judge an image as of its own transaction, and tell whose rows a
// transaction uncovers or hides without touching them.
type Follower interface {
	// Use puts a catalog in force, between transactions. It does not block.
	Use(c *schema.Catalog)
	// Follow takes each batch of the stream, in order, before its events are judged. It tells
	// whether the transaction has so far changed anything that policies ask of other tables, or
	// whether what is known of such a table has begun or ceased to be.
	Follow(b *cdc.Batch) bool
	// Lost tells that batches were left out: nothing that is known counts any more.
	Lost()
	// Affected tells what the transaction at commit means to principals besides the rows of t that
	// it wrote itself. The transaction has been followed to its end.
	Affected(t *schema.Table, commit cdc.LSN, principals []*authz.Principal) []authz.Effect
	// Handles gives what changes of membership reach a principal by, the same for as long as the
	// catalog is in force. Reached gives the handles of those for whom Affected may tell anything,
	// so that nobody else is asked about; or that it may be everybody.
	Handles(t *schema.Table, p *authz.Principal) []string
	Reached(t *schema.Table, commit cdc.LSN) (handles []string, all bool)
	// Near reads, in one snapshot that sees every transaction in settled, the rows of t that any of
	// the principals may see behind the transaction at commit and not before it, or the other way
	// round, and perhaps others. It is an error where they are more than most. All that the snapshot
	// sees, and all that emptied the table for it, commits before end, and something behind it.
	Near(ctx context.Context, t *schema.Table, commit cdc.LSN, principals []*authz.Principal, settled []uint32, most int) (end cdc.LSN, rows []cdc.Row, err error)
	// Await waits until what policies on t ask of other tables for a role is known, or until it
	// is plain that it will not be, within a bound. Its error is that of ctx.
	Await(ctx context.Context, t *schema.Table, role string) error
	// Covers waits until the transaction at commit has been followed to its end, and tells
	// whether images from it can be judged as of it. Its error is that of ctx.
	Covers(ctx context.Context, t *schema.Table, role string, commit cdc.LSN) (bool, error)
}

// followBatch has the Follower take a batch, and notes whether its transaction changes memberships.
func (d *Dispatcher) followBatch(b *cdc.Batch) {
	if d.follower != nil && d.follower.Follow(b) {
		d.regrouped = true
		d.registry.reindex(b.Commit)
	}
}

// regroup finds, at the end of a transaction, the classes that a change of membership concerns, before
// the last frames of the transaction are written.
func (d *Dispatcher) regroup(b *cdc.Batch) {
	if !b.Last || !d.regrouped {
		return
	}
	d.regrouped = false
	for _, t := range d.registry.serving() {
		classes := slices.DeleteFunc(d.registry.reached(t, b.Commit), func(c *class) bool { return !shifts(&c.view) || !c.concerned(&b.Transaction) })
		for i, effect := range d.effects(t.schema, b.Commit, classes) {
			switch effect {
			case authz.RowsMoved:
				d.moved.of(classes[i], d.cfg.Cursors, b)
				d.dropCarried(b, classes[i])
			case authz.Unknown:
				d.unknown = append(d.unknown, classes[i])
			case authz.NoEffect:
			}
		}
	}
}

// dropCarried has members of a class resync for whom frames are held back that were made for another:
// whether these are the last ones of their transaction is not known.
func (d *Dispatcher) dropCarried(b *cdc.Batch, c *class) {
	if len(d.carried) == 0 {
		return
	}
	for _, s := range c.concernedMembers(&b.Transaction) {
		if d.carried[s] != nil {
			delete(d.carried, s)
			d.resync(s, reasonMembership)
		}
	}
}

// shifts tells whether a view has anything for rows that come and go with a membership.
func shifts(v *view) bool {
	return v.op.Kinds.Has(schema.KindEnter) || v.op.Kinds.Has(schema.KindLeave)
}

// effects asks the Follower about classes, once for each distinct principal.
func (d *Dispatcher) effects(t *schema.Table, commit cdc.LSN, classes []*class) []authz.Effect {
	index := map[authz.Key]int{}
	var principals []*authz.Principal
	of := make([]int, len(classes))
	for i, c := range classes {
		p := c.view.principal
		n, ok := index[p.Key()]
		if !ok {
			n = len(principals)
			index[p.Key()] = n
			principals = append(principals, p)
		}
		of[i] = n
	}
	told := d.follower.Affected(t, commit, principals)
	out := make([]authz.Effect, len(classes))
	for i := range out {
		out[i] = told[of[i]]
	}
	return out
}

// shift has the subscriptions concerned get the rows that came or went with their memberships, or
// resync: behind all frames of the transaction, and before anything of the next one (S56).
func (d *Dispatcher) shift(b *cdc.Batch) {
	for _, c := range d.unknown {
		for _, s := range c.concernedMembers(&b.Transaction) {
			d.log.Debug("what policies ask is judged in another way from here on", slog.Uint64("commit", uint64(b.Commit)))
			if !s.holdResync(b, reasonMembership) {
				d.resync(s, reasonMembership)
			}
		}
	}
	for c, l := range d.moved.lanes {
		f := frame{shift: l, pos: b.Position(), xid: b.XID}
		for _, s := range c.concernedMembers(&b.Transaction) {
			if s.holdShift(f) {
				d.enqueue(s, plan{behind: l.behind()})
			}
		}
	}
	d.moved.start(d)
	d.moved, d.unknown = moved{}, nil
}

// holdShift puts a shift behind what the subscription was given, and tells whether somebody has to
// hand on what it holds from now on.
func (s *Subscription) holdShift(f frame) (start bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == live {
		s.phase, s.catching, start = holding, true, true
	}
	if s.phase == holding {
		s.holdLocked([]frame{f})
	}
	return start
}

// holdResync leaves it to the end of the catching up whether the subscription has to begin anew:
// its snapshot may turn out to have seen the transaction. It is false where nothing catches up.
func (s *Subscription) holdResync(b *cdc.Batch, reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != holding || s.draining {
		return false
	}
	s.holdLocked([]frame{{resync: reason, pos: b.Position(), xid: b.XID}})
	return true
}

// awaitMembership waits until images for a subscription can be judged as of their transactions,
// where they ever can.
func (d *Dispatcher) awaitMembership(ctx context.Context, s *Subscription) error {
	if d.follower == nil {
		return nil
	}
	v := s.present()
	return d.follower.Await(ctx, v.op.Table, v.principal.Role)
}

// covered tells whether a batch of a replay can be judged as of its transaction, or why not, and
// behind its end what the transaction means to the subscriber besides.
func (d *Dispatcher) covered(ctx context.Context, v *view, b *cdc.Batch) (authz.Effect, error) {
	if d.follower == nil {
		return authz.NoEffect, nil
	}
	ok, err := d.follower.Covers(ctx, v.op.Table, v.principal.Role, b.Commit)
	if err != nil {
		return authz.NoEffect, err
	}
	if !ok {
		return authz.Unknown, nil
	}
	if !b.Last || !shifts(v) {
		return authz.NoEffect, nil
	}
	return d.follower.Affected(v.op.Table, b.Commit, []*authz.Principal{v.principal})[0], nil
}
