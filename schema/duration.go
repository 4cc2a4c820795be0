package schema

import (
	"strconv"
	"strings"
)

// writeDuration rewrites an interval from the style "postgres" ("1 year -2 mons +3 days
// 04:05:06.789") to ISO 8601, each part with its own sign, as the style "iso_8601" does. Text of
// that style, and infinity (since PostgreSQL 17), stay as they are.
func writeDuration(dst []byte, text string) ([]byte, bool) {
	if _, ok := parseInfinity(text); ok || strings.HasPrefix(text, "P") {
		return writeString(dst, text)
	}
	start := len(dst)
	dst = append(dst, '"', 'P')
	rest, found := text, false
	for rest != "" {
		word, after, _ := strings.Cut(rest, " ")
		if strings.Contains(word, ":") {
			var ok bool
			if dst, ok = appendDurationClock(dst, word); !ok || after != "" {
				return dst[:start], false
			}
			return append(dst, '"'), true
		}
		unit, next, _ := strings.Cut(after, " ")
		n, err := strconv.ParseInt(word, 10, 64)
		letter := durationUnit(unit)
		if err != nil || letter == 0 {
			return dst[:start], false
		}
		dst = append(strconv.AppendInt(dst, n, 10), letter)
		rest, found = next, true
	}
	if !found {
		return dst[:start], false
	}
	return append(dst, '"'), true
}

func durationUnit(unit string) byte {
	switch unit {
	case "year", "years":
		return 'Y'
	case "mon", "mons":
		return 'M'
	case "day", "days":
		return 'D'
	}
	return 0
}

// appendDurationClock appends "-04:05:06.789" as T-4H-5M-6.789S: the sign is of all parts.
func appendDurationClock(dst []byte, word string) ([]byte, bool) {
	sign := ""
	if word[0] == '-' || word[0] == '+' {
		if word[0] == '-' {
			sign = "-"
		}
		word = word[1:]
	}
	parts := strings.Split(word, ":")
	if len(parts) != 3 {
		return dst, false
	}
	dst = append(dst, 'T')
	mark := len(dst)
	for i, letter := range []byte("HMS") {
		p := strings.TrimLeft(parts[i], "0")
		if strings.HasPrefix(p, ".") {
			p = "0" + p
		}
		if p == "" {
			continue
		}
		if !isClockText(p) {
			return dst, false
		}
		dst = append(append(append(dst, sign...), p...), letter)
	}
	if len(dst) == mark {
		dst = append(dst, "0S"...)
	}
	return dst, true
}
