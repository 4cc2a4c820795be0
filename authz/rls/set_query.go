package rls

import (
	"errors"
	"slices"
	"strings"
)

// A setQuery is a compiled sub-select. Its tables are in the process, so it is a few look-ups.
type setQuery struct {
	tables  []*scopeTable
	own     reads
	conds   []formula
	columns []formula
	all     joining
	// changed reads what joins a row that came or went, by the slot of its table, regardless of
	// the image: if there is something, the answer may be another.
	changed map[int]joining
	// grip tells whom rows concern, nil for all; gripped is changed regardless of principals.
	grip    *grip
	gripped map[int]joining
	// anchor is what ties the rows to the image; nil where nothing does that is known.
	anchor *anchor
}

// A joining is an order in which to read the tables.
type joining struct {
	// first are the conditions that depend on none of the rows.
	first []formula
	steps []joinStep
}

// A joinStep reads the rows of one table: those that an index has for the keys, or all.
type joinStep struct {
	table *scopeTable
	index int // -1 for all
	keys  []formula
	conds []formula
}

// asks compiles EXISTS, IN and scalar sub-selects.
func (c *compiler) asks(n *node) (formula, error) {
	if c.ask == nil {
		return formula{}, errOther
	}
	switch n.kind {
	case nodeExists:
		return c.exists(n.query)
	case nodeScalar:
		return c.scalar(n.query)
	default:
		return c.in(n)
	}
}

// queriesOf compiles a sub-select and those that UNION joins to it.
func (c *compiler) queriesOf(q *query, columns int) ([]*setQuery, error) {
	one, err := c.query(q, columns)
	if err != nil {
		return nil, err
	}
	out := []*setQuery{one}
	for _, u := range q.union {
		if u.one || q.one {
			return nil, errors.New("it takes some rows of many")
		}
		more, err := c.queriesOf(u, columns)
		if err != nil {
			return nil, err
		}
		out = append(out, more...)
	}
	return out, nil
}

// query compiles one sub-select of a number of columns, -1 for EXISTS.
func (c *compiler) query(q *query, columns int) (*setQuery, error) {
	if len(q.from) == 0 && len(q.columns) == 1 && q.columns[0].kind == nodeCall {
		if s, err := c.setFunction(q.columns[0], columns); s != nil || err != nil {
			return s, err
		}
	}
	if columns >= 0 && len(q.columns) != columns {
		return nil, errors.New("it selects several columns")
	}
	tables, err := c.sources(q)
	if err != nil {
		return nil, err
	}
	s := &setQuery{tables: tables}
	for _, t := range tables {
		s.own |= t.bit()
	}
	c.ask.within++
	scoped, around := c.scope, c.reads
	c.scope, c.reads = &scope{parent: scoped, tables: tables}, 0
	err = c.fillQuery(s, q, columns)
	c.ask.within--
	c.scope, c.reads = scoped, around|c.reads&^s.own|readsOther
	if err == nil && c.ask.risky&s.own != 0 {
		err = errRisky
	}
	c.ask.queries = append(c.ask.queries, s)
	return s, err
}

func (c *compiler) fillQuery(s *setQuery, q *query, columns int) error {
	for _, n := range q.where {
		if err := c.conjuncts(s, n); err != nil {
			return err
		}
	}
	for _, t := range s.tables {
		policies, err := c.rowPolicies(t)
		if err != nil {
			return err
		}
		for _, p := range policies {
			c.reads |= p.reads
		}
		s.conds = append(s.conds, policies...)
	}
	for _, n := range q.columns {
		if columns < 0 {
			if !constantRow(n) {
				return errors.New("it selects what may make rows")
			}
			continue
		}
		f, err := c.compile(n)
		if err != nil {
			return err
		}
		s.columns = append(s.columns, f)
	}
	for _, f := range s.conds {
		if f.equal != nil {
			s.tie(f.equal[0], f.equal[1], false)
			s.tie(f.equal[1], f.equal[0], false)
		}
	}
	s.all = joinAll(s.tables, s.conds, s.own, 0)
	s.grip = findGrip(s.conds, s.own)
	s.changed = s.joined(s.own | readsPrincipal)
	if s.grip != nil {
		s.gripped = s.joined(s.own)
	}
	return nil
}

// joined joins each table's rows with the others, under the conditions that read nothing else.
func (s *setQuery) joined(by reads) map[int]joining {
	var free []formula
	for _, f := range s.conds {
		if f.reads&^by == 0 {
			free = append(free, f)
		}
	}
	out := map[int]joining{}
	for _, t := range s.tables {
		out[t.slot] = joinAll(s.tables, free, s.own, t.bit())
	}
	return out
}

// constantRow tells what EXISTS may select: what makes one row of one.
func constantRow(n *node) bool {
	switch n.kind { //nolint:exhaustive // all others may aggregate, or make rows
	case nodeString, nodeNumber, nodeNull, nodeBool, nodeName:
		return true
	case nodeCast:
		return constantRow(n.kids[0])
	}
	return false
}

func (c *compiler) conjuncts(s *setQuery, n *node) error {
	if n.kind == nodeAnd {
		for _, k := range n.kids {
			if err := c.conjuncts(s, k); err != nil {
				return err
			}
		}
		return nil
	}
	f, err := c.condition(n)
	s.conds = append(s.conds, f)
	return err
}

// setFunction compiles a function that returns a set, which is its body's sub-select. It gives
// none where the function is another one.
func (c *compiler) setFunction(n *node, columns int) (*setQuery, error) {
	name := strings.Join(n.path, ".")
	if len(n.path) != 2 || n.path[0] == "pg_catalog" {
		return nil, nil
	}
	args, err := c.arguments(n.kids)
	if err != nil {
		return nil, err
	}
	f, err := c.findHelper(n, args, name)
	if err != nil || !f.Set {
		return nil, nil //nolint:nilerr // it is compiled as any other call
	}
	body, err := parseBody(f.Body, f.Deparsed)
	if err != nil {
		return nil, err
	}
	if body.kind != nodeScalar || f.Strict || body.query.one || len(body.query.union) > 0 || columns != 1 {
		return nil, errors.New("it uses a function that returns a set in a way that is not read")
	}
	in, err := c.enter(f, args)
	if err != nil {
		return nil, err
	}
	s, err := in.query(body.query, 1)
	if err == nil {
		s.columns[0], err = in.to(s.columns[0], formatted(strings.TrimPrefix(f.Result, "SETOF ")))
	}
	c.leave(in)
	return s, err
}

// joinAll orders the reading of the tables: first those for which there are keys.
func joinAll(tables []*scopeTable, conds []formula, own, bound reads) joining {
	var out joining
	placed := make([]bool, len(conds))
	place := func(into *[]formula) {
		for i, f := range conds {
			if !placed[i] && f.reads&own&^bound == 0 {
				placed[i] = true
				*into = append(*into, f)
			}
		}
	}
	place(&out.first)
	rest := slices.DeleteFunc(slices.Clone(tables), func(t *scopeTable) bool { return bound&t.bit() != 0 })
	for len(rest) > 0 {
		var best joinStep
		at := 0
		for i, t := range rest {
			s := probe(t, conds, own, bound)
			if best.table == nil || len(s.keys) > len(best.keys) {
				best, at = s, i
			}
		}
		rest = slices.Delete(rest, at, at+1)
		bound |= best.table.bit()
		place(&best.conds)
		out.steps = append(out.steps, best)
	}
	return out
}

// probe finds the columns of a table that equalities give values for.
func probe(t *scopeTable, conds []formula, own, bound reads) joinStep {
	out := joinStep{table: t, index: -1}
	keys := map[int]formula{}
	for _, f := range conds {
		if f.equal == nil {
			continue
		}
		for i, side := range f.equal {
			other := f.equal[1-i]
			if side.kept != nil && side.kept.table.slot == t.slot && other.reads&own&^bound == 0 && indexable(side.typ) && indexable(other.typ) {
				keys[side.kept.at] = other
			}
		}
	}
	if len(keys) == 0 {
		return out
	}
	columns := make([]int, 0, len(keys))
	for at := range keys {
		columns = append(columns, at)
	}
	slices.Sort(columns)
	for _, at := range columns {
		out.keys = append(out.keys, keys[at])
	}
	out.index = t.kept.index(columns)
	return out
}

func (c *compiler) exists(q *query) (formula, error) {
	queries, err := c.queriesOf(q, -1)
	if err != nil {
		return formula{}, err
	}
	return formula{typ: "bool", narrow: narrowAny(queries, func(int) []formula { return nil }), eval: func(e *evaluation) datum {
		found := false
		for _, s := range queries {
			s.each(e, &s.all, func() bool {
				found = true
				return false
			})
		}
		return boolean(found)
	}}, nil
}

// scalar is a sub-select of one row at most: NULL where there is none. Where there are more,
// Postgres raises an error, or takes one that is not known here.
func (c *compiler) scalar(q *query) (formula, error) {
	if len(q.union) > 0 {
		return formula{}, errors.New("it takes one row of a union")
	}
	s, err := c.query(q, 1)
	if err != nil {
		return formula{}, err
	}
	column := s.columns[0]
	if column.typ == "" {
		if column, err = c.to(column, "text"); err != nil {
			return formula{}, err
		}
	}
	out := formula{typ: column.typ, reads: c.reads}
	c.risk(out)
	out.eval = func(e *evaluation) datum {
		value, rows := null, 0
		s.each(e, &s.all, func() bool {
			if rows++; rows > 1 {
				e.refuse()
				return false
			}
			value = column.eval(e)
			return true
		})
		return value
	}
	return out, nil
}

// in is IN, of a value or a row of values.
func (c *compiler) in(n *node) (formula, error) {
	left := n.kids[:1]
	if left[0].kind == nodeTuple {
		left = left[0].kids
	}
	if n.query.one {
		return formula{}, errors.New("it takes some rows of many")
	}
	values, err := c.kids(left)
	if err != nil {
		return formula{}, err
	}
	queries, err := c.queriesOf(n.query, len(left))
	if err != nil {
		return formula{}, err
	}
	cells := make([]int, len(values))
	for i := range cells {
		cells[i] = c.ask.cells
		c.ask.cells++
	}
	parts := make([]*membership, len(queries))
	for i, s := range queries {
		if parts[i], err = c.membership(s, values, cells); err != nil {
			return formula{}, err
		}
	}
	narrow := narrowAny(queries, func(i int) []formula { return parts[i].ties(values) })
	return formula{typ: "bool", narrow: narrow, eval: func(e *evaluation) datum {
		anyNull := false
		for i, v := range values {
			d := v.eval(e)
			e.cells[cells[i]] = d
			anyNull = anyNull || d.null
		}
		out := datum{}
		for _, m := range parts {
			switch d := m.eval(e, anyNull); {
			case d.null && out.i == 0:
				out = null
			case d.isTrue():
				out = d
			}
		}
		return out
	}}, nil
}

// A membership is IN, of one sub-select.
type membership struct {
	s *setQuery
	// equals compare the values with the columns.
	equals []formula
	both   func(*evaluation) datum
	match  joining
	// certain tells that no column is ever NULL.
	certain bool
}

func (c *compiler) membership(s *setQuery, values []formula, cells []int) (*membership, error) {
	m := &membership{s: s, certain: true}
	for i, v := range values {
		l, r := v, s.columns[i]
		var err error
		if l.typ == "" && r.typ == "" {
			return nil, errors.New("it looks for a literal among literals")
		}
		if l, err = c.to(l, orType(l.typ, r.typ)); err != nil {
			return nil, err
		}
		if r, err = c.to(r, orType(r.typ, l.typ)); err != nil {
			return nil, err
		}
		s.columns[i] = r
		equal, err := c.comparison("=", l.typ, r.typ)
		if err != nil {
			return nil, err
		}
		cell := cells[i]
		in := formula{typ: l.typ, reads: v.reads, eval: func(e *evaluation) datum { return e.cells[cell] }}
		values[i] = l
		eq := formula{typ: "bool", reads: v.reads | r.reads, equal: &[2]formula{in, r}, eval: strict(in, r, equal)}
		m.equals = append(m.equals, eq)
		s.tie(l, r, true)
		m.certain = m.certain && r.kept != nil && r.kept.notNull
	}
	m.both = all(m.equals)
	m.match = joinAll(s.tables, append(slices.Clone(s.conds), m.equals...), s.own, 0)
	return m, nil
}

// ties are the equalities of columns of the image with those of the sub-select.
func (m *membership) ties(values []formula) []formula {
	var out []formula
	for i, f := range m.equals {
		if values[i].column != 0 {
			out = append(out, formula{reads: f.reads, equal: &[2]formula{values[i], f.equal[1]}})
		}
	}
	return out
}

func orType(typ, other string) string {
	if typ == "" {
		return other
	}
	return typ
}

// eval is TRUE where a row equals the values; else NULL where one may, for all that is known.
func (m *membership) eval(e *evaluation, anyNull bool) datum {
	found := false
	if !anyNull {
		m.s.each(e, &m.match, func() bool {
			found = true
			return false
		})
	}
	if found {
		return boolean(true)
	}
	if !anyNull && m.certain {
		return boolean(false)
	}
	unknown := false
	m.s.each(e, &m.s.all, func() bool {
		unknown = m.both(e).null
		return !unknown
	})
	if unknown {
		return null
	}
	return boolean(false)
}
