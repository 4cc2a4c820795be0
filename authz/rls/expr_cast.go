package rls

import (
	"fmt"
	"math"
	"strings"
)

func (c *compiler) cast(n *node) (formula, error) {
	if c.inBody && !c.function.Deparsed && strings.Contains(n.text, ".") {
		return formula{}, fmt.Errorf("it casts to %s in a function, where that takes USAGE on its schema", n.text)
	}
	f, err := c.compile(n.kids[0])
	if err != nil || f.typ == n.text {
		return f, err
	}
	typ := n.text
	if f.typ == "" {
		if strings.HasPrefix(typ, "date") || strings.HasPrefix(typ, "timestamp") {
			if s := f.constant; !f.isNull && s != "infinity" && s != "-infinity" && (s == "" || !isDigit(s[0])) {
				return f, fmt.Errorf("it uses the literal %q of type %s", s, typ)
			}
		}
		return c.to(f, typ)
	}
	elem, isArray := strings.CutSuffix(typ, "[]")
	fromElem, fromArray := strings.CutSuffix(f.typ, "[]")
	if isArray && fromArray {
		c.risk(f)
		each, err := c.conversion(fromElem, elem)
		if err != nil {
			return f, err
		}
		return formula{typ: typ, eval: unary(f, func(e *evaluation, a datum) datum {
			var out datum
			for _, d := range a.list {
				if !d.null {
					d = each(e, d)
				}
				out.list = append(out.list, d)
			}
			return out
		})}, nil
	}
	convert, err := c.conversion(f.typ, typ)
	if err != nil {
		return f, err
	}
	if !lossless(f.typ, typ) {
		c.risk(f)
	}
	out := formula{typ: typ, eval: unary(f, convert)}
	if isInt(f.typ) && (isInt(typ) || typ == "text") || (f.typ == "uuid" || f.typ == "name") && typ == "text" {
		out.column = f.column
	}
	return out, nil
}

// conversion is a cast between two types.
func (c *compiler) conversion(from, to string) (func(e *evaluation, a datum) datum, error) {
	no := fmt.Errorf("it casts %s to %s", from, to)
	switch {
	case from == to:
		return func(_ *evaluation, a datum) datum { return a }, nil
	case to == "text":
		if f := textOf(from, c.enums); f != nil {
			return f, nil
		}
	case isInt(from) && isInt(to):
		least, most := int64(math.MinInt64), int64(math.MaxInt64)
		switch to {
		case "int2":
			least, most = math.MinInt16, math.MaxInt16
		case "int4":
			least, most = math.MinInt32, math.MaxInt32
		}
		return func(e *evaluation, a datum) datum {
			if a.i < least || a.i > most {
				return e.refuse()
			}
			return a
		}, nil
	case isInt(from) && to == "numeric":
		return textOf(from, c.enums), nil
	case from == "text":
		// The text of a time means what the session's settings make of it, and a name is cut.
		if to == "date" || to == "timestamp" || to == "timestamptz" || to == "name" {
			break
		}
		if read := readerOf(to, c.enums); read != nil {
			return func(e *evaluation, a datum) datum { return read(e, a.s) }, nil
		}
	}
	return nil, no
}

// formatted is a type as format_type writes it, in our words; "" where it is not compiled.
func formatted(typ string) string {
	switch typ {
	case "character varying":
		return "text"
	case "timestamp with time zone":
		return "timestamptz"
	case "timestamp without time zone":
		return "timestamp"
	}
	elem, isArray := strings.CutSuffix(typ, "[]")
	name := canonicalType(elem)
	if isArray && name != "" {
		name += "[]"
	}
	return name
}
