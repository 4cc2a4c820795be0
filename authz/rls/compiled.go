package rls

import (
	"errors"
	"fmt"

	"github.com/rowtide/rowtide/schema"
)

// A predicate is all of a table's policies for a role, evaluated in process. It gives what
// Postgres would give, or nothing: see formula.
type predicate struct {
	formula
	memo *memo
}

// A Way is how one policy is evaluated.
type Way struct {
	Policy string
	// Way is "compiled" or "postgres".
	Way string
	// Why says what keeps the policy from a faster way, for people.
	Why string
}

// Ways tells how each policy that applies to a role on a table is evaluated. A policy that could
// be compiled is not where another cannot: with an OR between them, an error of the other hides.
func (g *Postgres) Ways(t *schema.Table, role string) []Way {
	access := t.Def.Access[role]
	out := make([]Way, 0, len(access.Policies))
	c := newCompiler(t.Def, role)
	other := ""
	for _, i := range access.Policies {
		q := t.Def.Policies[i]
		w := Way{Policy: q.Name, Way: "compiled"}
		if _, err := c.policy(q); err != nil {
			w.Way, w.Why, other = "postgres", err.Error(), q.Name
		}
		out = append(out, w)
	}
	why := ""
	if err := compilable(t.Def, access); err != nil {
		why = err.Error()
	} else if !g.cfg.Compile {
		why = "compiling is switched off"
	} else if other != "" {
		why = fmt.Sprintf("the policy %q is not compiled", other)
	}
	for i := range out {
		if out[i].Way == "compiled" && why != "" {
			out[i].Way, out[i].Why = "postgres", why
		}
	}
	return out
}

// compilable tells what speaks against compiling any policy of a table.
func compilable(t *schema.TableDef, a schema.Access) error {
	switch {
	case !t.UTF8:
		return errors.New("the server's encoding is not UTF8")
	case !a.Builtins:
		return errors.New("the role lacks EXECUTE on functions of pg_catalog, or there are casts of somebody's own")
	}
	return nil
}

// compile gives the predicate, or nil where a part of it is not compiled.
func compile(t *schema.TableDef, role string) *predicate {
	if compilable(t, t.Access[role]) != nil {
		return nil
	}
	c := newCompiler(t, role)
	f, err := c.together(c.policy)
	if err != nil {
		return nil
	}
	return &predicate{f, c.memo}
}

// together joins the policies that apply to the role: those that restrict, and one of those that
// permit. A policy without an expression lets nothing in and keeps nothing out: see condition.
func (c *compiler) together(policy func(schema.Policy) (formula, error)) (formula, error) {
	var permissive, terms []formula
	for _, i := range c.table.Access[c.role].Policies {
		q := c.table.Policies[i]
		if q.Using == "" {
			continue
		}
		f, err := policy(q)
		switch {
		case err != nil:
			return f, err
		case q.Permissive:
			permissive = append(permissive, f)
		default:
			terms = append(terms, f)
		}
	}
	terms = append(terms, formula{typ: "bool", eval: some(permissive), narrow: narrowSome(permissive)})
	return formula{typ: "bool", eval: all(terms), narrow: narrowAll(terms)}, nil
}

func (c *compiler) policy(q schema.Policy) (formula, error) {
	if q.Using == "" {
		return formula{}, nil
	}
	n, err := parseExpression(q.Using)
	if err != nil {
		return formula{}, err
	}
	return c.condition(n)
}

// judge decides on a task's images, and gives those on which Postgres has to decide.
func (p *predicate) judge(j *judgement, t *task, b *bound) []int {
	if b.refused {
		return t.images
	}
	rows, size := j.rowsOf(p), len(p.memo.ofRow)
	e := evaluation{role: t.as.principal.Role, settings: t.as.principal.Settings, ofPrincipal: b.values}
	var rest []int
	for _, i := range t.images {
		e.image, e.ofRow, e.refused = j.q.Images[i], rows.values[i*size:(i+1)*size], rows.refused[i]
		visible := p.eval(&e).isTrue()
		if e.refused {
			rest = append(rest, i)
			continue
		}
		t.out[i] = verdict(visible)
	}
	return rest
}

// ofRows are the parts of a predicate that read the row alone, of each image in turn.
type ofRows struct {
	values  []datum
	refused []bool
}

// rowsOf evaluates them, for whoever asks first.
func (j *judgement) rowsOf(p *predicate) ofRows {
	if rows, ok := j.rows[p]; ok {
		return rows
	}
	size := len(p.memo.ofRow)
	rows := ofRows{make([]datum, size*len(j.q.Images)), make([]bool, len(j.q.Images))}
	var e evaluation
	for _, i := range j.known {
		e = evaluation{image: j.q.Images[i], ofRow: rows.values[i*size : (i+1)*size]}
		evaluate(&e, p.memo.ofRow, e.ofRow)
		rows.refused[i] = e.refused
	}
	if j.rows == nil {
		j.rows = map[*predicate]ofRows{}
	}
	j.rows[p] = rows
	return rows
}
