package fanout

import (
	"maps"
	"slices"
	"sync"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A registry knows all subscriptions, by the OID of their table, and what a new one must agree
// on with the dispatcher in one step: the catalog, and the transaction that it starts behind.
type registry struct {
	mu      sync.Mutex
	catalog *schema.Catalog
	tables  map[uint32]*members
	count   int
	// current is the end of the transaction that is, or was last, dispatched. A subscription
	// that attaches gets everything behind it; settled has what its snapshot must see instead.
	current cdc.Position
	settled settled
	// err refuses new subscriptions: the service drains or has stopped.
	err error
	// empty is closed when the last subscription goes; nil while nobody waits for that.
	empty chan struct{}
}

// members are the subscriptions to a table. list has what set has, or is nil after a change: the
// dispatcher reads it without the lock, so it is made anew and never changed.
type members struct {
	set  map[*Subscription]struct{}
	list []*Subscription
}

func newRegistry(c *schema.Catalog) *registry {
	return &registry{catalog: c, tables: map[uint32]*members{}}
}

// add registers a subscription that was compiled by that catalog. It is false where the catalog
// is no longer the present one: then the subscription must be compiled again.
func (r *registry) add(s *Subscription, oid uint32, compiledBy *schema.Catalog) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return false, r.err
	}
	if compiledBy != r.catalog {
		return false, nil
	}
	m := r.tables[oid]
	if m == nil {
		m = &members{set: map[*Subscription]struct{}{}}
		r.tables[oid] = m
	}
	m.set[s], m.list = struct{}{}, nil
	s.oid = oid
	r.count++
	return true, nil
}

func (r *registry) remove(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.tables[s.oid]
	if m == nil {
		return
	}
	if _, ok := m.set[s]; !ok {
		return
	}
	delete(m.set, s)
	m.list = nil
	if len(m.set) == 0 {
		delete(r.tables, s.oid)
	}
	r.count--
	if r.count == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// of gives the subscriptions to a table. The list is shared.
func (r *registry) of(oid uint32) []*Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.tables[oid]
	if m == nil {
		return nil
	}
	if m.list == nil {
		m.list = slices.Collect(maps.Keys(m.set))
	}
	return m.list
}

func (r *registry) all() []*Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allLocked()
}

func (r *registry) allLocked() []*Subscription {
	out := make([]*Subscription, 0, r.count)
	for _, m := range r.tables {
		out = slices.AppendSeq(out, maps.Keys(m.set))
	}
	return out
}

func (r *registry) len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// enter makes a transaction the current one: who attached before gets it, and the snapshots of
// who attaches from now on must see it.
func (r *registry) enter(commit cdc.LSN, xid uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = cdc.Position{Commit: commit, Seq: cdc.EndOfTransaction}
	r.settled.add(xid)
}

// position is the end of the current transaction; zero while there was none.
func (r *registry) position() cdc.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// attach has the dispatcher hold a subscription's frames from behind the current transaction
// on, or from behind floor where that is later, and gives the position.
func (r *registry) attach(s *Subscription, floor cdc.Position) cdc.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := r.current
	if start.Compare(floor) < 0 {
		start = floor
	}
	s.attach(start)
	return start
}

func (r *registry) present() *schema.Catalog {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.catalog
}

// swap makes a catalog the present one and gives the subscriptions that were compiled by
// another.
func (r *registry) swap(c *schema.Catalog) []*Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.catalog = c
	return r.allLocked()
}

// refuse lets no new subscription in. The first error counts.
func (r *registry) refuse(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = err
	}
}

// gone gives a channel that is closed once no subscription is left.
func (r *registry) gone() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.count == 0 {
		c := make(chan struct{})
		close(c)
		return c
	}
	if r.empty == nil {
		r.empty = make(chan struct{})
	}
	return r.empty
}
