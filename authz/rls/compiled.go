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
	// kept are the tables that it asks, by queries; slots and cells are what an evaluation needs.
	kept         []*kept
	queries      []*setQuery
	slots, cells int
}

// A Way is how one policy is evaluated.
type Way struct {
	Policy string
	// Way is "compiled", "set" or "postgres".
	Way string
	// Why says what keeps the policy from a faster way, for people.
	Why string
	// Keeps are the tables of which something is kept for it, for people.
	Keeps []string
}

// The ways, from the fastest.
const (
	wayCompiled = "compiled"
	waySet      = "set"
	wayPostgres = "postgres"
)

// Ways tells how each policy that applies to a role on a table is evaluated. A policy that could
// be compiled is not where another cannot: with an OR between them, an error of the other hides.
func (g *Postgres) Ways(t *schema.Table, role string) []Way {
	access := t.Def.Access[role]
	out := make([]Way, 0, len(access.Policies))
	other := ""
	for _, i := range access.Policies {
		q := t.Def.Policies[i]
		w := Way{Policy: q.Name, Way: wayCompiled}
		c := newCompiler(t.Def, role)
		if c.ask = g.keeps.asking(t.Def); c.ask != nil { // whether it is kept is told below
			c.ask.keep = func(d *schema.TableDef) *kept { return &kept{def: d} }
		}
		if _, err := c.policy(q); err != nil {
			w.Way, w.Why, other = wayPostgres, err.Error(), q.Name
		} else if c.ask != nil && len(c.ask.kept) > 0 {
			w.Way, w.Keeps = waySet, g.keeps.holdings(c.ask.kept)
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
	} else {
		why = g.notKept(t, role)
	}
	for i := range out {
		if out[i].Way != wayPostgres && why != "" {
			out[i].Way, out[i].Why, out[i].Keeps = wayPostgres, why, nil
		}
	}
	return out
}

// notKept tells why what the policies ask of other tables is not kept, "" where it is.
func (g *Postgres) notKept(t *schema.Table, role string) string {
	p := g.keptBy(t, role)
	if p == nil {
		return ""
	}
	g.keeps.mu.RLock()
	defer g.keeps.mu.RUnlock()
	for _, k := range p.kept {
		switch {
		case k.phase == phaseKept:
		case k.why != "":
			return k.why
		default:
			return "the table " + k.def.Schema + "." + k.def.Name + " is being read"
		}
	}
	return ""
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
func compile(t *schema.TableDef, role string, ask *asking) *predicate {
	if compilable(t, t.Access[role]) != nil {
		return nil
	}
	c := newCompiler(t, role)
	c.ask = ask
	f, err := c.together(c.policy)
	if err != nil {
		return nil
	}
	p := &predicate{formula: f, memo: c.memo}
	if ask != nil {
		p.kept, p.queries, p.slots, p.cells = ask.kept, ask.queries, ask.slots, ask.cells
	}
	return p
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
	if c.row != nil && len(terms) == 0 && len(permissive) == 1 { // an equality that an index serves
		return permissive[0], nil
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
	e := p.evaluation(t.as.principal, b)
	var rest []int
	for _, i := range t.images {
		e.image, e.ofRow, e.refused = j.q.Images[i], rows.values[i*size:(i+1)*size], rows.refused[i]
		e.at, e.work = j.q.Commit, 0
		if i < len(j.q.Old) && j.q.Old[i] {
			e.at--
		}
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
