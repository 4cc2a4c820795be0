package schema

import (
	"unicode/utf8"
)

// A writeFunc appends the JSON of a value, given in its type's output text. It is false where
// the text is not what the type prints: the change cannot be told.
type writeFunc func(dst []byte, text string) ([]byte, bool)

const hexDigits = "0123456789abcdef"

// writeString appends a JSON string. Whatever the text holds, the JSON is valid and safe inside
// a page: bytes that are not UTF-8 become U+FFFD (a server with encoding SQL_ASCII can hold
// them), and <, U+2028 and U+2029 are escaped.
func writeString(dst []byte, text string) ([]byte, bool) {
	dst = append(dst, '"')
	dst = appendEscaped(dst, text, true)
	return append(dst, '"'), true
}

// special tells the bytes that cannot simply be copied into a JSON string: what is escaped, and
// all that is not ASCII, which is looked at more closely.
var special = func() (t [256]bool) {
	for c := range t {
		t[c] = c < ' ' || c == '"' || c == '\\' || c == '<' || c >= utf8.RuneSelf
	}
	return t
}()

// appendEscaped appends text with what must be escaped. quoted tells that it stands in a JSON
// string; without it text is JSON already and only what is unsafe in any place is replaced.
func appendEscaped(dst []byte, text string, quoted bool) []byte {
	from := 0
	for i := 0; i < len(text); {
		c := text[i]
		if !special[c] || !quoted && c < utf8.RuneSelf && c != '<' {
			i++
			continue
		}
		size, escape := 1, true
		if c >= utf8.RuneSelf {
			var r rune
			r, size = utf8.DecodeRuneInString(text[i:])
			escape = r == utf8.RuneError && size == 1 || r == '\u2028' || r == '\u2029'
		}
		if escape {
			dst = append(dst, text[from:i]...)
			dst = appendEscape(dst, text[i:i+size])
			from = i + size
		}
		i += size
	}
	return append(dst, text[from:]...)
}

// appendEscape appends what stands for one character, or for a byte that is none.
func appendEscape(dst []byte, s string) []byte {
	switch c := s[0]; {
	case len(s) > 1:
		return append(dst, '\\', 'u', '2', '0', '2', hexDigits[s[2]&0xF])
	case c >= utf8.RuneSelf:
		return append(dst, "\uFFFD"...)
	default:
		return appendEscapedByte(dst, c)
	}
}

func appendEscapedByte(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xF])
}

// writeRawJSON embeds json and jsonb: PostgreSQL has checked them, so their text is JSON.
func writeRawJSON(dst []byte, text string) ([]byte, bool) {
	if text == "" {
		return dst, false
	}
	return appendEscaped(dst, text, false), true
}

func writeBool(dst []byte, text string) ([]byte, bool) {
	switch text {
	case "t":
		return append(dst, "true"...), true
	case "f":
		return append(dst, "false"...), true
	}
	return dst, false
}

func isInteger(text string) bool {
	if len(text) > 1 && text[0] == '-' {
		text = text[1:]
	}
	if text == "" || len(text) > 1 && text[0] == '0' { // JSON has no leading zeros (RFC 8259, 6)
		return false
	}
	for i := range len(text) {
		if text[i] < '0' || text[i] > '9' {
			return false
		}
	}
	return true
}

func writeDigits(dst []byte, text string) ([]byte, bool) {
	if !isInteger(text) {
		return dst, false
	}
	return append(dst, text...), true
}

func writeQuotedDigits(dst []byte, text string) ([]byte, bool) {
	if !isInteger(text) {
		return dst, false
	}
	dst = append(dst, '"')
	dst = append(dst, text...)
	return append(dst, '"'), true
}

// writeDouble writes a finite number as PostgreSQL prints it, which JSON allows, and the three
// others as strings.
func writeDouble(dst []byte, text string) ([]byte, bool) {
	switch text {
	case "NaN", "Infinity", "-Infinity":
		return writeString(dst, text)
	}
	if !isJSONNumber(text) {
		return dst, false
	}
	return append(dst, text...), true
}

// isJSONNumber is the grammar of RFC 8259, section 6.
func isJSONNumber(s string) bool {
	digits := func() bool {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		s = s[n:]
		return n > 0
	}
	if s != "" && s[0] == '-' {
		s = s[1:]
	}
	if s != "" && s[0] == '0' {
		s = s[1:]
	} else if !digits() {
		return false
	}
	if s != "" && s[0] == '.' {
		if s = s[1:]; !digits() {
			return false
		}
	}
	if s != "" && (s[0] == 'e' || s[0] == 'E') {
		s = s[1:]
		if s != "" && (s[0] == '+' || s[0] == '-') {
			s = s[1:]
		}
		if !digits() {
			return false
		}
	}
	return s == ""
}

// writeBytes writes bytea as base64. Its text is hex: bytea_output is pinned.
func writeBytes(dst []byte, text string) ([]byte, bool) {
	if len(text) < 2 || text[0] != '\\' || text[1] != 'x' || len(text)%2 != 0 {
		return dst, false
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	start := len(dst)
	dst = append(dst, '"')
	var bits uint32
	n := 0
	for i := 2; i < len(text); i += 2 {
		hi, ok1 := unhex(text[i])
		lo, ok2 := unhex(text[i+1])
		if !ok1 || !ok2 {
			return dst[:start], false
		}
		bits = bits<<8 | uint32(hi)<<4 | uint32(lo)
		if n++; n == 3 {
			dst = append(dst, alphabet[bits>>18&63], alphabet[bits>>12&63], alphabet[bits>>6&63], alphabet[bits&63])
			bits, n = 0, 0
		}
	}
	switch n {
	case 1:
		dst = append(dst, alphabet[bits>>2&63], alphabet[bits<<4&63], '=', '=')
	case 2:
		dst = append(dst, alphabet[bits>>10&63], alphabet[bits>>4&63], alphabet[bits<<2&63], '=')
	}
	return append(dst, '"'), true
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
