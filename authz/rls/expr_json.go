package rls

import (
	"strings"
	"unicode/utf8"
)

// A document is a JSON value as policies look into it.
type document struct {
	kind   byte   // 'n' null, 'b' boolean, 'd' number, 's' string, 'a' array, 'o' object
	text   string // of a boolean, number or string
	items  []*document
	fields map[string]*document
	// repeated tells that a key of it, or of what is within, is there twice: json and jsonb
	// differ in what a path then leads to.
	repeated bool
}

const (
	maxDocument      = 1 << 20
	maxDocumentDepth = 64
)

// A documentReader reads RFC 8259, which PostgreSQL's parser reads alike (src/common/jsonapi.c).
// What is not beyond doubt is not read: escapes of U+0000 and of half surrogates, numbers with an
// exponent or of great length in jsonb, which changes their text or raises an error.
type documentReader struct {
	s  string
	at int
	b  bool // jsonb
}

// readDocument tells false where PostgreSQL has to read it.
func readDocument(s string, binary bool) (*document, bool) {
	if len(s) > maxDocument {
		return nil, false
	}
	r := &documentReader{s: s, b: binary}
	d := r.value(0)
	r.space()
	return d, d != nil && r.at == len(s)
}

func (r *documentReader) space() {
	for r.at < len(r.s) && strings.IndexByte(" \t\n\r", r.s[r.at]) >= 0 {
		r.at++
	}
}

func (r *documentReader) take(c byte) bool {
	r.space()
	if r.at < len(r.s) && r.s[r.at] == c {
		r.at++
		return true
	}
	return false
}

func (r *documentReader) value(depth int) *document {
	r.space()
	if r.at == len(r.s) || depth > maxDocumentDepth {
		return nil
	}
	switch c := r.s[r.at]; {
	case c == '{':
		r.at++
		return r.object(depth)
	case c == '[':
		r.at++
		return r.array(depth)
	case c == '"':
		r.at++
		if text, ok := r.str(); ok {
			return &document{kind: 's', text: text}
		}
		return nil
	case c == '-' || isDigit(c):
		return r.number()
	}
	for word, kind := range map[string]byte{"null": 'n', "true": 'b', "false": 'b'} {
		if strings.HasPrefix(r.s[r.at:], word) {
			r.at += len(word)
			return &document{kind: kind, text: word}
		}
	}
	return nil
}

func (r *documentReader) object(depth int) *document {
	d := &document{kind: 'o', fields: map[string]*document{}}
	if r.take('}') {
		return d
	}
	for {
		if !r.take('"') {
			return nil
		}
		key, ok := r.str()
		if !ok || !r.take(':') {
			return nil
		}
		v := r.value(depth + 1)
		if v == nil {
			return nil
		}
		_, again := d.fields[key]
		d.repeated = d.repeated || again || v.repeated
		d.fields[key] = v // the last one counts, for json as for jsonb
		if r.take('}') {
			return d
		}
		if !r.take(',') {
			return nil
		}
	}
}

func (r *documentReader) array(depth int) *document {
	d := &document{kind: 'a'}
	if r.take(']') {
		return d
	}
	for {
		v := r.value(depth + 1)
		if v == nil {
			return nil
		}
		d.repeated = d.repeated || v.repeated
		d.items = append(d.items, v)
		if r.take(']') {
			return d
		}
		if !r.take(',') {
			return nil
		}
	}
}

func (r *documentReader) number() *document {
	start := r.at
	digits := func() int {
		from := r.at
		for r.at < len(r.s) && isDigit(r.s[r.at]) {
			r.at++
		}
		return r.at - from
	}
	if r.s[r.at] == '-' {
		r.at++
	}
	zero := r.at < len(r.s) && r.s[r.at] == '0'
	n := digits()
	if n == 0 || n > 1 && zero {
		return nil
	}
	if r.at < len(r.s) && r.s[r.at] == '.' {
		r.at++
		if digits() == 0 {
			return nil
		}
	}
	// What follows belongs to no number: an exponent, among others.
	if r.at < len(r.s) && strings.IndexByte(" \t\n\r,]}", r.s[r.at]) < 0 {
		return nil
	}
	text := r.s[start:r.at]
	if len(text) > 100 {
		return nil
	}
	if r.b && strings.Trim(text, "-0.") == "" {
		text = strings.TrimPrefix(text, "-") // numeric has no negative zero
	}
	return &document{kind: 'd', text: text}
}

// str reads a string behind its quote.
func (r *documentReader) str() (string, bool) {
	var b strings.Builder
	for r.at < len(r.s) {
		c := r.s[r.at]
		r.at++
		switch {
		case c == '"':
			return b.String(), true
		case c < 0x20:
			return "", false
		case c != '\\':
			b.WriteByte(c)
		default:
			if !r.escape(&b) {
				return "", false
			}
		}
	}
	return "", false
}

func (r *documentReader) escape(b *strings.Builder) bool {
	if r.at == len(r.s) {
		return false
	}
	c := r.s[r.at]
	r.at++
	if at := strings.IndexByte(`"\/bfnrt`, c); at >= 0 {
		b.WriteByte("\"\\/\b\f\n\r\t"[at])
		return true
	}
	if c != 'u' {
		return false
	}
	u, ok := r.unit()
	if !ok || u == 0 {
		return false
	}
	if u >= 0xd800 && u < 0xdc00 && strings.HasPrefix(r.s[r.at:], `\u`) {
		r.at += 2
		low, ok := r.unit()
		if !ok || low < 0xdc00 || low > 0xdfff {
			return false
		}
		u = 0x10000 + (u-0xd800)<<10 + (low - 0xdc00)
	}
	if !utf8.ValidRune(u) {
		return false
	}
	b.WriteRune(u)
	return true
}

func (r *documentReader) unit() (rune, bool) {
	if len(r.s)-r.at < 4 {
		return 0, false
	}
	var u rune
	for _, c := range []byte(r.s[r.at : r.at+4]) {
		switch {
		case isDigit(c):
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		u = u<<4 | rune(c)
	}
	r.at += 4
	return u, true
}
