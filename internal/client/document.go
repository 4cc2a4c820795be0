package client

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

// A Document is a subscription that can be sent again to go on where it stopped.
type Document struct {
	// Query is what was written, with an argument after that is a variable.
	Query string
	// After names that variable, "" where the query is none that can be resumed: the service
	// says what is wrong with it.
	After string
	// From is the cursor that was written in the query, "" for none.
	From string
	// Kind, RowID and Row are the names that results have for these fields of the change, ""
	// where they are not asked for. Columns are those of the row, in the order of the query.
	Kind, RowID, Row string
	Columns          []string
}

// Names that nobody else gives.
const (
	afterVariable = "rowtideAfter"
	kindAlias     = "rowtideKind"
	rowIDAlias    = "rowtideRowId"
)

// ParseDocument reads a query and puts into it what resuming takes: the text is edited rather than
// printed anew, so the service's errors are about what was written. With identify it also asks for
// kind and rowId under names of its own.
func ParseDocument(query string, identify bool) Document {
	d := Document{Query: query}
	doc, err := parser.ParseQuery(&ast.Source{Input: query})
	if err != nil || len(doc.Operations) != 1 || doc.Operations[0].Operation != ast.Subscription {
		return d
	}
	op := doc.Operations[0]
	if len(op.SelectionSet) != 1 {
		return d
	}
	field, ok := op.SelectionSet[0].(*ast.Field)
	if !ok {
		return d
	}
	e := editor{text: []rune(query)}
	d.resume(&e, op, field)
	d.identify(&e, doc, field, identify)
	d.Query = e.edited()
	return d
}

// resume makes a variable of the field's argument after.
func (d *Document) resume(e *editor, op *ast.OperationDefinition, field *ast.Field) {
	after := field.Arguments.ForName("after")
	if after != nil && after.Value.Kind == ast.Variable {
		d.After = after.Value.Raw
		return
	}
	d.After = afterVariable
	switch {
	case after != nil:
		if after.Value.Kind == ast.StringValue {
			d.From = after.Value.Raw
		}
		e.replace(after.Value.Position.Start, after.Value.Position.End, "$"+afterVariable)
	case len(field.Arguments) > 0:
		e.insert(field.Arguments[0].Position.Start, "after: $"+afterVariable+", ")
	default:
		e.insert(e.behind(field.Position.Start, aliasAndName), "(after: $"+afterVariable+")")
	}
	if declared := op.VariableDefinitions; len(declared) > 0 {
		e.insert(declared[0].Position.Start, "$"+afterVariable+": Cursor, ")
		return
	}
	pattern := operationType
	if op.Name != "" {
		pattern = operationTypeAndName
	}
	e.insert(e.behind(op.Position.Start, pattern), "($"+afterVariable+": Cursor)")
}

// identify asks for kind and rowId, and finds the row.
func (d *Document) identify(e *editor, doc *ast.QueryDocument, field *ast.Field, ask bool) {
	first := slices.IndexFunc(field.SelectionSet, func(s ast.Selection) bool {
		_, ok := s.(*ast.Field)
		return ok
	})
	if ask && first >= 0 {
		d.Kind, d.RowID = kindAlias, rowIDAlias
		at := field.SelectionSet[first].(*ast.Field).Position.Start
		e.insert(at, fmt.Sprintf("%s: kind %s: rowId ", d.Kind, d.RowID))
	}
	for _, f := range fields(doc, field.SelectionSet, 0) {
		if f.Name == "row" && d.Row == "" {
			d.Row = f.Alias
			for _, column := range fields(doc, f.SelectionSet, 0) {
				d.Columns = append(d.Columns, column.Alias)
			}
		}
	}
}

// maxNesting is deeper than fragments of people are nested; fragments of themselves end there.
const maxNesting = 10

// fields are those of a selection set and of the fragments in it.
func fields(doc *ast.QueryDocument, set ast.SelectionSet, depth int) []*ast.Field {
	var out []*ast.Field
	if depth > maxNesting {
		return nil
	}
	for _, s := range set {
		switch s := s.(type) {
		case *ast.Field:
			out = append(out, s)
		case *ast.InlineFragment:
			out = append(out, fields(doc, s.SelectionSet, depth+1)...)
		case *ast.FragmentSpread:
			if f := doc.Fragments.ForName(s.Name); f != nil {
				out = append(out, fields(doc, f.SelectionSet, depth+1)...)
			}
		}
	}
	return out
}

// What stands between tokens: the GraphQL specification, 2.1, ignored tokens.
const ignored = `(?:[\s,]|#[^\r\n]*[\r\n])*`

const (
	aliasAndName         = `^\w+(?:` + ignored + `:` + ignored + `\w+)?`
	operationType        = `^\w+`
	operationTypeAndName = `^\w+` + ignored + `\w+`
)

// An editor collects edits of a text. Places are in runes, as the parser gives them.
type editor struct {
	text  []rune
	edits []edit
}

type edit struct {
	from, to int
	text     string
}

func (e *editor) insert(at int, text string)        { e.replace(at, at, text) }
func (e *editor) replace(from, to int, text string) { e.edits = append(e.edits, edit{from, to, text}) }

// behind is the place behind what a pattern matches at another.
func (e *editor) behind(at int, pattern string) int {
	found := regexp.MustCompile(pattern).FindString(string(e.text[at:]))
	return at + len([]rune(found))
}

func (e *editor) edited() string {
	slices.SortStableFunc(e.edits, func(a, b edit) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, x := range e.edits {
		b.WriteString(string(e.text[at:x.from]) + x.text)
		at = x.to
	}
	b.WriteString(string(e.text[at:]))
	return b.String()
}
