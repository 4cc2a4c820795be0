package rls

import (
	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// Narrow implements fanout.Narrower: it gives the equalities of columns and claims that the
// policies imply, of a policy that is not compiled too as far as it is an AND or OR of what is.
// What is visible meets them whichever way it is judged.
func (g *Postgres) Narrow(t *schema.Table, p *authz.Principal) []authz.Equality {
	plan := g.plan(t, p.Role)
	switch {
	case plan.fixed == authz.Hidden:
		return never()
	case plan.hint == nil:
		return nil
	}
	b := g.bounds.of(plan.hint, p)
	if b.refused {
		return nil
	}
	e := plan.hint.evaluation(p, b)
	defer g.keeps.lend(plan.hint, &e)()
	out := plan.hint.narrow(&e)
	if e.refused {
		return nil
	}
	return out
}

// compileHint compiles what there is to narrow by in policies that are not compiled as a whole;
// nil for nothing. The result is for narrowing alone.
func compileHint(t *schema.TableDef, role string) *predicate {
	if compilable(t, t.Access[role]) != nil {
		return nil
	}
	c := newCompiler(t, role)
	f, err := c.together(func(q schema.Policy) (formula, error) {
		n, err := parseExpression(q.Using)
		if err != nil {
			return formula{}, nil //nolint:nilerr // what is not read narrows nothing
		}
		return c.hint(n), nil
	})
	if err != nil {
		return nil
	}
	return &predicate{formula: f, memo: c.memo}
}

// hint compiles what it can of the conditions that an AND or OR joins.
func (c *compiler) hint(n *node) formula {
	if f, err := c.condition(n); err == nil {
		return f
	}
	if n.kind != nodeAnd && n.kind != nodeOr {
		return formula{}
	}
	kids := make([]formula, len(n.kids))
	for i, k := range n.kids {
		kids[i] = c.hint(k)
	}
	if n.kind == nodeAnd {
		return formula{narrow: narrowAll(kids)}
	}
	return formula{narrow: narrowSome(kids)}
}
