package rls

import (
	"slices"
	"strconv"
	"strings"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// Policies that Postgres has to evaluate, because they read the clock for example, often read one claim,
// or none. Where it is certain which, principals alike in these are asked about once.

// compileShare compiles what the policies read of a principal; nil where that is not certain: they
// call what might read any setting. The result is for comparing principals alone.
func compileShare(t *schema.TableDef, role string) *predicate {
	// Generated columns and domains call functions of their own.
	if compilable(t, t.Access[role]) != nil || hasGenerated(t) || baseSQL(t, "") != "" {
		return nil
	}
	c := newCompiler(t, role)
	for _, i := range t.Access[role].Policies {
		if t.Policies[i].Using == "" {
			continue
		}
		n, err := parseExpression(t.Policies[i].Using)
		if err != nil || !c.readsOf(n) {
			return nil
		}
	}
	return &predicate{memo: c.memo}
}

// readsOf notes in the memo what an expression reads of the principal: parts of what compiles in it.
func (c *compiler) readsOf(n *node) bool {
	if _, err := c.compile(n); err == nil {
		return true
	}
	switch n.kind {
	case nodeCall:
		if len(n.path) != 1 || !slices.Contains(impersonal, n.path[0]) {
			return false
		}
	case nodeCast:
		if strings.Contains(n.text, ".") {
			return false
		}
	case nodeString, nodeNumber, nodeName, nodeRow, nodeOp, nodeAnd, nodeOr, nodeNot, nodeIs, nodeCase, nodeCaseOf, nodeCoalesce, nodeNullIf, nodeArray, nodeAny, nodeAll:
	default:
		return false
	}
	for _, k := range n.kids {
		if !c.readsOf(k) {
			return false
		}
	}
	return n.otherwise == nil || c.readsOf(n.otherwise)
}

// impersonal are functions of pg_catalog that give the same to all principals of a role.
var impersonal = []string{
	"now", "transaction_timestamp", "statement_timestamp", "clock_timestamp", "date_trunc", "date_part", "age", "pg_has_role", "initcap", "concat", "concat_ws",
	"abs", "round", "floor", "ceil", "array_position", "array_length", "jsonb_array_length", "regexp_replace", "substr", "substring", "replace", "reverse", "md5",
}

// alike is equal for principals whom the plan's policies treat alike; false where that is not known.
func (g *Postgres) alike(p *plan, principal *authz.Principal) (string, bool) {
	if p.share == nil {
		return "", false
	}
	b := g.bounds.of(p.share, principal)
	if b.refused {
		return "", false
	}
	key := []byte{}
	for i, d := range b.values {
		if p.share.memo.ofPrincipal[i].inner {
			continue
		}
		var ok bool
		if key, ok = d.appendKey(key); !ok {
			return "", false
		}
	}
	return string(key), true
}

// appendKey appends what is equal for equal values alone; documents have none.
func (d *datum) appendKey(key []byte) ([]byte, bool) {
	if d.doc != nil {
		return nil, false
	}
	if d.null {
		return append(key, 'n'), true
	}
	key = append(strconv.AppendInt(append(key, 'v'), d.i, 10), ' ')
	key = append(append(strconv.AppendInt(key, int64(len(d.s)), 10), ' '), d.s...)
	key = append(strconv.AppendInt(key, int64(len(d.list)), 10), ' ')
	ok := true
	for i := range d.list {
		if key, ok = d.list[i].appendKey(key); !ok {
			return nil, false
		}
	}
	return key, ok
}

// A likeness is what tasks share that are asked about once.
type likeness struct {
	plan *plan
	key  string
}

// share leaves of tasks that are alike the first, which the others follow.
func (g *Postgres) share(tasks []*task) []*task {
	firsts := map[likeness][]*task{}
	rest := tasks[:0]
	for _, t := range tasks {
		key, known := g.alike(t.plan, t.as.principal)
		if !known || t.fast != nil {
			rest = append(rest, t)
			continue
		}
		l := likeness{t.plan, key}
		at := slices.IndexFunc(firsts[l], func(f *task) bool { return slices.Equal(f.images, t.images) })
		if at >= 0 {
			first := firsts[l][at]
			first.followers, first.as.alike = append(first.followers, t), append(first.as.alike, t.as.principal)
			continue
		}
		firsts[l] = append(firsts[l], t)
		rest = append(rest, t)
	}
	return rest
}

// follow gives the followers of a task what was found.
func (j *judgement) follow(t *task) {
	for _, f := range t.followers {
		for _, i := range t.images {
			f.out[i] = t.out[i]
		}
		for _, n := range t.notes {
			j.audit.add(f, n.event, n.reason, n.sqlstate, n.images)
		}
	}
}

// A note is what was audited of a task.
type note struct {
	event            authz.Event
	reason, sqlstate string
	images           int
}
