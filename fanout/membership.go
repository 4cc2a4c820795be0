package fanout

import (
	"context"
	"log/slog"

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
	// Affected tells of each principal whether what it sees of t, apart from the rows that the
	// transaction at commit wrote, may be another behind that transaction. The transaction has
	// been followed to its end.
	Affected(t *schema.Table, commit cdc.LSN, principals []*authz.Principal) []bool
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
		d.reindex(b.Commit)
	}
}

// regroup has the subscriptions resync whose visible rows a change of membership may have
// changed, at the end of its transaction: before anything of the next one is judged (S56).
func (d *Dispatcher) regroup(b *cdc.Batch) {
	if !d.regrouped {
		return
	}
	d.regrouped = false
	byTable := map[*schema.Table][]*Subscription{}
	for _, s := range d.registry.all() {
		if s.concerned(&b.Transaction) { // the others start behind it, or read the bus by themselves
			t := s.present().op.Table
			byTable[t] = append(byTable[t], s)
		}
	}
	for t, subs := range byTable {
		for _, s := range d.affected(t, b.Commit, subs) {
			if !s.holdResync(b, reasonMembership) {
				d.resync(s, reasonMembership)
			}
		}
	}
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

// affected gives the subscriptions, all to one table, of which the Follower says that their rows
// may be others behind a transaction. It is asked once for each distinct principal.
func (d *Dispatcher) affected(t *schema.Table, commit cdc.LSN, subs []*Subscription) []*Subscription {
	index := map[authz.Key]int{}
	var principals []*authz.Principal
	of := make([]int, len(subs))
	for i, s := range subs {
		p := s.present().principal
		n, ok := index[p.Key()]
		if !ok {
			n = len(principals)
			index[p.Key()] = n
			principals = append(principals, p)
		}
		of[i] = n
	}
	changed := d.follower.Affected(t, commit, principals)
	var out []*Subscription
	for i, s := range subs {
		if of[i] >= len(changed) || changed[of[i]] {
			out = append(out, s)
		}
	}
	if len(out) > 0 {
		d.log.Debug("a change of membership concerns subscriptions", slog.Int("subscriptions", len(out)), slog.Uint64("commit", uint64(commit)))
	}
	return out
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

// covered tells whether a batch of a replay can be judged as of its transaction, or why not.
// Behind its end it is also not, where the transaction changed the membership of the subscriber.
func (d *Dispatcher) covered(ctx context.Context, v view, b *cdc.Batch) error {
	if d.follower == nil {
		return nil
	}
	ok, err := d.follower.Covers(ctx, v.op.Table, v.principal.Role, b.Commit)
	if err != nil {
		return err
	}
	if !ok || d.follower.Affected(v.op.Table, b.Commit, []*authz.Principal{v.principal})[0] {
		return errResync{reasonMembership}
	}
	return nil
}
