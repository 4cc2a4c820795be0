package rls

import (
	"errors"
	"strconv"
)

const (
	maxDepth = 200
	maxNodes = 4000
)

// A parser reads one expression, of pg_get_expr or of a function's body, with the precedences of
// PostgreSQL (src/backend/parser/gram.y).
type parser struct {
	in    []lexeme
	at    int
	depth int
	nodes int
}

// parseExpression reads a whole text. Its errors say what it does not read, for people.
func parseExpression(s string) (*node, error) { return parseWhole(s, (*parser).whole) }

func parseWhole(s string, read func(*parser) (*node, error)) (*node, error) {
	in, err := lex(s)
	if err != nil {
		return nil, err
	}
	p := &parser{in: in}
	n, err := read(p)
	if err != nil {
		return nil, err
	}
	if p.in[p.at].kind != lexEnd {
		return nil, p.unread()
	}
	return n, nil
}

func (p *parser) whole() (*node, error) { return p.expression(0) }

func (p *parser) unread() error {
	l := p.in[p.at]
	if l.kind == lexEnd {
		return errors.New("it ends too soon")
	}
	return errors.New("it reads " + strconv.Quote(l.text) + ", which is not compiled")
}

func (p *parser) is(kind lexKind, text string) bool {
	return p.in[p.at].kind == kind && p.in[p.at].text == text
}

func (p *parser) take(kind lexKind, text string) bool {
	if !p.is(kind, text) {
		return false
	}
	p.at++
	return true
}

func (p *parser) word(w string) bool { return p.take(lexWord, w) }

func (p *parser) sign(s string) bool { return p.take(lexSign, s) }

func (p *parser) expect(sign string) error {
	if !p.sign(sign) {
		return p.unread()
	}
	return nil
}

func (p *parser) make(n node) (*node, error) {
	if p.nodes++; p.nodes > maxNodes {
		return nil, errors.New("it is too large")
	}
	return &n, nil
}

// The precedences, from the loosest (gram.y).
const (
	bindOr = iota + 1
	bindAnd
	bindNot
	bindIs
	bindCompare
	bindIn
	bindOp
	bindAdd
	bindMul
)

var errDeep = errors.New("it is nested too deep")

// expression reads what binds tighter than least.
func (p *parser) expression(least int) (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errDeep
	}
	defer func() { p.depth-- }()
	left, err := p.prefix()
	for err == nil {
		bind := p.binding()
		if bind <= least {
			return left, nil
		}
		left, err = p.infix(left, bind)
		if err == nil && (bind == bindCompare || bind == bindIs || bind == bindIn) && p.binding() == bind {
			return nil, p.unread() // they do not associate
		}
	}
	return nil, err
}

// binding is how tight the next operator binds; 0 for none.
func (p *parser) binding() int {
	l := p.in[p.at]
	switch l.kind {
	case lexOperator:
		switch l.text {
		case "<", ">", "=", "<=", ">=", "<>":
			return bindCompare
		case "+", "-":
			return bindAdd
		case "*", "/", "%":
			return bindMul
		case "^":
			return 0
		}
		return bindOp
	case lexWord:
		switch l.text {
		case "or":
			return bindOr
		case "and":
			return bindAnd
		case "is":
			return bindIs
		case "in", "like":
			return bindIn
		case "not":
			if n := p.in[p.at+1]; n.kind == lexWord && (n.text == "in" || n.text == "like") {
				return bindIn
			}
		}
	default:
	}
	return 0
}

func (p *parser) infix(left *node, bind int) (*node, error) {
	l := p.in[p.at]
	p.at++
	switch bind {
	case bindIs:
		return p.test(left)
	case bindIn:
		not := l.text == "not"
		if not {
			l = p.in[p.at]
			p.at++
		}
		if l.text == "like" {
			return p.like(left, not)
		}
		return p.inList(left, not)
	}
	if bind >= bindCompare && p.in[p.at].kind == lexWord {
		switch p.in[p.at].text {
		case "any", "some":
			p.at++
			return p.quantified(nodeAny, l.text, left)
		case "all":
			p.at++
			return p.quantified(nodeAll, l.text, left)
		}
	}
	right, err := p.expression(bind)
	if err != nil {
		return nil, err
	}
	kind := nodeOp
	switch bind {
	case bindAnd:
		kind = nodeAnd
	case bindOr:
		kind = nodeOr
	}
	return p.make(node{kind: kind, text: l.text, kids: []*node{left, right}})
}

func (p *parser) quantified(kind nodeKind, op string, left *node) (*node, error) {
	if n := p.in[min(p.at+1, len(p.in)-1)]; n.kind == lexWord && n.text == "select" {
		if !p.sign("(") || !p.word("select") {
			return nil, p.unread()
		}
		return p.inQuery(kind, op, left)
	}
	array, err := p.parenthesised()
	if err != nil {
		return nil, err
	}
	return p.make(node{kind: kind, text: op, kids: []*node{left, array}})
}

// inQuery reads the rest of = ANY (SELECT …), which is IN, or of <> ALL (SELECT …).
func (p *parser) inQuery(kind nodeKind, op string, left *node) (*node, error) {
	if (kind != nodeAny || op != "=") && (kind != nodeAll || op != "<>") {
		return nil, errors.New("it compares with the rows of a sub-select")
	}
	n, err := p.queryNode(nodeInQuery, left)
	if err != nil || kind == nodeAny {
		return n, err
	}
	return p.make(node{kind: nodeNot, kids: []*node{n}})
}

// test reads what follows IS.
func (p *parser) test(left *node) (*node, error) {
	not := p.word("not")
	l := p.in[p.at]
	p.at++
	out := node{kind: nodeIs, text: l.text, kids: []*node{left}}
	switch {
	case l.kind == lexWord && (l.text == "null" || l.text == "true" || l.text == "false" || l.text == "unknown"):
	case l.kind == lexWord && l.text == "distinct" && p.word("from"):
		right, err := p.expression(bindIs)
		if err != nil {
			return nil, err
		}
		out.kids = append(out.kids, right)
	default:
		p.at--
		return nil, p.unread()
	}
	n, err := p.make(out)
	if err != nil || !not {
		return n, err
	}
	return p.make(node{kind: nodeNot, kids: []*node{n}})
}

// like reads a pattern behind [NOT] LIKE. An ESCAPE behind it is not read.
func (p *parser) like(left *node, not bool) (*node, error) {
	pattern, err := p.expression(bindIn)
	if err != nil {
		return nil, err
	}
	op := "~~"
	if not {
		op = "!~~"
	}
	return p.make(node{kind: nodeOp, text: op, kids: []*node{left, pattern}})
}

// inList reads [NOT] IN (list), as PostgreSQL does: = ANY of the list, <> ALL of it.
func (p *parser) inList(left *node, not bool) (*node, error) {
	kind, op := nodeAny, "="
	if not {
		kind, op = nodeAll, "<>"
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if p.word("select") {
		return p.inQuery(kind, op, left)
	}
	items, err := p.list(")")
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return nil, p.unread()
	}
	array, err := p.make(node{kind: nodeArray, kids: items})
	if err != nil {
		return nil, err
	}
	return p.make(node{kind: kind, text: op, kids: []*node{left, array}})
}
