package annotation

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/lexer"

	"github.com/rowtide/rowtide/schema"
)

// A parser goes through a comment line by line.
type parser struct {
	target      Target
	text        string
	at          int // in bytes
	line        int
	column      int // in characters
	seen        map[string]bool
	directives  schema.Directives
	description strings.Builder
	mistakes    []Mistake
}

// A place is where something begins, for errors.
type place struct{ line, column int }

func (p *parser) rest() string { return p.text[p.at:] }

func (p *parser) place() place { return place{p.line, p.column} }

// advance moves on by n bytes.
func (p *parser) advance(n int) {
	for _, r := range p.text[p.at : p.at+n] {
		if r == '\n' {
			p.line++
			p.column = 1
		} else {
			p.column++
		}
	}
	p.at += n
}

// lineLength is the length of what is left of the line, without its end.
func (p *parser) lineLength() int {
	if n := strings.IndexByte(p.rest(), '\n'); n >= 0 {
		return n
	}
	return len(p.rest())
}

// skipSpace moves over white space within the line.
func (p *parser) skipSpace() {
	rest := p.rest()[:p.lineLength()]
	p.advance(len(rest) - len(strings.TrimLeftFunc(rest, unicode.IsSpace)))
}

// endLine moves to the next line.
func (p *parser) endLine() {
	p.advance(p.lineLength())
	if p.rest() != "" {
		p.advance(1)
	}
}

func (p *parser) mistake(at place, message, hint string) {
	p.mistakes = append(p.mistakes, Mistake{Line: at.line, Column: at.column, Message: message, Hint: hint})
}

func (p *parser) note(at place, message string) {
	p.mistakes = append(p.mistakes, Mistake{Line: at.line, Column: at.column, Message: message, Note: true})
}

// parseLine reads one line, or the several lines of a directive.
func (p *parser) parseLine() {
	line := p.rest()[:p.lineLength()]
	begin := p.place()
	p.skipSpace()
	name := wordAt(p.rest())
	switch {
	case name == "":
		p.describe(line, begin)
		p.endLine()
	case isOurs(name):
		p.parseDirectives()
	case misspelt(name) != "":
		p.mistake(p.place(), "@"+name+" is no directive", "did you mean @"+misspelt(name)+"?")
		p.endLine()
	default:
		p.parseForeign(name)
	}
}

// describe keeps a line for the description, unless it hides a directive.
func (p *parser) describe(line string, begin place) {
	p.hidden(line, begin)
	p.description.WriteString(line)
	p.description.WriteByte('\n')
}

// hidden tells directives with arguments in the middle of a line, where they would be prose.
func (p *parser) hidden(line string, begin place) {
	for i := strings.IndexByte(line, '@'); i >= 0 && i < len(line); {
		name := wordAt(line[i:])
		after := strings.TrimLeft(line[i+1+len(name):], " \t")
		before, _ := utf8.DecodeLastRuneInString(line[:i])
		inWord := i > 0 && (unicode.IsLetter(before) || unicode.IsDigit(before))
		if isOurs(name) && strings.HasPrefix(after, "(") && !inWord {
			at := place{begin.line, begin.column + utf8.RuneCountInString(line[:i])}
			p.mistake(at, "@"+name+" stands in the middle of a line, where it is no directive", "put it on its own line")
		}
		next := strings.IndexByte(line[i+1:], '@')
		if next < 0 {
			return
		}
		i += 1 + next
	}
}

// parseForeign leaves out a line of another tool, with its argument in parentheses if it has one
// ("@graphql({…})" may go over lines).
func (p *parser) parseForeign(name string) {
	p.note(p.place(), "@"+name+" is left to other tools")
	p.advance(1 + len(name))
	if strings.HasPrefix(p.rest(), "(") {
		if n := closing(p.rest()); n > 0 {
			p.advance(n)
		}
	}
	p.hidden(p.rest()[:p.lineLength()], p.place())
	p.endLine()
}

// parseDirectives reads the directives that begin on this line, and what may not follow them.
func (p *parser) parseDirectives() {
	for {
		d, ok := p.scanDirective()
		if !ok {
			p.mistake(d.begin, "@"+d.name+" has no closing parenthesis", "close it: @"+d.name+"(…)")
			p.endLine()
			return
		}
		p.skipSpace()
		rest := p.rest()[:p.lineLength()]
		next := wordAt(rest)
		prose := rest != "" && next == ""
		if prose {
			p.follows(d, rest)
		}
		if !prose || !d.bare {
			p.apply(d)
		}
		switch {
		case isOurs(next):
			continue
		case misspelt(next) != "":
			p.mistake(p.place(), "@"+next+" is no directive", "did you mean @"+misspelt(next)+"?")
		case next != "":
			p.mistake(p.place(), "@"+next+" of another tool follows a directive", "put it on its own line")
		}
		p.endLine()
		return
	}
}

// follows tells prose behind a directive. Behind a bare one it may be PostGraphile's form.
func (p *parser) follows(d scanned, rest string) {
	hint := "put the description on its own line"
	if d.bare && unicode.IsSpace(rune(p.text[p.at-1])) {
		word, _, _ := strings.Cut(rest, " ")
		switch d.name {
		case "name":
			hint = "write @name(as: " + quote(word) + ")"
		case "deprecated":
			hint = "write @deprecated(reason: " + quote(strings.TrimSpace(rest)) + "), or " + hint
		case "omit":
			hint = "@omit takes no words; " + hint
		}
	}
	p.mistake(p.place(), "text follows @"+d.name+" on its line", hint)
}

// A scanned directive has its text, of which only the extent is known yet.
type scanned struct {
	name, text string
	begin      place
	bare       bool // without parentheses
}

// scanDirective moves over one directive. It is false where the end could not be found.
func (p *parser) scanDirective() (scanned, bool) {
	d := scanned{name: wordAt(p.rest()), begin: p.place(), bare: true}
	start := p.at
	p.advance(1 + len(d.name))
	rest := p.rest()[:p.lineLength()]
	if space := len(rest) - len(strings.TrimLeft(rest, " \t")); strings.HasPrefix(rest[space:], "(") {
		n := closing(p.rest()[space:])
		if n == 0 {
			return d, false
		}
		d.bare = false
		p.advance(space + n)
	}
	d.text = p.text[start:p.at]
	return d, true
}

// closing gives the length of text up to the parenthesis that closes its first one; 0 where there
// is none. GraphQL's lexer tells parentheses from those in strings and comments.
func closing(text string) int {
	lex := lexer.New(&ast.Source{Input: text})
	depth := 0
	for {
		t, err := lex.ReadToken()
		if err != nil || t.Kind == lexer.EOF {
			return 0
		}
		switch t.Kind { //nolint:exhaustive // the others do not nest
		case lexer.ParenL:
			depth++
		case lexer.ParenR:
			depth--
		}
		if depth == 0 {
			return runesToBytes(text, t.Pos.End)
		}
	}
}

func runesToBytes(text string, runes int) int {
	n := 0
	for range runes {
		_, size := utf8.DecodeRuneInString(text[n:])
		n += size
	}
	return n
}

// wordAt gives the name of a word that begins with an @, "" for any other text.
func wordAt(text string) string {
	if !strings.HasPrefix(text, "@") {
		return ""
	}
	n := 1
	for n < len(text) {
		r, size := utf8.DecodeRuneInString(text[n:])
		if r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			break
		}
		n += size
	}
	return text[1:n]
}
