package rls

import (
	"math"
	"strings"
	"unicode/utf8"
)

// A builtin is a function of pg_catalog that is strict: it gives NULL where an argument is NULL.
type builtin struct {
	typ  string
	call func(e *evaluation, args []datum) datum
}

// builtinOf gives the function of a signature. Texts are valid UTF-8, and characters are code points
// for PostgreSQL as for us; searching for a text is searching for its bytes, since the
// collations that are compiled are deterministic.
func builtinOf(signature string) (builtin, bool) {
	b, ok := map[string]builtin{
		"length(text)":               {"int4", characters},
		"char_length(text)":          {"int4", characters},
		"character_length(text)":     {"int4", characters},
		"btrim(text)":                {"text", func(_ *evaluation, a []datum) datum { return datum{s: strings.Trim(a[0].s, " ")} }},
		"ltrim(text)":                {"text", func(_ *evaluation, a []datum) datum { return datum{s: strings.TrimLeft(a[0].s, " ")} }},
		"rtrim(text)":                {"text", func(_ *evaluation, a []datum) datum { return datum{s: strings.TrimRight(a[0].s, " ")} }},
		"btrim(text,text)":           {"text", func(_ *evaluation, a []datum) datum { return datum{s: strings.Trim(a[0].s, a[1].s)} }},
		"ltrim(text,text)":           {"text", func(_ *evaluation, a []datum) datum { return datum{s: strings.TrimLeft(a[0].s, a[1].s)} }},
		"rtrim(text,text)":           {"text", func(_ *evaluation, a []datum) datum { return datum{s: strings.TrimRight(a[0].s, a[1].s)} }},
		"starts_with(text,text)":     {"bool", func(_ *evaluation, a []datum) datum { return boolean(strings.HasPrefix(a[0].s, a[1].s)) }},
		"strpos(text,text)":          {"int4", strpos},
		"split_part(text,text,int4)": {"text", splitPart},
		"left(text,int4)":            {"text", left},
		"right(text,int4)":           {"text", right},
		"jsonb_typeof(jsonb)":        {"text", typeOfDocument},
		"json_typeof(json)":          {"text", typeOfDocument},
	}[signature]
	if strings.HasPrefix(signature, "cardinality(") && strings.HasSuffix(signature, "[])") {
		return builtin{"int4", cardinality}, true
	}
	return b, ok
}

func characters(_ *evaluation, a []datum) datum {
	return datum{i: int64(utf8.RuneCountInString(a[0].s))}
}

func cardinality(_ *evaluation, a []datum) datum { return datum{i: int64(len(a[0].list))} }

// strpos gives the character at which a text is found, from 1; 0 for nowhere.
func strpos(_ *evaluation, a []datum) datum {
	at := strings.Index(a[0].s, a[1].s)
	if at < 0 {
		return datum{}
	}
	return datum{i: int64(utf8.RuneCountInString(a[0].s[:at])) + 1}
}

// splitPart gives the n-th field, from the end where n is negative; there is none at 0.
func splitPart(e *evaluation, a []datum) datum {
	s, separator, n := a[0].s, a[1].s, a[2].i
	fields := []string{s}
	switch {
	case n == 0:
		return e.refuse()
	case separator != "":
		fields = strings.Split(s, separator)
	}
	if n < 0 {
		n += int64(len(fields)) + 1
	}
	if n < 1 || n > int64(len(fields)) {
		return datum{}
	}
	return datum{s: fields[n-1]}
}

// left gives the first n characters, or all but the last -n.
func left(_ *evaluation, a []datum) datum { return datum{s: a[0].s[:boundary(a[0].s, a[1].i)]} }

// right gives the last n characters, or all but the first -n. The least integer has no opposite.
func right(e *evaluation, a []datum) datum {
	switch s, n := a[0].s, a[1].i; n {
	case 0:
		return datum{}
	case math.MinInt32:
		return e.refuse()
	default:
		return datum{s: s[boundary(s, -n):]}
	}
}

// boundary is the index behind the n-th character, counted from the end where n is negative.
func boundary(s string, n int64) int {
	if n < 0 {
		n += int64(utf8.RuneCountInString(s))
	}
	at := 0
	for ; n > 0 && at < len(s); n-- {
		_, size := utf8.DecodeRuneInString(s[at:])
		at += size
	}
	return at
}

// stringToArray splits by a separator: nothing into no elements, by nothing into one. By NULL it
// would split into characters.
func stringToArray(e *evaluation, text, by datum) datum {
	s, separator := text.s, by.s
	var out datum
	switch {
	case text.null:
		return null
	case by.null:
		return e.refuse()
	case s == "":
	case separator == "":
		out.list = []datum{{s: s}}
	default:
		for field := range strings.SplitSeq(s, separator) {
			out.list = append(out.list, datum{s: field})
		}
	}
	return out
}

// lower and upper are known for ASCII alone, in databases whose locale treats that as usual.
func lower(e *evaluation, a []datum) datum { return cased(e, a[0], 'A', 'Z') }

func upper(e *evaluation, a []datum) datum { return cased(e, a[0], 'a', 'z') }

func cased(e *evaluation, d datum, from, to byte) datum {
	change := false
	for i := range len(d.s) {
		if d.s[i] >= utf8.RuneSelf {
			return e.refuse()
		}
		change = change || d.s[i] >= from && d.s[i] <= to
	}
	if !change {
		return d
	}
	b := []byte(d.s)
	for i, c := range b {
		if c >= from && c <= to {
			b[i] = c ^ 0x20
		}
	}
	return datum{s: string(b)}
}
