package rls

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// lookInto compiles the operators of json and jsonb.
func (c *compiler) lookInto(n *node) (formula, error) {
	l, err := c.compile(n.kids[0])
	if err != nil {
		return l, err
	}
	r, err := c.compile(n.kids[1])
	if err != nil {
		return l, err
	}
	c.risk(l, r)
	isJSON := l.typ == "json" || l.typ == "jsonb"
	want := "text"
	if strings.HasPrefix(n.text, "#") || n.text == "?|" || n.text == "?&" {
		want = "text[]"
	}
	if r.typ == "" {
		if r, err = c.to(r, want); err != nil {
			return l, err
		}
	}
	if !isJSON || n.text[0] == '?' && l.typ != "jsonb" || r.typ != want && (r.typ != "int4" || !strings.HasPrefix(n.text, "-")) {
		return l, fmt.Errorf("it uses the operator %s on %s and %s", n.text, l.typ, r.typ)
	}
	switch n.text {
	case "?":
		return formula{typ: "bool", eval: strict(l, r, func(_ *evaluation, a, b datum) datum { return boolean(hasKey(a.doc, b.s)) })}, nil
	case "?|", "?&":
		some := n.text == "?|"
		return formula{typ: "bool", eval: strict(l, r, func(_ *evaluation, a, b datum) datum { return boolean(hasKeys(a.doc, b.list, some)) })}, nil
	}
	find := func(_ *evaluation, a, b datum) *document { return field(a.doc, b.s) }
	switch {
	case r.typ == "int4":
		find = func(e *evaluation, a, b datum) *document {
			if a.doc.kind != 'a' && a.doc.kind != 'o' {
				e.refuse() // jsonb holds it as an array of one, and json does not
				return nil
			}
			return item(a.doc, b.i)
		}
	case want == "text[]":
		find = func(e *evaluation, a, b datum) *document {
			if a.doc.repeated || len(b.list) == 0 {
				e.refuse() // json and jsonb differ
				return nil
			}
			return follow(e, a.doc, b.list)
		}
	}
	if strings.HasSuffix(n.text, ">>") {
		return formula{typ: "text", eval: strict(l, r, func(e *evaluation, a, b datum) datum { return asText(e, find(e, a, b)) })}, nil
	}
	return formula{typ: l.typ, eval: strict(l, r, func(e *evaluation, a, b datum) datum { return asDocument(e, find(e, a, b)) })}, nil
}

// field is -> and ->> of a key.
func field(d *document, key string) *document {
	if d.kind != 'o' {
		return nil
	}
	return d.fields[key]
}

// item is -> and ->> of an index; a negative one counts from the end.
func item(d *document, i int64) *document {
	if d.kind != 'a' {
		return nil
	}
	if i < 0 {
		i += int64(len(d.items))
	}
	if i < 0 || i >= int64(len(d.items)) {
		return nil
	}
	return d.items[i]
}

// asDocument is the result of ->, asText that of ->>.
func asDocument(_ *evaluation, d *document) datum {
	if d == nil {
		return null
	}
	return datum{doc: d}
}

func asText(e *evaluation, d *document) datum {
	switch {
	case d == nil || d.kind == 'n':
		return null
	case d.kind == 'o' || d.kind == 'a':
		return e.refuse() // json and jsonb write them in ways of their own
	}
	return datum{s: d.text}
}

// follow is #> and #>> of a path.
func follow(e *evaluation, d *document, path []datum) *document {
	for _, step := range path {
		switch {
		case step.null:
			return nil
		case d == nil:
		case d.kind == 'o':
			d = field(d, step.s)
		case d.kind == 'a':
			// strtol reads many forms of a number: only the plain one is read here.
			i, err := strconv.ParseInt(step.s, 10, 32)
			if err != nil && strings.ContainsAny(step.s, "0123456789") || err == nil && strconv.FormatInt(i, 10) != step.s {
				e.refuse()
				return nil
			}
			if err != nil {
				return nil
			}
			d = item(d, i)
		default:
			d = nil
		}
	}
	return d
}

// hasKey is the operator ?: a key of an object, a string among an array's elements, or the
// string that the value is.
func hasKey(d *document, key string) bool {
	switch d.kind {
	case 'o':
		return d.fields[key] != nil
	case 'a':
		return slices.ContainsFunc(d.items, func(i *document) bool { return i.kind == 's' && i.text == key })
	case 's':
		return d.text == key
	}
	return false
}

// hasKeys tells whether some of the keys are there, or all. NULL is none.
func hasKeys(d *document, keys []datum, some bool) bool {
	for _, k := range keys {
		if !k.null && hasKey(d, k.s) == some {
			return some
		}
	}
	return !some
}

// typeOfDocument is jsonb_typeof and json_typeof.
func typeOfDocument(_ *evaluation, a []datum) datum {
	return datum{s: map[byte]string{'n': "null", 'b': "boolean", 'd': "number", 's': "string", 'a': "array", 'o': "object"}[a[0].doc.kind]}
}
