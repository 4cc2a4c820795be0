package annotation

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A tokenKind is one of SQL's lexical classes, as far as COMMENT ON needs them.
type tokenKind uint8

const (
	endToken tokenKind = iota + 1
	wordToken
	quotedToken // "a name"
	stringToken
	symbolToken
)

// A token is a piece of SQL. The text of a word is folded as PostgreSQL folds it; places has where
// each character of a string stands in the file.
type token struct {
	kind   tokenKind
	text   string
	at     place
	places []place
}

// is tells whether the token is that keyword or symbol.
func (t token) is(text string) bool {
	return (t.kind == wordToken || t.kind == symbolToken) && t.text == text
}

// A sqlLexer cuts SQL into tokens.
type sqlLexer struct {
	src string
	pos int
	at  place
}

// A FileError is a mistake in a file of annotations, with its place in characters from 1.
type FileError struct {
	File         string
	Line, Column int
	Message      string
}

// Error gives file, place and message in one line.
func (e *FileError) Error() string {
	return fmt.Sprintf("%s, line %d, column %d: %s", e.File, e.Line, e.Column, e.Message)
}

func errorAt(at place, format string, args ...any) *FileError {
	return &FileError{Line: at.line, Column: at.column, Message: fmt.Sprintf(format, args...)}
}

func (l *sqlLexer) rest() string { return l.src[l.pos:] }

// take moves over one character and gives it.
func (l *sqlLexer) take() rune {
	r, n := utf8.DecodeRuneInString(l.rest())
	l.pos += n
	if r == '\n' {
		l.at = place{l.at.line + 1, 1}
	} else {
		l.at.column++
	}
	return r
}

func (l *sqlLexer) skip(n int) {
	for end := l.pos + n; l.pos < end; {
		l.take()
	}
}

// space moves over white space and comments; it tells whether there was a line end.
func (l *sqlLexer) space() (newline bool, err *FileError) {
	for {
		rest := l.rest()
		switch {
		case rest == "":
			return newline, nil
		case strings.ContainsRune(" \t\n\r\f\v", rune(rest[0])):
			newline = l.take() == '\n' || newline
		case strings.HasPrefix(rest, "--"):
			for l.rest() != "" && l.rest()[0] != '\n' {
				l.take()
			}
		case strings.HasPrefix(rest, "/*"):
			if err := l.blockComment(); err != nil {
				return false, err
			}
		default:
			return newline, nil
		}
	}
}

// blockComment moves over a comment; in SQL they nest.
func (l *sqlLexer) blockComment() *FileError {
	begin := l.at
	for depth := 0; ; {
		switch rest := l.rest(); {
		case rest == "":
			return errorAt(begin, "the comment has no end: close it with */")
		case strings.HasPrefix(rest, "/*"):
			depth++
			l.skip(2)
		case strings.HasPrefix(rest, "*/"):
			depth--
			l.skip(2)
			if depth == 0 {
				return nil
			}
		default:
			l.take()
		}
	}
}

func isWordStart(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c >= utf8.RuneSelf
}

func isWordPart(c byte) bool { return isWordStart(c) || '0' <= c && c <= '9' || c == '$' }

// next gives the next token.
func (l *sqlLexer) next() (token, *FileError) {
	if _, err := l.space(); err != nil {
		return token{}, err
	}
	rest, at := l.rest(), l.at
	switch {
	case rest == "":
		return token{kind: endToken, at: at}, nil
	case rest[0] == '"':
		return l.quoted()
	case rest[0] == '\'':
		return l.text(false)
	case len(rest) > 1 && (rest[0] == 'E' || rest[0] == 'e') && rest[1] == '\'':
		l.take()
		return l.text(true)
	case len(rest) > 2 && (rest[0] == 'U' || rest[0] == 'u') && rest[1] == '&' && (rest[2] == '"' || rest[2] == '\''):
		return token{}, errorAt(at, "U&%c…%c is not understood here: write the characters themselves", rest[2], rest[2])
	case rest[0] == '$':
		return l.dollar()
	case isWordStart(rest[0]):
		n := 1
		for n < len(rest) && isWordPart(rest[n]) {
			n++
		}
		l.skip(n)
		return token{kind: wordToken, text: foldName(rest[:n]), at: at}, nil
	}
	return token{kind: symbolToken, text: string(l.take()), at: at}, nil
}

// foldName folds as PostgreSQL does in UTF-8: ASCII alone.
func foldName(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

func (l *sqlLexer) quoted() (token, *FileError) {
	t := token{kind: quotedToken, at: l.at}
	l.take()
	var b strings.Builder
	for {
		switch rest := l.rest(); {
		case rest == "":
			return token{}, errorAt(t.at, `the name has no end: close it with "`)
		case strings.HasPrefix(rest, `""`):
			l.skip(2)
			b.WriteByte('"')
		case rest[0] == '"':
			l.take()
			if t.text = b.String(); t.text == "" {
				return token{}, errorAt(t.at, `the name "" is empty`)
			}
			return t, nil
		default:
			b.WriteRune(l.take())
		}
	}
}

// A literal gathers the characters of a string and where they stand.
type literal struct {
	strings.Builder
	places []place
	cr     bool // the last character was a carriage return
}

// add makes one of the three line ends, as Parse does: places must keep in step with what it sees.
func (s *literal) add(r rune, at place) {
	after := s.cr
	if s.cr = r == '\r'; s.cr {
		r = '\n'
	} else if after && r == '\n' {
		return
	}
	s.WriteRune(r)
	s.places = append(s.places, at)
}

// text reads '…', with escapes where it is E'…', and what continues it on the next line.
func (l *sqlLexer) text(escapes bool) (token, *FileError) {
	t := token{kind: stringToken, at: l.at}
	var s literal
	for {
		if err := l.piece(&s, escapes); err != nil {
			return token{}, err
		}
		before := *l
		newline, err := l.space()
		if err != nil {
			return token{}, err
		}
		if !newline || !strings.HasPrefix(l.rest(), "'") {
			*l = before
			t.text, t.places = s.String(), s.places
			return t, nil
		}
	}
}

func (l *sqlLexer) piece(s *literal, escapes bool) *FileError {
	begin := l.at
	l.take()
	for {
		at := l.at
		switch rest := l.rest(); {
		case rest == "":
			return errorAt(begin, "the string has no end: close it with '")
		case strings.HasPrefix(rest, "''"):
			l.skip(2)
			s.add('\'', at)
		case rest[0] == '\'':
			l.take()
			return nil
		case rest[0] == '\\' && escapes:
			if err := l.escape(s); err != nil {
				return err
			}
		default:
			s.add(l.take(), at)
		}
	}
}

// escape reads one escape of E'…' (PostgreSQL manual, 4.1.2.2).
func (l *sqlLexer) escape(s *literal) *FileError {
	at := l.at
	l.take()
	if l.rest() == "" {
		return errorAt(at, "the string has no end: close it with '")
	}
	c := l.take()
	digits, base, bits := 0, 16, 32
	switch c {
	case 'n':
		c = '\n'
	case 't':
		c = '\t'
	case 'r':
		c = '\r'
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	case 'x', '0', '1', '2', '3', '4', '5', '6', '7':
		return errorAt(at, `\%c… gives bytes: write the character itself or \u…`, c)
	}
	if digits == 0 {
		s.add(c, at)
		return nil
	}
	rest := l.rest()
	n, err := strconv.ParseUint(rest[:min(digits, len(rest))], base, bits)
	if err != nil || len(rest) < digits || n == 0 || !utf8.ValidRune(rune(n)) {
		return errorAt(at, `\%c wants %d hexadecimal digits of a character`, c, digits)
	}
	l.skip(digits)
	s.add(rune(n), at)
	return nil
}

// dollar reads $tag$…$tag$.
func (l *sqlLexer) dollar() (token, *FileError) {
	t := token{kind: stringToken, at: l.at}
	rest := l.rest()
	n := 1
	for n < len(rest) && isWordPart(rest[n]) && rest[n] != '$' {
		n++
	}
	if n == len(rest) || rest[n] != '$' || n > 1 && !isWordStart(rest[1]) {
		return token{}, errorAt(t.at, "unexpected $")
	}
	tag := rest[:n+1]
	end := strings.Index(rest[n+1:], tag)
	if end < 0 {
		return token{}, errorAt(t.at, "the string has no end: close it with %s", tag)
	}
	l.skip(len(tag))
	var s literal
	for stop := l.pos + end; l.pos < stop; {
		at := l.at
		s.add(l.take(), at)
	}
	l.skip(len(tag))
	t.text, t.places = s.String(), s.places
	return t, nil
}
