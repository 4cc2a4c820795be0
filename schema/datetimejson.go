package schema

import (
	"strconv"
	"strings"
)

// writeDateTime rewrites date, timestamp and timestamptz from "2006-01-02 15:04:05.9+00 BC" to
// RFC 3339, with the expanded years of ISO 8601 where four digits do not do.
func writeDateTime(dst []byte, text string) ([]byte, bool) {
	start := len(dst)
	dst = append(dst, '"')
	if _, ok := parseInfinity(text); ok {
		dst = append(dst, text...)
		return append(dst, '"'), true
	}
	text, bc := strings.CutSuffix(text, " BC")
	day, clock, timed := strings.Cut(text, " ")
	dst, ok := appendDay(dst, day, bc)
	if !ok {
		return dst[:start], false
	}
	if timed {
		dst = append(dst, 'T')
		if dst, ok = appendClock(dst, clock); !ok {
			return dst[:start], false
		}
	}
	return append(dst, '"'), true
}

func appendDay(dst []byte, day string, bc bool) ([]byte, bool) {
	ys, rest, ok := strings.Cut(day, "-")
	if !ok || len(rest) != 5 || rest[2] != '-' {
		return dst, false
	}
	if len(ys) == 4 && !bc {
		return append(dst, day...), isClockText(day)
	}
	y, ok := digitsOf(ys)
	if !ok || !isClockText(rest) {
		return dst, false
	}
	switch {
	case bc && y == 1:
		return append(append(dst, "0000-"...), rest...), true
	case bc:
		y--
		dst = append(dst, '-')
	default:
		dst = append(dst, '+')
	}
	for wide := int64(100_000); wide > y && wide > 1; wide /= 10 {
		dst = append(dst, '0')
	}
	dst = strconv.AppendInt(dst, y, 10)
	return append(append(dst, '-'), rest...), true
}

// appendClock appends "15:04:05.9" and rewrites the offset behind it: "+00" to "Z", "+02" to
// "+02:00".
func appendClock(dst []byte, clock string) ([]byte, bool) {
	if !isClockText(clock) {
		return dst, false
	}
	at := strings.IndexAny(clock, "+-")
	if at < 0 {
		return append(dst, clock...), true
	}
	dst = append(dst, clock[:at]...)
	switch offset := clock[at:]; {
	case offset == "+00":
		return append(dst, 'Z'), true
	case len(offset) == 3:
		return append(append(dst, offset...), ":00"...), true
	default:
		return append(dst, offset...), true
	}
}

// isClockText keeps whatever is no part of a time out of the JSON.
func isClockText(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > ':') && c != '.' && c != '+' && c != '-' {
			return false
		}
	}
	return s != ""
}

// writeOffsetTime writes timetz.
func writeOffsetTime(dst []byte, text string) ([]byte, bool) {
	start := len(dst)
	dst, ok := appendClock(append(dst, '"'), text)
	if !ok {
		return dst[:start], false
	}
	return append(dst, '"'), true
}
