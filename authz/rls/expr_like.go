package rls

import (
	"strings"
	"unicode/utf8"
)

// maxLike bounds the work of matching: the product of the lengths of text and pattern.
const maxLike = 10 << 20

// like is LIKE with its escape \, by characters (src/backend/utils/adt/like_match.c). A pattern that
// ends in the escape raises an error where matching comes to it.
func like(e *evaluation, text, pattern datum) datum {
	s, p := text.s, pattern.s
	if (len(p)-len(strings.TrimRight(p, `\`)))%2 != 0 || len(s)*len(p) > maxLike {
		return e.refuse()
	}
	return boolean(likes(s, p))
}

// likes backs up to the last % alone: what an earlier one could take, that one can.
func likes(s, p string) bool {
	backS, backP := "", ""
	open := false
	for {
		switch {
		case p != "" && p[0] == '%':
			p = p[1:]
			open, backS, backP = true, s, p
			continue
		case s == "" && p == "":
			return true
		case s == "":
			return false
		}
		if sRest, pRest, ok := likesOne(s, p); ok {
			s, p = sRest, pRest
			continue
		}
		if !open {
			return false
		}
		_, n := utf8.DecodeRuneInString(backS)
		backS = backS[n:]
		s, p = backS, backP
	}
}

// likesOne matches a character that is there with the first of a pattern that is no %.
func likesOne(s, p string) (sRest, pRest string, ok bool) {
	if p == "" {
		return "", "", false
	}
	_, n := utf8.DecodeRuneInString(s)
	if p[0] == '_' {
		return s[n:], p[1:], true
	}
	if p[0] == '\\' {
		p = p[1:]
	}
	if !strings.HasPrefix(p, s[:n]) {
		return "", "", false
	}
	return s[n:], p[n:], true
}
