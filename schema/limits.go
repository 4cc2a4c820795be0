package schema

import (
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
)

func limitError(format string, args ...any) error {
	return ErrorList{{Code: LimitExceeded, Message: fmt.Sprintf(format, args...)}}
}

// checkText looks at the document before any tree is made of it: its length, its tokens, how
// deep they nest. It also tells what the lexer cannot read, since the parser only tells that there
// is such a token.
func (l *Limits) checkText(query string) error {
	if len(query) > l.DocumentBytes {
		return limitError("the document has %d bytes; %d are allowed", len(query), l.DocumentBytes)
	}
	lex := lexer.New(&ast.Source{Input: query})
	tokens, depth, directives := 0, 0, 0
	for {
		t, err := lex.ReadToken()
		switch {
		case err != nil:
			return clientErrors(gqlerror.List{asGraphQL(err)}, ParseFailed)
		case t.Kind == lexer.EOF:
			return nil
		}
		tokens++
		switch t.Kind {
		case lexer.ParenL, lexer.BraceL, lexer.BracketL:
			depth++
		case lexer.ParenR, lexer.BraceR, lexer.BracketR:
			depth--
		case lexer.At:
			directives++
		case lexer.Name:
			if len(t.Value) > l.NameBytes {
				return limitError("a name has %d bytes; %d are allowed", len(t.Value), l.NameBytes)
			}
		default:
		}
		switch {
		case tokens > l.Tokens:
			return limitError("the document has more than %d tokens", l.Tokens)
		case depth > l.Depth:
			return limitError("the document nests deeper than %d levels", l.Depth)
		case directives > l.Directives:
			return limitError("the document has more than %d directives", l.Directives)
		}
	}
}

// checkTree looks at the parsed document with its fragments expanded, before rules that cost
// more than its length look at it.
func (l *Limits) checkTree(doc *ast.QueryDocument) error {
	if n := len(doc.Operations); n > l.Operations {
		return limitError("the document has %d operations; %d are allowed", n, l.Operations)
	}
	m := measurer{limits: l, repeats: map[string]int{}, fragments: map[string]*measured{}, doc: doc}
	for _, f := range doc.Fragments {
		m.fragments[f.Name] = &measured{def: f}
	}
	for _, op := range doc.Operations {
		fields, depth := m.set(op.SelectionSet)
		if fields > l.Fields {
			return limitError("the document has more than %d fields, fragments expanded", l.Fields)
		}
		if depth > l.Depth {
			return limitError("the document nests deeper than %d levels, fragments expanded", l.Depth)
		}
	}
	for _, f := range m.fragments {
		if f.done {
			continue
		}
		// Not reached from an operation, but the rules will walk it.
		m.fragment(f)
	}
	for key, n := range m.repeats {
		if n > l.Repeats {
			return limitError("the document has the response key %q %d times; %d are allowed", key, n, l.Repeats)
		}
	}
	return nil
}

type measurer struct {
	limits    *Limits
	doc       *ast.QueryDocument
	repeats   map[string]int
	fragments map[string]*measured
}

// measured is what a fragment comes to; each is measured once, so that fragments that spread
// others twice do not cost two to the power of their number.
type measured struct {
	def           *ast.FragmentDefinition
	begun, done   bool
	fields, depth int
}

func (m *measurer) set(set ast.SelectionSet) (fields, depth int) {
	for _, s := range set {
		n, d := 0, 0
		switch s := s.(type) {
		case *ast.Field:
			m.repeats[s.Alias]++
			n, d = m.set(s.SelectionSet)
			n++
			d++
		case *ast.InlineFragment:
			n, d = m.set(s.SelectionSet)
		case *ast.FragmentSpread:
			// An unknown fragment, or a cycle, is the rules' to tell.
			if f := m.fragments[s.Name]; f != nil {
				n, d = m.fragment(f)
			}
		}
		// Saturate: the sums must not overflow.
		fields = min(fields+n, m.limits.Fields+1)
		depth = max(depth, d)
	}
	return fields, depth
}

func (m *measurer) fragment(f *measured) (fields, depth int) {
	if !f.begun {
		f.begun = true
		f.fields, f.depth = m.set(f.def.SelectionSet)
		f.done = true
	}
	return f.fields, f.depth
}
