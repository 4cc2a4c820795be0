// Package annotation reads the directives in SQL comments: @subscribe and its kin, in GraphQL
// syntax.
//
// The grammar is by lines. A line whose first word is one of the directives' names starts a
// directive; it ends at its closing parenthesis, which may be lines later, or at the name if it
// has none; only white space or another directive may follow on that line. Lines whose first
// word is another one with an @ belong to other tools. All else is description.
//
// Nothing is ignored in silence: whatever looks like a directive and is none is a Mistake, with
// its place and what to write instead. The directives themselves are defined, with their
// documentation, in directives.graphql.
package annotation

import (
	"fmt"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// A Target is what a comment is on.
type Target uint8

// The targets of directives. Comments on anything else bear none.
const (
	OnTable Target = iota + 1
	OnColumn
	OnType
)

// String is the word for people.
func (t Target) String() string {
	switch t {
	case OnTable:
		return "table"
	case OnColumn:
		return "column"
	case OnType:
		return "type"
	}
	return "object"
}

// A Mistake is something in a comment that is not as it should be.
type Mistake struct {
	// Line and Column are its place in the comment, from 1, in characters.
	Line, Column int
	// Message says what is wrong; Hint what to write instead.
	Message string
	Hint    string
	// Note tells that it is no mistake, only worth knowing: it disables nothing.
	Note bool
}

// Error gives place, message and hint in one line.
func (m Mistake) Error() string {
	s := fmt.Sprintf("line %d, column %d: %s", m.Line, m.Column, m.Message)
	if m.Hint != "" {
		s += " (" + m.Hint + ")"
	}
	return s
}

// Parse reads a comment. With a mistake that is no Note the directives are not to be relied on.
func Parse(target Target, comment string) (schema.Directives, []Mistake) {
	p := &parser{target: target, text: lineEnds.Replace(comment), line: 1, column: 1, seen: map[string]bool{}}
	for p.rest() != "" {
		p.parseLine()
	}
	p.directives.Description = trimBlankLines(p.description.String())
	if p.directives.Omit && (p.seen["name"] || p.seen["deprecated"]) {
		p.note(place{1, 1}, "@omit leaves the column out, so the other directives have no effect")
	}
	return p.directives, p.mistakes
}

// lineEnds makes the line ends of GraphQL (specification, 2.1.2) one.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

func trimBlankLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \t")
	}
	return strings.Trim(strings.Join(lines, "\n"), "\n")
}
