package rls

import (
	"errors"
	"strings"
)

// cast reads the name of a type behind :: or AS.
func (p *parser) cast(of *node) (*node, error) {
	quoted := p.in[p.at].kind == lexQuoted
	path, err := p.path()
	if err != nil {
		return nil, err
	}
	if quoted && len(path) == 1 {
		return nil, errors.New("it reads a type whose name stands in quotes")
	}
	name := ""
	if len(path) == 1 {
		name, err = p.builtinType(path[0])
	} else {
		name = typeKey(path...)
	}
	if err != nil {
		return nil, err
	}
	if p.sign("[") {
		name += "[]"
		if err := p.expect("]"); err != nil {
			return nil, err
		}
	}
	return p.make(node{kind: nodeCast, text: name, kids: []*node{of}})
}

// typeKey is the name of a type of another schema than pg_catalog.
func typeKey(path ...string) string {
	if len(path) == 2 && path[0] == "pg_catalog" {
		if name := canonicalType(path[1]); name != "" {
			return name
		}
	}
	quoted := make([]string, len(path))
	for i, part := range path {
		quoted[i] = ident(part)
	}
	return strings.Join(quoted, ".")
}

// builtinType reads the rest of a type's name. A modifier such as varchar(8) is not read: it
// truncates or rounds.
func (p *parser) builtinType(w string) (string, error) {
	switch {
	case w == "character" && p.word("varying"):
		w = "varchar"
	case w == "timestamp" && p.word("with"), w == "timestamp" && p.word("without"):
		if p.in[p.at-1].text == "with" {
			w = "timestamptz"
		}
		if !p.word("time") || !p.word("zone") {
			return "", p.unread()
		}
	}
	name := canonicalType(w)
	if name == "" {
		return "", errors.New("it reads the type " + w + ", which is not compiled")
	}
	if p.is(lexSign, "(") {
		return "", errors.New("it casts to a type of a certain length")
	}
	return name, nil
}

// canonicalType is the name of a type in pg_type, of which varchar counts as text; "" for those
// that are not compiled.
func canonicalType(w string) string {
	switch w {
	case "bool", "boolean":
		return "bool"
	case "int2", "smallint":
		return "int2"
	case "int4", "integer", "int":
		return "int4"
	case "int8", "bigint":
		return "int8"
	case "numeric", "decimal", "dec":
		return "numeric"
	case "text", "varchar":
		return "text"
	case "name", "uuid", "json", "jsonb", "date", "timestamp", "timestamptz":
		return w
	}
	return ""
}
