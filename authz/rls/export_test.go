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
