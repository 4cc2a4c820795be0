package rls

import (
	"strings"
)

// list reads expressions up to the closing sign.
func (p *parser) list(closing string) ([]*node, error) {
	var out []*node
	if p.sign(closing) {
		return nil, nil
	}
	for {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
		if p.sign(closing) {
			return out, nil
		}
		if err := p.expect(","); err != nil {
			return nil, err
		}
	}
}

// parenthesised reads ( expression ) or ( SELECT expression ).
func (p *parser) parenthesised() (*node, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if p.word("select") {
		n, err := p.queryNode(nodeScalar)
		if err == nil && n.query.plain() {
			n = n.query.columns[0]
		}
		return n, err
	}
	n, err := p.whole()
	if err != nil {
		return nil, err
	}
	if !p.sign(",") {
		return n, p.expect(")")
	}
	rest, err := p.list(")")
	if err != nil {
		return nil, err
	}
	return p.make(node{kind: nodeTuple, kids: append([]*node{n}, rest...)})
}

func (p *parser) prefix() (*node, error) {
	switch {
	case p.word("not"):
		n, err := p.expression(bindNot - 1)
		if err != nil {
			return nil, err
		}
		return p.make(node{kind: nodeNot, kids: []*node{n}})
	case p.is(lexOperator, "-") && p.in[p.at+1].kind == lexNumber && len(p.in[p.at+1].text) < 10:
		// Of a number that is short enough to have the same type without its sign.
		p.at += 2
		if p.is(lexSign, "::") {
			return nil, p.unread() // the sign is of what is cast
		}
		return p.make(node{kind: nodeNumber, text: "-" + p.in[p.at-1].text})
	}
	n, err := p.primary()
	for err == nil {
		switch {
		case p.sign("::"):
			n, err = p.cast(n)
		case p.is(lexSign, "[") || p.is(lexSign, "."):
			return nil, p.unread()
		default:
			return n, nil
		}
	}
	return nil, err
}

func (p *parser) primary() (*node, error) {
	l := p.in[p.at]
	switch l.kind {
	case lexString:
		p.at++
		return p.make(node{kind: nodeString, text: l.text})
	case lexNumber:
		p.at++
		return p.make(node{kind: nodeNumber, text: l.text})
	case lexParam:
		p.at++
		return p.make(node{kind: nodeParam, text: l.text})
	case lexSign:
		if l.text == "(" {
			return p.parenthesised()
		}
	case lexQuoted:
		return p.name()
	case lexWord:
		return p.keyword(l.text)
	default:
	}
	return nil, p.unread()
}

// keyword reads what begins with a word.
func (p *parser) keyword(w string) (*node, error) {
	switch w {
	case "null":
		p.at++
		return p.make(node{kind: nodeNull})
	case "true", "false":
		p.at++
		return p.make(node{kind: nodeBool, text: w})
	case "current_user", "current_role", "user":
		p.at++
		return p.make(node{kind: nodeUser})
	case "case":
		p.at++
		return p.caseOf()
	case "exists":
		if p.at++; !p.sign("(") || !p.word("select") {
			return nil, p.unread()
		}
		return p.queryNode(nodeExists)
	case "coalesce", "nullif", "cast", "array":
		p.at++
		return p.special(w)
	case "trim":
		p.at++
		return p.trim()
	}
	if reserved(w) {
		return nil, p.unread()
	}
	return p.name()
}

// reserved tells words that are no names: those of gram.y's reserved_keyword, and those of
// col_name_keyword and others that begin a notation of their own. A column of such a name is
// deparsed in quotes.
func reserved(w string) bool {
	return strings.Contains(" all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create current_catalog current_date current_role current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign from grant group having in initially intersect into lateral leading limit localtime localtimestamp not null offset on only or order placing primary references returning select session_user some symmetric system_user table then to trailing true union unique user using variadic when where window with "+
		"between bigint bit boolean char character coalesce dec decimal exists extract float greatest grouping inout int integer interval json json_array json_arrayagg json_object json_objectagg json_scalar json_serialize json_query json_value json_exists json_table least merge_action national nchar none normalize nullif numeric out overlay position precision real row setof smallint substring time timestamp treat trim values varchar xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable "+
		"authorization binary collation concurrently cross current_schema freeze full ilike inner is isnull join left like natural notnull outer overlaps right similar tablesample verbose ", " "+w+" ")
}

func (p *parser) special(w string) (*node, error) {
	if w == "array" && p.sign("(") {
		if !p.word("select") {
			return nil, p.unread()
		}
		return p.queryNode(nodeArrayQuery)
	}
	if w == "array" {
		if err := p.expect("["); err != nil {
			return nil, err
		}
		items, err := p.list("]")
		if err != nil {
			return nil, err
		}
		return p.make(node{kind: nodeArray, kids: items})
	}
	if err := p.expect("("); err != nil {
		return nil, err
	}
	if w == "cast" {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		if !p.word("as") {
			return nil, p.unread()
		}
		if n, err = p.cast(n); err != nil {
			return nil, err
		}
		return n, p.expect(")")
	}
	items, err := p.list(")")
	switch {
	case err != nil:
		return nil, err
	case w == "coalesce" && len(items) > 0:
		return p.make(node{kind: nodeCoalesce, kids: items})
	case w == "nullif" && len(items) == 2:
		return p.make(node{kind: nodeNullIf, kids: items})
	}
	return nil, p.unread()
}

// trim reads TRIM([BOTH | LEADING | TRAILING] [characters FROM | FROM] text).
func (p *parser) trim() (*node, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	name := "btrim"
	switch {
	case p.word("both"):
	case p.word("leading"):
		name = "ltrim"
	case p.word("trailing"):
		name = "rtrim"
	}
	var kids []*node
	if !p.word("from") {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		kids = append(kids, n)
	}
	if len(kids) == 0 || p.word("from") {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		kids = append([]*node{n}, kids...)
	}
	n, err := p.make(node{kind: nodeCall, path: []string{name}, kids: kids})
	if err != nil {
		return nil, err
	}
	return n, p.expect(")")
}

func (p *parser) caseOf() (*node, error) {
	out := node{kind: nodeCase}
	if !p.is(lexWord, "when") {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		out.kind, out.kids = nodeCaseOf, []*node{n}
	}
	for p.word("when") {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		if !p.word("then") {
			return nil, p.unread()
		}
		v, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		out.kids = append(out.kids, n, v)
	}
	if len(out.kids) < 2 {
		return nil, p.unread()
	}
	if p.word("else") {
		n, err := p.expression(0)
		if err != nil {
			return nil, err
		}
		out.otherwise = n
	}
	if !p.word("end") {
		return nil, p.unread()
	}
	return p.make(out)
}

// name reads a column, or a function and its arguments. Words that begin a typed literal, such
// as date '…', are not read.
func (p *parser) name() (*node, error) {
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	if p.in[p.at].kind == lexString {
		return nil, p.unread()
	}
	if p.everyColumn() {
		p.at += 2
		return p.make(node{kind: nodeRow, path: path})
	}
	if !p.sign("(") {
		return p.make(node{kind: nodeName, path: path})
	}
	args, err := p.list(")")
	if err != nil {
		return nil, err
	}
	if p.in[p.at].kind == lexWord {
		switch p.in[p.at].text {
		case "over", "filter", "within", "respect", "ignore":
			return nil, p.unread()
		}
	}
	return p.make(node{kind: nodeCall, path: path, kids: args})
}

func (p *parser) path() ([]string, error) {
	var path []string
	for {
		l := p.in[p.at]
		if l.kind != lexWord && l.kind != lexQuoted {
			return nil, p.unread()
		}
		p.at++
		path = append(path, l.text)
		if len(path) > 3 {
			return nil, p.unread()
		}
		if p.everyColumn() || !p.sign(".") {
			return path, nil
		}
	}
}

// everyColumn tells that .* is next.
func (p *parser) everyColumn() bool {
	return p.is(lexSign, ".") && p.in[p.at+1].kind == lexOperator && p.in[p.at+1].text == "*"
}
