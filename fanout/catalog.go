package fanout

import (
	"context"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// SetCatalog puts a catalog in force before the next transaction is dispatched; called from
// Config.OnMessages, before the events of that one. It does not wait. Subscriptions are compiled
// anew in place; those whose document is no longer valid end with SCHEMA_CHANGED, and those whose
// policies or grants differ resync.
func (d *Dispatcher) SetCatalog(c *schema.Catalog) {
	d.mu.Lock()
	d.next = c
	d.mu.Unlock()
	signal(d.newCatalog)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// renew puts the catalog of SetCatalog in force, between transactions.
func (d *Dispatcher) renew() {
	d.mu.Lock()
	c := d.next
	if d.inside && c != nil { // dispatch comes back to it
		d.mu.Unlock()
		return
	}
	d.next = nil
	d.mu.Unlock()
	if c != nil {
		d.use(c)
	}
}

func (d *Dispatcher) use(c *schema.Catalog) {
	if c == d.registry.present() {
		return
	}
	if d.follower != nil { // before anybody is compiled by it
		d.follower.Use(c)
	}
	subs := d.registry.swap(c)
	d.matcher.bindings.forget()
	clear(d.refreshed)
	d.carry()
	for _, s := range subs {
		if v := s.present(); c.Role(v.principal.Role).Sees(v.op.Table) {
			continue // nothing that it is of changed
		}
		d.recompile(s, c)
		d.registry.moves(s)
	}
	d.registry.settle()
}

// recompile makes a running subscription one of a new catalog.
func (d *Dispatcher) recompile(s *Subscription, c *schema.Catalog) {
	old := s.present()
	v, _, err := d.compiler.compile(c, old.principal, s.request)
	if err != nil || v.op.Table == nil || v.op.Table.Def.OID != s.oid || old.op.Retyped(v.op) {
		s.end(schemaChanged(), flushed)
		return
	}
	s.setView(v)
	switch {
	case !sameRules(old.op.Table.Def, v.op.Table.Def, old.principal.Role):
		d.resync(s, reasonPolicy)
	case old.op.Rewritten(v.op):
		d.resync(s, reasonRewritten)
	}
}

// sameRules tells whether a role's SELECT on a table returns the same rows by both definitions.
// Privileges on columns have no part in it: policies read all columns, and a document that uses
// a column which it may no longer read is not valid any more.
func sameRules(old, new *schema.TableDef, role string) bool {
	a, b := old.Access[role], new.Access[role]
	return a.Usage == b.Usage && a.RowSecurity == b.RowSecurity && a.Builtins == b.Builtins && slices.Equal(policies(old, a), policies(new, b)) && sameRelated(old, new, a)
}

// sameRelated tells whether what policies ask and call means the same, as far as they do.
func sameRelated(old, new *schema.TableDef, a schema.Access) bool {
	if old.Related == nil || new.Related == nil || old.Related.Version == new.Related.Version {
		return true
	}
	return !slices.ContainsFunc(policies(old, a), func(p schema.Policy) bool {
		return p.Calls != "" || strings.Contains(p.Using, "SELECT")
	})
}

func policies(t *schema.TableDef, a schema.Access) []schema.Policy {
	if !a.RowSecurity {
		return nil
	}
	out := make([]schema.Policy, 0, len(a.Policies))
	for _, i := range a.Policies {
		out = append(out, t.Policies[i])
	}
	slices.SortFunc(out, func(x, y schema.Policy) int { return strings.Compare(x.Name, y.Name) })
	return out
}

// fit reads a newer catalog where the present one does not fit a relation of the batch. What
// still does not fit after that resyncs when it is matched.
func (d *Dispatcher) fit(ctx context.Context, events map[uint32][]*cdc.Event) error {
	if d.cfg.Refresh == nil || d.fits(events) {
		return nil
	}
	c, err := d.cfg.Refresh(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		d.log.Error("cannot read the catalog that a relation in the stream needs", "error", err)
		return nil
	}
	d.use(c)
	d.fits(events) // what does not fit now is not asked for again
	return nil
}

// fits tells whether all relations that subscriptions need fit the catalog, or were already
// asked for.
func (d *Dispatcher) fits(events map[uint32][]*cdc.Event) bool {
	fits := true
	for oid, of := range events {
		t := d.registry.present().Table(oid)
		if t == nil || !d.registry.serves(t) {
			continue
		}
		for _, e := range of {
			if _, err := d.matcher.bindings.get(t, e.Relation); err == nil {
				continue
			}
			if _, asked := d.refreshed[e.Relation]; !asked {
				d.refreshed[e.Relation] = struct{}{}
				fits = false
			}
		}
	}
	return fits
}
