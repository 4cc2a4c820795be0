package rls

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// matching compiles ~ and !~ of a constant pattern, as policies guard casts with: one that means
// the same to PostgreSQL (advanced regular expressions) as to package regexp. Whether it matches at
// all is the same for both, however they prefer among matches.
func matching(op string, l formula, pattern *node) (formula, error) {
	for pattern.kind == nodeCast && pattern.text == "text" {
		pattern = pattern.kids[0]
	}
	if pattern.kind != nodeString || l.typ != "text" {
		return formula{}, errors.New("it uses a pattern that is not a constant")
	}
	p := plainPattern{s: pattern.text}
	if !p.branches() || p.at != len(p.s) {
		return formula{}, fmt.Errorf("it uses the pattern %q", pattern.text)
	}
	re, err := regexp.Compile(pattern.text)
	if err != nil {
		return formula{}, fmt.Errorf("it uses the pattern %q", pattern.text)
	}
	want := op == "~"
	return formula{typ: "bool", eval: unary(l, func(_ *evaluation, a datum) datum { return boolean(re.MatchString(a.s) == want) })}, nil
}

// A plainPattern reads what both understand alike: ASCII letters, digits and some signs, sets and
// ranges of them, groups, branches, quantifiers and, at the ends, ^ and $.
type plainPattern struct {
	s     string
	at    int
	depth int
}

func (p *plainPattern) next() byte {
	if p.at == len(p.s) {
		return 0
	}
	return p.s[p.at]
}

func (p *plainPattern) take(c byte) bool {
	if p.next() != c || c == 0 {
		return false
	}
	p.at++
	return true
}

func (p *plainPattern) branches() bool {
	if p.depth++; p.depth > 10 || len(p.s) > 500 {
		return false
	}
	defer func() { p.depth-- }()
	for {
		if !p.branch() {
			return false
		}
		if !p.take('|') {
			return true
		}
	}
}

// branch reads atoms, each with a quantifier or none. An empty one is none.
func (p *plainPattern) branch() bool {
	start := p.at
	p.take('^')
	for p.atom() {
		if !p.quantifier() {
			return false
		}
	}
	p.take('$')
	return p.at > start
}

func (p *plainPattern) atom() bool {
	switch c := p.next(); {
	case plainByte(c):
		p.at++
		return true
	case c == '[':
		p.at++
		return p.set()
	case c == '(':
		p.at++
		// (? begins something else.
		return p.branches() && p.take(')')
	}
	return false
}

// plainByte tells characters that stand for themselves, in a set too.
func plainByte(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c != 0 && strings.IndexByte(" _@/:,", c) >= 0
}

// set reads characters and ranges; a - is one of them at the end.
func (p *plainPattern) set() bool {
	for n := 0; ; n++ {
		c := p.next()
		switch {
		case c == ']' && n > 0:
			p.at++
			return true
		case c == '-' && n > 0 && p.at+1 < len(p.s) && p.s[p.at+1] == ']':
			p.at++
			continue
		case !plainByte(c):
			return false
		}
		p.at++
		if p.next() == '-' && p.at+1 < len(p.s) && plainByte(p.s[p.at+1]) {
			if p.s[p.at+1] < c {
				return false
			}
			p.at += 2
		}
	}
}

// quantifier reads one at most: ?, *, +, {m}, {m,} or {m,n} up to 255 (DUPMAX).
func (p *plainPattern) quantifier() bool {
	switch {
	case p.take('?'), p.take('*'), p.take('+'):
	case p.take('{'):
		end := strings.IndexByte(p.s[p.at:], '}')
		if end < 0 {
			return false
		}
		least, most, bounded := strings.Cut(p.s[p.at:p.at+end], ",")
		m, ok := bound255(least)
		if !ok {
			return false
		}
		if n, ok := bound255(most); bounded && most != "" && (!ok || n < m) {
			return false
		}
		p.at += end + 1
	}
	return strings.IndexByte("?*+{", p.next()) < 0 || p.next() == 0
}

func bound255(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 0 && n <= 255 && strconv.Itoa(n) == s
}
