package rls

import (
	"slices"
	"strconv"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// readers read the text of a value as the input function of its type does, or refuse it. They
// take less than Postgres takes: what they refuse it reads itself, or raises an error of.
func readerOf(typ string, enums map[string]*schema.Type) func(e *evaluation, text string) datum {
	if elem, ok := strings.CutSuffix(typ, "[]"); ok {
		read := readerOf(elem, enums)
		if read == nil || elem == "json" || elem == "jsonb" {
			return nil
		}
		return func(e *evaluation, text string) datum { return readArray(e, text, read) }
	}
	if t := enums[typ]; t != nil {
		return func(e *evaluation, text string) datum {
			if !slices.Contains(t.Labels, text) {
				return e.refuse()
			}
			return datum{s: text}
		}
	}
	switch typ {
	case "text":
		return func(_ *evaluation, text string) datum { return datum{s: text} }
	case "name":
		return func(e *evaluation, text string) datum {
			if len(text) > maxName {
				return e.refuse()
			}
			return datum{s: text}
		}
	case "bool":
		return readBool
	case "int2":
		return readInt(16)
	case "int4":
		return readInt(32)
	case "int8":
		return readInt(64)
	case "uuid":
		return readUUID
	case "json", "jsonb":
		return func(e *evaluation, text string) datum {
			doc, ok := readDocument(text, typ == "jsonb")
			if !ok {
				return e.refuse()
			}
			return datum{doc: doc}
		}
	case "numeric":
		return func(e *evaluation, text string) datum {
			if _, ok := schema.CompareValues(typ, text, text); !ok || !plainNumber(text) {
				return e.refuse()
			}
			return datum{s: text}
		}
	case "date", "timestamp", "timestamptz":
		return func(e *evaluation, text string) datum {
			if _, ok := schema.CompareValues(typ, text, text); !ok {
				return e.refuse()
			}
			return datum{s: text}
		}
	}
	return nil
}

// plainNumber tells a number that numeric writes as it stands.
func plainNumber(s string) bool {
	if len(s) > 100 || strings.ContainsAny(s, "eEnN+ ") {
		return false
	}
	digits := strings.TrimPrefix(s, "-")
	if len(digits) > 1 && digits[0] == '0' && digits[1] != '.' {
		return false
	}
	return digits == s || strings.Trim(digits, "0.") != ""
}

func readBool(e *evaluation, text string) datum {
	switch text {
	case "t", "true":
		return datum{i: 1}
	case "f", "false":
		return datum{}
	}
	return e.refuse()
}

// readInt reads what every version reads alike: blanks around, a sign, decimal digits.
func readInt(bits int) func(e *evaluation, text string) datum {
	return func(e *evaluation, text string) datum {
		i, err := strconv.ParseInt(strings.Trim(text, " \t\n\r\f\v"), 10, bits)
		if err != nil {
			return e.refuse()
		}
		return datum{i: i}
	}
}

// readUUID reads what uuid_in reads (PostgreSQL's uuid.c): 32 digits, a hyphen or none behind each four, and braces or
// none around it all.
func readUUID(e *evaluation, text string) datum {
	if inner, ok := strings.CutPrefix(text, "{"); ok {
		if text, ok = strings.CutSuffix(inner, "}"); !ok {
			return e.refuse()
		}
	}
	out := make([]byte, 0, 36)
	digits := 0
	for i := range len(text) {
		c := text[i]
		if c == '-' && digits > 0 && digits < 32 && digits%4 == 0 && text[i-1] != '-' {
			continue
		}
		if !isDigit(c) && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') || digits == 32 {
			return e.refuse()
		}
		if digits == 8 || digits == 12 || digits == 16 || digits == 20 {
			out = append(out, '-')
		}
		out = append(out, c)
		digits++
	}
	if digits != 32 {
		return e.refuse()
	}
	return datum{s: lowerASCII(string(out))}
}

// readArray reads an array of one dimension from its text, in the form that array_out gives it
// and a little beyond. What is odd is refused.
func readArray(e *evaluation, text string, read func(*evaluation, string) datum) datum {
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return e.refuse()
	}
	out := datum{}
	if text == "{}" {
		return out
	}
	for rest := text[1 : len(text)-1]; ; {
		element, quoted, n := arrayElement(rest)
		if n < 0 {
			return e.refuse()
		}
		if !quoted && strings.EqualFold(element, "null") {
			out.list = append(out.list, null)
		} else {
			out.list = append(out.list, read(e, element))
		}
		if n == len(rest) {
			return out
		}
		rest = rest[n+1:] // behind the comma
	}
}

// arrayElement reads up to a comma or the end; n is -1 where it is not read.
func arrayElement(s string) (element string, quoted bool, n int) {
	if !strings.HasPrefix(s, `"`) {
		n = strings.IndexByte(s, ',')
		if n < 0 {
			n = len(s)
		}
		element = s[:n]
		if element == "" || strings.ContainsAny(element, "{}\"\\ \t\n\r\f\v") {
			return "", false, -1
		}
		return element, false, n
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case c == '\\':
			return "", true, -1
		case c != '"':
			b.WriteByte(c)
		case i+1 == len(s) || s[i+1] == ',':
			return b.String(), true, i + 1
		default:
			return "", true, -1
		}
	}
	return "", true, -1
}

// textOf writes a value as its cast to text does.
func textOf(typ string, enums map[string]*schema.Type) func(e *evaluation, a datum) datum {
	switch typ {
	case "text", "name", "uuid", "numeric":
		return func(_ *evaluation, a datum) datum { return a }
	case "bool":
		return func(_ *evaluation, a datum) datum { return datum{s: strconv.FormatBool(a.i != 0)} }
	case "int2", "int4", "int8":
		return func(_ *evaluation, a datum) datum { return datum{s: strconv.FormatInt(a.i, 10)} }
	}
	if enums[typ] != nil {
		return func(_ *evaluation, a datum) datum { return a }
	}
	return nil
}
