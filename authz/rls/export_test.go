package rls

import (
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
