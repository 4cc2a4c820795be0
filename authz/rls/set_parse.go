package rls

// A query is a sub-select as it is written: inner joins of tables, and conditions.
type query struct {
	// columns are what it selects; none where it asks for existence alone.
	columns []*node
	from    []source
	// where are the conditions, those of joins among them.
	where []*node
	// union are queries whose rows come besides.
	union []*query
	// one tells LIMIT 1.
	one bool
}

// A source is a table of FROM, under the name that it goes by.
type source struct {
	path  []string
	alias string
}

// plain tells SELECT of one expression, which is that expression.
func (q *query) plain() bool {
	return len(q.columns) == 1 && len(q.from) == 0 && len(q.where) == 0 && len(q.union) == 0 && !q.one
}

// subquery reads what follows SELECT.
func (p *parser) subquery() (*query, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errDeep
	}
	defer func() { p.depth-- }()
	q := &query{}
	p.word("distinct") // the same rows once more change no answer
	if err := p.selectList(q); err != nil {
		return nil, err
	}
	if p.word("from") {
		for {
			if err := p.joined(q); err != nil {
				return nil, err
			}
			if !p.sign(",") {
				break
			}
		}
	}
	if p.word("where") {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		q.where = append(q.where, n)
	}
	if p.word("union") {
		p.word("all")
		if !p.word("select") {
			return nil, p.unread()
		}
		other, err := p.subquery()
		if err != nil {
			return nil, err
		}
		q.union = append(q.union, other)
	}
	if p.is(lexWord, "limit") && p.in[p.at+1].kind == lexNumber && p.in[p.at+1].text == "1" {
		p.at += 2
		q.one = true
	}
	return q, nil
}

func (p *parser) selectList(q *query) error {
	if p.is(lexWord, "from") || p.is(lexWord, "where") || p.is(lexSign, ")") {
		return nil
	}
	if p.take(lexOperator, "*") {
		return nil
	}
	for {
		n, err := p.selected()
		if err != nil {
			return err
		}
		q.columns = append(q.columns, n)
		if !p.sign(",") {
			return nil
		}
	}
}

// joined reads a table and those that are joined to it.
func (p *parser) joined(q *query) error {
	if err := p.source(q); err != nil {
		return err
	}
	for {
		cross := p.word("cross")
		inner := !cross && p.word("inner")
		if !p.word("join") {
			if cross || inner {
				return p.unread()
			}
			return nil
		}
		if err := p.source(q); err != nil {
			return err
		}
		if cross {
			continue
		}
		if !p.word("on") {
			return p.unread()
		}
		n, err := p.expression(0)
		if err != nil {
			return err
		}
		q.where = append(q.where, n)
	}
}

func (p *parser) source(q *query) error {
	if p.sign("(") {
		if p.depth++; p.depth > maxDepth {
			return errDeep
		}
		defer func() { p.depth-- }()
		if err := p.joined(q); err != nil {
			return err
		}
		return p.expect(")")
	}
	if l := p.in[p.at]; l.kind == lexWord && reserved(l.text) {
		return p.unread()
	}
	path, err := p.path()
	if err != nil {
		return err
	}
	s := source{path: path, alias: path[len(path)-1]}
	as := p.word("as")
	switch l := p.in[p.at]; {
	case l.kind == lexQuoted, l.kind == lexWord && (as || !reserved(l.text) && l.text != "limit"):
		s.alias = l.text
		p.at++
	case as:
		return p.unread()
	}
	if p.is(lexSign, "(") {
		return p.unread() // a function, or names for columns
	}
	q.from = append(q.from, s)
	return nil
}

// queryNode reads a sub-select up to its closing parenthesis, whose opening one and SELECT have
// been read.
func (p *parser) queryNode(kind nodeKind, kids ...*node) (*node, error) {
	q, err := p.subquery()
	if err != nil {
		return nil, err
	}
	if err := p.expect(")"); err != nil {
		return nil, err
	}
	return p.make(node{kind: kind, kids: kids, query: q})
}
