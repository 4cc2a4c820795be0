package rls

import (
	"errors"
)

// parseBody reads the body of a function: SELECT of one expression, or where it is deparsed
// RETURN of one, or BEGIN ATOMIC.
func parseBody(s string, deparsed bool) (*node, error) {
	if deparsed {
		return parseWhole(s, (*parser).standardBody)
	}
	return parseWhole(s, (*parser).textBody)
}

var errManySteps = errors.New("a function's body is more than one expression")

func (p *parser) textBody() (*node, error) {
	if !p.word("select") {
		return nil, errManySteps
	}
	n, err := p.bodyQuery()
	p.sign(";")
	return n, err
}

// bodyQuery reads what follows the SELECT of a body. It gives the first row.
func (p *parser) bodyQuery() (*node, error) {
	q, err := p.subquery()
	if err != nil {
		return nil, err
	}
	if q.plain() {
		return q.columns[0], nil
	}
	return p.make(node{kind: nodeScalar, query: q})
}

func (p *parser) standardBody() (*node, error) {
	if p.word("return") {
		return p.expression(0)
	}
	if !p.word("begin") || !p.word("atomic") || !p.word("select") {
		return nil, errManySteps
	}
	n, err := p.bodyQuery()
	if err != nil {
		return nil, err
	}
	if !p.sign(";") || !p.word("end") {
		return nil, p.unread()
	}
	return n, nil
}

// selected reads what follows SELECT: one expression and perhaps a name for it.
func (p *parser) selected() (*node, error) {
	n, err := p.expression(0)
	if err != nil || !p.word("as") {
		return n, err
	}
	if k := p.in[p.at].kind; k != lexWord && k != lexQuoted {
		return nil, p.unread()
	}
	p.at++
	return n, nil
}
