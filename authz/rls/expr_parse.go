package rls

import (
	"errors"
	"strconv"
	"strings"
)

// A node is an expression as it is written.
type node struct {
	kind nodeKind
	// text is a literal's value, an operator, a type's name or a test's words.
	text string
	// path is the name of a column or function. A part that stood in no quotes is folded.
	path []string
	kids []*node
	// otherwise is the ELSE of a CASE, whose kids are conditions and values by turns.
	otherwise *node
}

type nodeKind uint8

const (
	nodeString nodeKind = iota + 1
	nodeNumber
	nodeNull
	nodeBool
	nodeUser
	nodeParam
	nodeName
	nodeCall
	nodeCast
	nodeOp
	nodeAnd
	nodeOr
	nodeNot
	nodeIs       // text: NULL, TRUE, FALSE, UNKNOWN, DISTINCT; NOT around it is a nodeNot
	nodeCase     // kids: conditions and values
	nodeCaseOf   // kids: the operand, then values and results
	nodeCoalesce // kids
	nodeNullIf   // two kids
	nodeArray    // kids are the elements
	nodeAny      // op over kids: an operand and an array
	nodeAll
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

// parseBody reads the body of a function: SELECT of one expression, or where it is deparsed
// RETURN of one, or BEGIN ATOMIC.
func parseBody(s string, deparsed bool) (*node, error) {
	if deparsed {
		return parseWhole(s, (*parser).standardBody)
	}
	return parseWhole(s, (*parser).textBody)
}

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

var errManySteps = errors.New("a function's body is more than one expression")

func (p *parser) textBody() (*node, error) {
	if !p.word("select") {
		return nil, errManySteps
	}
	n, err := p.selected()
	p.sign(";")
	return n, err
}

func (p *parser) standardBody() (*node, error) {
	if p.word("return") {
		return p.expression(0)
	}
	if !p.word("begin") || !p.word("atomic") || !p.word("select") {
		return nil, errManySteps
	}
	n, err := p.selected()
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

// expression reads what binds tighter than least.
func (p *parser) expression(least int) (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, errors.New("it is nested too deep")
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
		case "in":
			return bindIn
		case "not":
			if n := p.in[p.at+1]; n.kind == lexWord && n.text == "in" {
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
		return p.inList(left, l.text == "not")
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
		return nil, errors.New("it compares with the rows of a sub-select")
	}
	array, err := p.parenthesised()
	if err != nil {
		return nil, err
	}
	return p.make(node{kind: kind, text: op, kids: []*node{left, array}})
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

// inList reads [NOT] IN (list), as PostgreSQL does: = ANY of the list, <> ALL of it.
func (p *parser) inList(left *node, not bool) (*node, error) {
	kind, op := nodeAny, "="
	if not {
		p.at++
		kind, op = nodeAll, "<>"
	}
	if err := p.expect("("); err != nil {
		return nil, err
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
	read := p.whole
	if p.word("select") {
		read = p.selected
	}
	n, err := read()
	if err != nil {
		return nil, err
	}
	return n, p.expect(")")
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
	case "coalesce", "nullif", "cast", "array":
		p.at++
		return p.special(w)
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
		if !p.sign(".") {
			return path, nil
		}
	}
}

// cast reads the name of a type behind :: or AS.
func (p *parser) cast(of *node) (*node, error) {
	quoted := p.in[p.at].kind == lexQuoted
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	if quoted && len(path) == 1 {
		return nil, errors.New("it reads a type whose name stands in quotes")
	}
	name := ""
	if len(path) == 1 {
		name, err = p.builtinType(path[0])
	} else {
		name = typeKey(path...)
	}
	if err != nil {
		return nil, err
	}
	if p.sign("[") {
		name += "[]"
		if err := p.expect("]"); err != nil {
			return nil, err
		}
	}
	return p.make(node{kind: nodeCast, text: name, kids: []*node{of}})
}

// typeKey is the name of a type of another schema than pg_catalog.
func typeKey(path ...string) string {
	if len(path) == 2 && path[0] == "pg_catalog" {
		if name := canonicalType(path[1]); name != "" {
			return name
		}
	}
	quoted := make([]string, len(path))
	for i, part := range path {
		quoted[i] = ident(part)
	}
	return strings.Join(quoted, ".")
}

// builtinType reads the rest of a type's name. A modifier such as varchar(8) is not read: it
// truncates or rounds.
func (p *parser) builtinType(w string) (string, error) {
	switch {
	case w == "character" && p.word("varying"):
		w = "varchar"
	case w == "timestamp" && p.word("with"), w == "timestamp" && p.word("without"):
		if p.in[p.at-1].text == "with" {
			w = "timestamptz"
		}
		if !p.word("time") || !p.word("zone") {
			return "", p.unread()
		}
	}
	name := canonicalType(w)
	if name == "" {
		return "", errors.New("it reads the type " + w + ", which is not compiled")
	}
	if p.is(lexSign, "(") {
		return "", errors.New("it casts to a type of a certain length")
	}
	return name, nil
}

// canonicalType is the name of a type in pg_type, of which varchar counts as text; "" for those
// that are not compiled.
func canonicalType(w string) string {
	switch w {
	case "bool", "boolean":
		return "bool"
	case "int2", "smallint":
		return "int2"
	case "int4", "integer", "int":
		return "int4"
	case "int8", "bigint":
		return "int8"
	case "numeric", "decimal", "dec":
		return "numeric"
	case "text", "varchar":
		return "text"
	case "name", "uuid", "json", "jsonb", "date", "timestamp", "timestamptz":
		return w
	}
	return ""
}
