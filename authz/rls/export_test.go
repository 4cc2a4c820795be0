package rls

import (
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// Mistake makes the compiled policies of a role give the opposite of what they should.
func (g *Postgres) Mistake(t *schema.Table, role string) {
	p := g.plan(t, role).predicate
	right := p.eval
	p.eval = func(e *evaluation) datum {
		d := right(e)
		return boolean(!d.isTrue())
	}
}

// UseTables is Use of tables without a catalog.
func (g *Postgres) UseTables(tables ...*schema.Table) { g.use(tables) }

// Unkept tells what keeps a table's policies from being judged by what is kept, "" for nothing,
// and whether they ask other tables at all.
func (g *Postgres) Unkept(t *schema.Table, role string) (why string, asks bool) {
	return g.notKept(t, role), g.keptBy(t, role) != nil
}

// Asks tells for how many principals Postgres would be asked.
func (g *Postgres) Asks(t *schema.Table, images []cdc.Row, principals []*authz.Principal) int {
	j := g.judgement(authz.Question{Table: t, Images: images, Principals: principals})
	j.findKnown()
	return len(g.share(g.tasks(j)))
}

// Read tells whether what a table's policies ask was read, and the stream has still to pass it.
func (g *Postgres) Read(t *schema.Table, role string) bool {
	p := g.keptBy(t, role)
	g.keeps.mu.RLock()
	defer g.keeps.mu.RUnlock()
	for _, k := range p.kept {
		if k.phase != phaseRead {
			return false
		}
	}
	return true
}

// KeptBytes is what is kept for policies, as it is counted, and as it is found by going through it.
func (g *Postgres) KeptBytes() (counted, found int) {
	s := g.keeps
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, k := range s.tables {
		for _, c := range k.recorded {
			found += c.row.Size() + changeBytes
		}
		if k.rows == nil {
			continue
		}
		found += len(k.rows.log) * changeBytes
		for _, e := range k.rows.entries {
			found += e.size()
		}
	}
	return s.bytes, found
}

// Age lets the history get older.
func (g *Postgres) Age(now time.Time) {
	g.keeps.mu.Lock()
	defer g.keeps.mu.Unlock()
	g.keeps.age(now)
}
