package schema

import "strings"

// The fields of a range, in the order of rangeFields.
const (
	rangeEmpty = iota
	rangeLower
	rangeUpper
	rangeLowerInclusive
	rangeUpperInclusive
)

// newRange makes the object type of ranges over a scalar. Those over the same scalar share it:
// what differs is no more than how the bounds are written, and that follows from the subtype.
func newRange(of *columnType) *objectType {
	boolean := &columnType{graphql: "Boolean", scalar: scalarsByOID[oidBool], write: writeBool}
	o := &objectType{
		name: rangeName(of.scalar), description: "A range of " + of.graphql + ".", write: writeRange,
	}
	for i, f := range []struct{ name, text string }{
		{"empty", "Holds nothing; then both bounds are null."},
		{"lower", "Null where there is no lower bound."},
		{"upper", "Null where there is no upper bound."},
		{"lowerInclusive", "The lower bound belongs to the range."},
		{"upperInclusive", "The upper bound belongs to the range."},
	} {
		field := objectField{name: f.name, description: f.text, typ: boolean, nonNull: true, at: i}
		if i == rangeLower || i == rangeUpper {
			field.typ, field.nonNull = of, false
		}
		o.fields = append(o.fields, field)
	}
	return o
}

func rangeName(s *scalar) string { return s.name + "Range" }

// writeRange writes the text of range_out: "[1,5)", "(,)", "empty".
func writeRange(fields []chosenField) writeFunc {
	return func(dst []byte, text string) ([]byte, bool) {
		r, rest, ok := readRange(text)
		if !ok || rest != "" {
			return dst, false
		}
		return r.write(dst, fields)
	}
}

// writeMultirange writes the text of multirange_out, "{[1,5),[7,)}", as a list.
func writeMultirange(fields []chosenField) writeFunc {
	return func(dst []byte, text string) ([]byte, bool) {
		rest, ok := strings.CutPrefix(text, "{")
		if !ok {
			return dst, false
		}
		if rest == "}" {
			return append(dst, "[]"...), true
		}
		start := len(dst)
		dst = append(dst, '[')
		for {
			var r rangeText
			if r, rest, ok = readRange(rest); !ok || rest == "" {
				return dst[:start], false
			}
			if dst, ok = r.write(dst, fields); !ok {
				return dst[:start], false
			}
			c := rest[0]
			rest = rest[1:]
			switch {
			case c == '}' && rest == "":
				return append(dst, ']'), true
			case c != ',':
				return dst[:start], false
			}
			dst = append(dst, ',')
		}
	}
}

// A rangeText is a range with its bounds as text.
type rangeText struct {
	empty, lowerIn, upperIn bool
	lower, upper            attribute // null where there is no bound
}

func readRange(s string) (r rangeText, rest string, ok bool) {
	if rest, ok = strings.CutPrefix(s, "empty"); ok {
		return rangeText{empty: true, lower: attribute{null: true}, upper: attribute{null: true}}, rest, true
	}
	if s == "" || s[0] != '[' && s[0] != '(' {
		return r, "", false
	}
	r.lowerIn = s[0] == '['
	if r.lower, rest, ok = readBound(s[1:]); !ok || !strings.HasPrefix(rest, ",") {
		return r, "", false
	}
	if r.upper, rest, ok = readBound(rest[1:]); !ok || rest == "" || rest[0] != ']' && rest[0] != ')' {
		return r, "", false
	}
	r.upperIn = rest[0] == ']'
	return r, rest[1:], true
}

func readBound(s string) (a attribute, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		a.text, rest, ok = readDoubled(s)
		return a, rest, ok
	}
	n := strings.IndexAny(s, ",])")
	if n < 0 {
		return a, "", false
	}
	return attribute{text: s[:n], null: n == 0}, s[n:], true
}

func (r *rangeText) write(dst []byte, fields []chosenField) ([]byte, bool) {
	start := len(dst)
	for i := range fields {
		f := &fields[i]
		dst = append(dst, f.before...)
		if f.field == nil {
			continue
		}
		value := attribute{text: "f"}
		switch f.field.at {
		case rangeEmpty:
			value.text = boolText(r.empty)
		case rangeLowerInclusive:
			value.text = boolText(r.lowerIn)
		case rangeUpperInclusive:
			value.text = boolText(r.upperIn)
		case rangeLower:
			value = r.lower
		case rangeUpper:
			value = r.upper
		}
		if value.null {
			dst = append(dst, "null"...)
			continue
		}
		var ok bool
		if dst, ok = f.write(dst, value.text); !ok {
			return dst[:start], false
		}
	}
	return append(dst, '}'), true
}

// boolText is what boolout prints.
func boolText(b bool) string {
	if b {
		return "t"
	}
	return "f"
}
