package rls

import "github.com/rowtide/rowtide/schema"

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
