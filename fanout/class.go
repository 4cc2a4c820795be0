package fanout

import (
	"sync"
	"unique"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A class is the subscriptions to a table that get the same frames of every transaction: same
// selection, where and kinds, for principals whom the policies treat alike. What is judged,
// matched and written for one of them is so for all.
type class struct {
	table *table
	key   classKey
	// view is that of a member: what matching reads of it is the same for all.
	view view
	// shape and keys are where the table's index has the class; shape is nil where each event has
	// to be held against it, or, with never, none.
	shape *shape
	keys  []string
	never bool
	// handles are what changes of membership reach the class by.
	handles []string
	// lane is the dispatcher's alone.
	lane lane

	mu      sync.Mutex
	members []*Subscription
}

// A classKey is equal for views that get the same frames from one table.
type classKey struct {
	role      string
	principal authz.Key // zero where row security does not tell principals of the role apart
	kinds     schema.KindSet
	where     string
	selection unique.Handle[string]
}

func (v *view) class() classKey {
	k := classKey{role: v.principal.Role, kinds: v.op.Kinds, selection: v.signature}
	if v.op.Table.Def.Access[k.role].RowSecurity {
		k.principal = v.principal.Key()
	}
	if v.op.Where != nil {
		k.where = v.op.Where.Signature()
	}
	return k
}

// enter makes s a member. The registry's lock is held.
func (c *class) enter(s *Subscription) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s.class, s.place = c, int32(len(c.members)) //nolint:gosec // a count
	c.members = append(c.members, s)
}

// leave tells whether s was the last member. The registry's lock is held.
func (c *class) leave(s *Subscription) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	end := len(c.members) - 1
	last := c.members[end]
	c.members[s.place], last.place = last, s.place
	c.members[end] = nil
	c.members = c.members[:end]
	s.class = nil
	return end == 0
}

// concerned tells whether any member gets what a transaction has for the class.
func (c *class) concerned(tx *cdc.Transaction) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.members {
		if s.concerned(tx) {
			return true
		}
	}
	return false
}

// deliver gives frames of a transaction to the members. Who has become one since they were matched
// starts behind the transaction, and gets none.
func (c *class) deliver(tx *cdc.Transaction, frames []frame) {
	if len(frames) == 0 {
		return
	}
	r := newRun(frames)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.members {
		s.deliver(tx, frames, r)
	}
}

// concernedMembers gives the members that get what a transaction has for the class.
func (c *class) concernedMembers(tx *cdc.Transaction) []*Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	var to []*Subscription
	for _, s := range c.members {
		if s.concerned(tx) {
			to = append(to, s)
		}
	}
	return to
}

func (c *class) appendMembers(to []*Subscription) []*Subscription {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(to, c.members...)
}
