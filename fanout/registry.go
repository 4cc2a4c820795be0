package fanout

import (
	"maps"
	"slices"
	"sync"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A registry knows all subscriptions, by table and class, and what a new one must agree on with
// the dispatcher in one step: the catalog, and the transaction that it starts behind.
//
// Its lock is taken before that of a class, and that before a subscription's.
type registry struct {
	narrower Narrower // nil for none
	follower Follower // nil for none

	mu      sync.Mutex
	catalog *schema.Catalog
	tables  map[*schema.Table]*table
	count   int
	// moving are subscriptions whose view may be of another class now.
	moving []*Subscription
	// current is the end of the transaction that is, or was last, dispatched. A subscription
	// that attaches gets everything behind it; settled has what its snapshot must see instead.
	current cdc.Position
	settled settled
	// breaks are where tables were rewritten, or came to be served, by OID.
	breaks map[uint32]cdc.Position
	// history counts how often the bus began anew: positions of different ones say nothing
	// about each other.
	history int
	// err refuses new subscriptions: the service drains or has stopped.
	err error
	// empty is closed when the last subscription goes; nil while nobody waits for that.
	empty chan struct{}
}

func newRegistry(c *schema.Catalog, j Judge) *registry {
	n, _ := j.(Narrower)
	f, _ := j.(Follower)
	return &registry{narrower: n, follower: f, catalog: c, tables: map[*schema.Table]*table{}, breaks: map[uint32]cdc.Position{}}
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
	s.oid = oid
	r.enterLocked(s)
	r.count++
	return true, nil
}

// enterLocked makes a subscription a member of the class of its present view.
func (r *registry) enterLocked(s *Subscription) {
	v := s.present()
	t := r.tables[v.op.Table]
	if t == nil {
		t = newTable(v.op.Table)
		r.tables[v.op.Table] = t
	}
	t.class(v, r.narrower, r.follower).enter(s)
	t.size++
}

// leaveLocked takes it out of its class.
func (r *registry) leaveLocked(s *Subscription) {
	c := s.class
	if c.leave(s) {
		c.table.forget(c)
	}
	if c.table.size--; c.table.size == 0 {
		delete(r.tables, c.table.schema)
	}
}

func (r *registry) remove(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.class == nil {
		return
	}
	r.leaveLocked(s)
	r.count--
	if r.count == 0 && r.empty != nil {
		close(r.empty)
		r.empty = nil
	}
}

// moves notes that the view of a subscription has changed.
func (r *registry) moves(s *Subscription) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !s.moving {
		s.moving = true
		r.moving = append(r.moving, s)
	}
}

// settle puts the subscriptions whose view has changed into their classes. The dispatcher calls it
// between transactions, so that each gets every transaction from one class alone: what a view
// changes to in the middle of one counts from the next on.
func (r *registry) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.moving {
		s.moving = false
		if s.class != nil {
			r.leaveLocked(s)
			r.enterLocked(s)
		}
	}
	clear(r.moving)
	r.moving = r.moving[:0]
}

// serves tells whether there are subscriptions to a table.
func (r *registry) serves(t *schema.Table) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.tables[t] != nil
}

// table gives a table that there are subscriptions to, and the kinds that they want.
func (r *registry) table(oid uint32) (*table, schema.KindSet, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	t := r.tables[r.catalog.Table(oid)]
	if t == nil {
		return nil, 0, false
	}
	return t, t.wanted(), true
}

// find appends the lanes of the classes that subjects may concern, each with those that it has to
// look at.
func (r *registry) find(t *table, lanes []*lane, tx *cdc.Transaction, subjects []subject) []*lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range subjects {
		n := int32(i) //nolint:gosec // there are few
		t.find(&subjects[i], func(c *class) {
			l := &c.lane
			if !wants(c.view.op.Kinds, subjects[i].event.Op) {
				return
			}
			if !l.listed {
				if !c.concerned(tx) {
					return
				}
				l.begin(c.view, tx)
				lanes = append(lanes, l)
			}
			if k := len(l.subjects); k == 0 || l.subjects[k-1] != n {
				l.subjects = append(l.subjects, n)
			}
		})
	}
	return lanes
}

// serving gives the tables that there are subscriptions to.
func (r *registry) serving() []*table {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(r.tables))
}

// classes gives those of a table.
func (r *registry) classes(t *table) []*class {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Collect(maps.Values(t.classes))
}

func (r *registry) all() []*Subscription {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.allLocked()
}

func (r *registry) allLocked() []*Subscription {
	out := make([]*Subscription, 0, r.count)
	for _, t := range r.tables {
		for _, c := range t.classes {
			out = c.appendMembers(out)
		}
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
	return r.attachLocked(s, floor)
}

func (r *registry) attachLocked(s *Subscription, floor cdc.Position) cdc.Position {
	start := r.current
	if start.Compare(floor) < 0 {
		start = floor
	}
	s.attach(start)
	return start
}

// meet is attach for a replay that began in the given history. It is errResync where the bus has
// begun anew since: floor would then be nowhere, and everything below it be lost.
func (r *registry) meet(s *Subscription, floor cdc.Position, history int) (cdc.Position, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.history != history {
		return cdc.Position{}, errResync{reasonTimeline}
	}
	return r.attachLocked(s, floor), nil
}

// histories is how often the bus has begun anew.
func (r *registry) histories() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.history
}

// restart forgets the position and what is settled: the bus has begun anew.
func (r *registry) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.history++
	r.current = cdc.Position{}
	r.settled.clear()
	clear(r.breaks)
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
	for _, t := range c.Tables() {
		if old := r.catalog.Table(t.Def.OID); old == nil || old != t && old.Rewritten(t) {
			r.breaks[t.Def.OID] = r.current
		}
	}
	r.catalog = c
	return r.allLocked()
}

// broken tells whether rows of a table changed behind a position without a word in the log: what
// is replayed from there would not lead to the present rows.
func (r *registry) broken(oid uint32, from cdc.Position) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.breaks[oid]
	return ok && from.Compare(at) < 0
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
