package schema

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// A pattern is that of LIKE, as the parts between its percent signs. It matches in time linear
// in the text: parts without underscores are searched for as strings, others by the shift-and
// method, a bit for each character of the part. Leftmost matches of the parts in the middle are
// enough (like_match.c backtracks, but to the same end).
type pattern struct {
	parts []patternPart
	// open tells that a percent sign stands between: without any, parts has one and the
	// whole text must match it.
	open bool
}

// maxWildPart is the length in characters of a part with underscores: the bits of a word.
const maxWildPart = 64

type patternPart struct {
	text string // without underscores
	// wild has a character for each of a part with underscores, anyRune for those.
	wild []rune
}

const anyRune rune = -1

// parsePattern reads a pattern of LIKE with its default escape.
func parsePattern(s string) (*pattern, error) {
	p := &pattern{}
	var part []rune
	wild := false
	flush := func() error {
		if wild && len(part) > maxWildPart {
			return errors.New("between two % there can be 64 characters where _ is among them")
		}
		if wild {
			p.parts = append(p.parts, patternPart{wild: part})
		} else {
			p.parts = append(p.parts, patternPart{text: string(part)})
		}
		part, wild = nil, false
		return nil
	}
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			part, escaped = append(part, r), false
		case r == '\\':
			escaped = true
		case r == '%':
			p.open = true
			if err := flush(); err != nil {
				return nil, err
			}
		case r == '_':
			part, wild = append(part, anyRune), true
		default:
			part = append(part, r)
		}
	}
	if escaped {
		return nil, errors.New(`a pattern must not end with \`)
	}
	return p, flush()
}

func (p *pattern) match(text string) bool {
	first := p.parts[0]
	rest, ok := first.prefix(text)
	if !ok {
		return false
	}
	if !p.open {
		return rest == ""
	}
	last := p.parts[len(p.parts)-1]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		if rest, ok = part.find(rest); !ok {
			return false
		}
	}
	return last.suffix(rest)
}

// prefix cuts the part off the beginning of text.
func (p patternPart) prefix(text string) (string, bool) {
	if p.wild == nil {
		return strings.CutPrefix(text, p.text)
	}
	for _, want := range p.wild {
		r, size := utf8.DecodeRuneInString(text)
		if size == 0 || want != anyRune && r != want {
			return "", false
		}
		text = text[size:]
	}
	return text, true
}

// suffix tells whether text ends with the part.
func (p patternPart) suffix(text string) bool {
	if p.wild == nil {
		return strings.HasSuffix(text, p.text)
	}
	for i := len(p.wild) - 1; i >= 0; i-- {
		r, size := utf8.DecodeLastRuneInString(text)
		if size == 0 || p.wild[i] != anyRune && r != p.wild[i] {
			return false
		}
		text = text[:len(text)-size]
	}
	return true
}

// find gives what follows the leftmost place of the part.
func (p patternPart) find(text string) (string, bool) {
	if p.wild == nil {
		at := strings.Index(text, p.text)
		if at < 0 {
			return "", false
		}
		return text[at+len(p.text):], true
	}
	var state uint64
	done := uint64(1) << (len(p.wild) - 1)
	for text != "" {
		r, size := utf8.DecodeRuneInString(text)
		text = text[size:]
		state = (state<<1 | 1) & p.mask(r)
		if state&done != 0 {
			return text, true
		}
	}
	return "", false
}

// mask has a bit for each place of the part at which r may stand.
func (p patternPart) mask(r rune) uint64 {
	var m uint64
	for i, want := range p.wild {
		if want == anyRune || want == r {
			m |= 1 << i
		}
	}
	return m
}
