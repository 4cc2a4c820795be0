package schema

import "strings"

// An objectType is the API's object type of a PostgreSQL composite, or of a range.
type objectType struct {
	name        string
	description string
	fields      []objectField
	// write makes what writes a value's text as an object of these fields.
	write func(fields []chosenField) writeFunc
}

// An objectField is a field of an objectType.
type objectField struct {
	name        string
	typ         *columnType
	nonNull     bool
	description string
	deprecated  *string
	at          int // the attribute's place in the composite's text
}

func (f *objectField) graphqlType() string {
	if f.nonNull {
		return f.typ.graphql + "!"
	}
	return f.typ.graphql
}

func (o *objectType) field(name string) *objectField {
	for i := range o.fields {
		if o.fields[i].name == name {
			return &o.fields[i]
		}
	}
	return nil
}

// A chosenField is a field that a document selects: what stands before its value, and what
// writes the value. Those of __typename have no field.
type chosenField struct {
	before string
	field  *objectField
	write  writeFunc
}

// newComposite makes the object type of a composite. Attributes are nullable whatever their type
// says: PostgreSQL does not hold composites to the constraints of domains within a row of nulls.
func newComposite(t *Type, name string, names []string, types namedTypes) *objectType {
	o := &objectType{name: name, description: t.Directives.Description}
	for i := range t.Fields {
		f := &t.Fields[i]
		if names[i] == "" {
			continue
		}
		o.fields = append(o.fields, objectField{
			name: names[i], typ: typeOf(f.Type, types), at: i,
			description: f.Directives.Description, deprecated: f.Directives.Deprecated,
		})
	}
	attributes := len(t.Fields)
	o.write = func(fields []chosenField) writeFunc { return writeComposite(fields, attributes) }
	return o
}

// usualAttributes is how many attributes are read without an allocation.
const usualAttributes = 16

// writeComposite writes the text of record_out: "(1,,"a ""b""")".
func writeComposite(fields []chosenField, attributes int) writeFunc {
	return func(dst []byte, text string) ([]byte, bool) {
		var room [usualAttributes]attribute
		values, ok := readRecord(room[:0], text)
		if !ok || len(values) != attributes {
			return dst, false
		}
		start := len(dst)
		for i := range fields {
			f := &fields[i]
			dst = append(dst, f.before...)
			switch {
			case f.field == nil:
			case values[f.field.at].null:
				dst = append(dst, "null"...)
			default:
				if dst, ok = f.write(dst, values[f.field.at].text); !ok {
					return dst[:start], false
				}
			}
		}
		return append(dst, '}'), true
	}
}

// An attribute is one value of a composite.
type attribute struct {
	text string
	null bool
}

// readRecord appends the values of a composite's text to dst. One without attributes is "()".
func readRecord(dst []attribute, text string) ([]attribute, bool) {
	rest, ok := strings.CutPrefix(text, "(")
	if !ok {
		return nil, false
	}
	if rest == ")" {
		return dst, true
	}
	for {
		var a attribute
		if a, rest, ok = readAttribute(rest); !ok || rest == "" {
			return nil, false
		}
		dst = append(dst, a)
		c := rest[0]
		rest = rest[1:]
		switch {
		case c == ')' && rest == "":
			return dst, true
		case c != ',':
			return nil, false
		}
	}
}

// readAttribute reads up to the comma or bracket that ends a value. Nothing at all is NULL; the
// empty string is in quotation marks.
func readAttribute(s string) (a attribute, rest string, ok bool) {
	if strings.HasPrefix(s, `"`) {
		a.text, rest, ok = readDoubled(s)
		return a, rest, ok
	}
	n := strings.IndexAny(s, ",)")
	if n < 0 {
		return a, "", false
	}
	return attribute{text: s[:n], null: n == 0}, s[n:], true
}

// readDoubled reads text in quotation marks, in which record_out and range_out double quotation
// marks and backslashes. It copies only where they did.
func readDoubled(s string) (text, rest string, ok bool) {
	var b strings.Builder
	for s = s[1:]; ; {
		at := strings.IndexAny(s, `"\`)
		if at < 0 {
			return "", "", false
		}
		if at+1 < len(s) && s[at+1] == s[at] {
			b.WriteString(s[:at+1])
			s = s[at+2:]
			continue
		}
		if s[at] == '\\' {
			return "", "", false
		}
		if b.Len() == 0 {
			return s[:at], s[at+1:], true
		}
		b.WriteString(s[:at])
		return b.String(), s[at+1:], true
	}
}
