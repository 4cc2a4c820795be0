package schema

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// legalName tells whether s is a GraphQL name that schemas may define: [_A-Za-z][_0-9A-Za-z]*
// without the two leading underscores that the specification (2.1.9) reserves.
func legalName(s string) bool {
	if s == "" || strings.HasPrefix(s, "__") {
		return false
	}
	for i := range len(s) {
		c := s[i]
		letter := c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// suggestName makes a legal name out of any, for hints.
func suggestName(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)):
			b.WriteRune(r)
		case b.Len() > 0:
			b.WriteByte('_')
		}
	}
	out := camelCase(strings.Trim(b.String(), "_"))
	switch {
	case out == "":
		return "field"
	case out[0] >= '0' && out[0] <= '9':
		return "n" + out
	}
	return out
}

// camelCase joins the words between underscores: the first as it is, the others with a capital.
// Leading underscores stay.
func camelCase(s string) string {
	rest := strings.TrimLeft(s, "_")
	var b strings.Builder
	b.WriteString(s[:len(s)-len(rest)])
	for i, w := range strings.FieldsFunc(rest, isUnderscore) {
		if i > 0 {
			w = capital(w)
		}
		b.WriteString(w)
	}
	return b.String()
}

// typeName is PascalCase with the last word made singular.
func typeName(s string) string {
	rest := strings.TrimLeft(s, "_")
	words := strings.FieldsFunc(rest, isUnderscore)
	var b strings.Builder
	b.WriteString(s[:len(s)-len(rest)])
	for i, w := range words {
		if i == len(words)-1 {
			w = singularTail(w)
		}
		b.WriteString(capital(w))
	}
	return b.String()
}

// pascalCase is PascalCase without a change of number: enums.
func pascalCase(s string) string {
	c := camelCase(s)
	rest := strings.TrimLeft(c, "_")
	return c[:len(c)-len(rest)] + capital(rest)
}

func isUnderscore(r rune) bool { return r == '_' }

func capital(w string) string {
	if w == "" || w[0] < 'a' || w[0] > 'z' {
		return w
	}
	return string(w[0]-'a'+'A') + w[1:]
}

// singularTail makes the last word of a camel-case word singular: TodoItems, TodoItem.
func singularTail(w string) string {
	at := strings.LastIndexFunc(w, func(r rune) bool { return 'A' <= r && r <= 'Z' })
	if at < 0 {
		return singular(w)
	}
	tail := w[at:]
	lower := strings.ToLower(tail[:1]) + tail[1:]
	return w[:at] + capital(singular(lower))
}
