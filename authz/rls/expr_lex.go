package rls

import (
	"errors"
	"strings"
)

// A lexeme is a word, literal or sign of an SQL expression.
type lexeme struct {
	kind lexKind
	// text is the word, folded unless it stood in quotes; the value of a literal; the sign.
	text string
}

type lexKind uint8

const (
	lexEnd lexKind = iota
	lexWord
	lexQuoted // a name in quotes
	lexString
	lexNumber
	lexParam // $1
	lexSign  // ( ) [ ] , . : ;
	lexOperator
)

// maxExpression bounds an expression that is compiled, in bytes.
const maxExpression = 64 << 10

var errNotRead = errors.New("it uses a notation that is not read")

// lex splits an expression as PostgreSQL's scanner does (src/backend/parser/scan.l), or refuses
// it: what it reads differently would be another expression.
func lex(s string) ([]lexeme, error) {
	if len(s) > maxExpression {
		return nil, errors.New("it is too long")
	}
	var out []lexeme
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case strings.IndexByte(" \t\n\r\f\v", c) >= 0:
			i++
		case strings.HasPrefix(s[i:], "--"):
			end := strings.IndexAny(s[i:], "\r\n")
			if end < 0 {
				end = len(s) - i
			}
			i += end
		default:
			l, n := lexOne(s[i:])
			if n == 0 {
				return nil, errNotRead
			}
			out = append(out, l)
			i += n
		}
	}
	return append(out, lexeme{}), nil
}

func lexOne(s string) (lexeme, int) {
	switch c := s[0]; {
	case c == '\'':
		v, n := lexQuote(s, '\'')
		if strings.Contains(v, `\`) {
			return lexeme{}, 0 // means one thing or another by standard_conforming_strings
		}
		return lexeme{lexString, v}, n
	case c == '"':
		v, n := lexQuote(s, '"')
		if len(v) == 0 || len(v) > maxName {
			return lexeme{}, 0
		}
		return lexeme{lexQuoted, v}, n
	case (c == 'E' || c == 'e') && len(s) > 1 && s[1] == '\'':
		return lexEscaped(s)
	case isNameStart(c):
		n := 1
		for n < len(s) && (isNameStart(s[n]) || isDigit(s[n])) {
			n++
		}
		if n > maxName || n < len(s) && (s[n] == '\'' || s[n] == '$' || s[n] >= 0x80) || n+1 < len(s) && s[n] == '&' && (s[n+1] == '\'' || s[n+1] == '"') {
			return lexeme{}, 0 // B'…', U&'…', and names whose folding depends on the locale
		}
		return lexeme{lexWord, strings.ToLower(s[:n])}, n
	case isDigit(c):
		return lexNumeral(s)
	case c == '$':
		n := 1
		for n < len(s) && isDigit(s[n]) {
			n++
		}
		if n == 1 || n > 3 || n < len(s) && isNameStart(s[n]) {
			return lexeme{}, 0
		}
		return lexeme{lexParam, s[1:n]}, n
	case strings.HasPrefix(s, "::"):
		return lexeme{lexSign, "::"}, 2
	case strings.IndexByte("()[],.;", c) >= 0:
		return lexeme{lexSign, s[:1]}, 1
	}
	return lexOperators(s)
}

// maxName is the longest name that is not truncated (NAMEDATALEN - 1).
const maxName = 63

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isNameStart(c byte) bool {
	return c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// lexQuote reads up to the closing quote; a doubled one is one.
func lexQuote(s string, quote byte) (string, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), i + 1
	}
	return "", 0
}

// lexEscaped reads E'…' as it is deparsed: only backslashes are escaped.
func lexEscaped(s string) (lexeme, int) {
	v, n := lexQuote(s[1:], '\'')
	if n == 0 || strings.Contains(v, `\'`) {
		return lexeme{}, 0
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' {
			if i++; i == len(v) || v[i] != '\\' {
				return lexeme{}, 0
			}
		}
		b.WriteByte(v[i])
	}
	return lexeme{lexString, b.String()}, n + 1
}

// lexNumeral reads 1 and 1.5.
func lexNumeral(s string) (lexeme, int) {
	n := 0
	for n < len(s) && isDigit(s[n]) {
		n++
	}
	if n+1 < len(s) && s[n] == '.' && isDigit(s[n+1]) {
		for n++; n < len(s) && isDigit(s[n]); {
			n++
		}
	}
	if n > 100 || n < len(s) && (isNameStart(s[n]) || s[n] == '.' || s[n] >= 0x80) {
		return lexeme{}, 0
	}
	return lexeme{lexNumber, s[:n]}, n
}

// lexOperators reads an operator. One that ends in + or - holds one of ~ ! @ # % ^ & | ` ? as
// well, else the sign is of what follows.
func lexOperators(s string) (lexeme, int) {
	const signs = "+-*/<>=~!@#%^&|`?"
	n := 0
	for n < len(s) && strings.IndexByte(signs, s[n]) >= 0 {
		n++
	}
	if strings.Contains(s[:n], "/*") {
		return lexeme{}, 0
	}
	if at := strings.Index(s[:n], "--"); at >= 0 {
		n = at
	}
	for n > 1 && (s[n-1] == '+' || s[n-1] == '-') && !strings.ContainsAny(s[:n], "~!@#%^&|`?") {
		n--
	}
	if n == 0 {
		return lexeme{}, 0
	}
	op := s[:n]
	if op == "!=" {
		op = "<>"
	}
	return lexeme{lexOperator, op}, n
}
