package schema

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/parser"
)

// A Request is a GraphQL request as a client sends it.
type Request struct {
	Query         string
	OperationName string
	Variables     json.RawMessage // a JSON object, null or empty
}

// An Operation is a compiled request. It is immutable.
type Operation struct {
	// Result is set for a query: the whole response. All else is of a subscription.
	Result []byte

	Table *Table
	// Where is nil where all rows match.
	Where *Filter
	Kinds KindSet
	// Snapshot, After and Progress are the arguments. After is "" for none or null.
	Snapshot  bool
	After     string
	Progress  bool
	Selection *Selection

	uses uses
}

// Compile parses and validates a request against the role's schema. Its errors are for the
// client: ErrorList.
func (r *Role) Compile(req Request) (*Operation, error) {
	doc, err := r.parse(req.Query)
	if err != nil {
		return nil, err
	}
	op, err := selectOperation(doc, req.OperationName)
	if err != nil {
		return nil, err
	}
	if errs := validate(r.schema, doc); len(errs) > 0 {
		return nil, clientErrors(errs, ValidationFailed)
	}
	vars, err := r.variables(op, req.Variables)
	if err != nil {
		return nil, err
	}
	if op.Operation == ast.Query {
		return r.query(op, vars)
	}
	return r.subscription(op, vars)
}

func (r *Role) parse(query string) (*ast.QueryDocument, error) {
	if err := r.options.Limits.checkText(query); err != nil {
		return nil, err
	}
	doc, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: query}, 2*r.options.Limits.Tokens)
	if err != nil {
		return nil, clientErrors(gqlerror.List{asGraphQL(err)}, ParseFailed)
	}
	if len(doc.Operations) == 0 {
		return nil, ErrorList{{Code: ParseFailed, Message: "the document has no operation"}}
	}
	if err := r.options.Limits.checkTree(doc); err != nil {
		return nil, err
	}
	return doc, nil
}

// selectOperation is GetOperation of the specification (6.1).
func selectOperation(doc *ast.QueryDocument, name string) (*ast.OperationDefinition, error) {
	if name == "" {
		if len(doc.Operations) == 1 {
			return doc.Operations[0], nil
		}
		return nil, badInput("the document has %d operations: say which with operationName", len(doc.Operations))
	}
	for _, op := range doc.Operations {
		if op.Name == name {
			return op, nil
		}
	}
	return nil, badInput("the document has no operation %q", clip(name))
}

// subscription compiles a valid subscription: it has one root field.
func (r *Role) subscription(op *ast.OperationDefinition, vars map[string]any) (*Operation, error) {
	c := &collector{vars: vars}
	fields := c.collect("Subscription", op.SelectionSet)
	if len(fields) != 1 || r.byField[fields[0].name] == nil {
		return nil, ErrorList{{Code: ValidationFailed, Message: "a subscription must have exactly one field at its root"}}
	}
	root := fields[0]
	t := r.byField[root.name]
	out := &Operation{Table: t.Table}
	if err := r.arguments(out, t, root, vars); err != nil {
		return nil, err
	}
	out.uses = uses{}
	out.uses.filtered(out.Where)
	out.Selection = compileSelection(t, c, root, out.uses)
	return out, nil
}

func badInput(format string, args ...any) error {
	return ErrorList{{Code: BadUserInput, Message: fmt.Sprintf(format, args...)}}
}

func asGraphQL(err error) *gqlerror.Error {
	var e *gqlerror.Error
	if errors.As(err, &e) {
		return e
	}
	return gqlerror.Wrap(err)
}

// clientErrors makes gqlparser's errors ours.
func clientErrors(list gqlerror.List, code Code) error {
	out := make(ErrorList, 0, len(list))
	for _, e := range list {
		ours := &Error{Code: code, Message: clip(strings.TrimSuffix(e.Message, "."))}
		for _, l := range e.Locations {
			ours.Locations = append(ours.Locations, Location{Line: l.Line, Column: l.Column})
		}
		out = append(out, ours)
	}
	return out
}

// maxMessage bounds what of a document comes back in an error.
const maxMessage = 400

// clip shortens text that came from the client.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= maxMessage {
		return s
	}
	n := maxMessage
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
