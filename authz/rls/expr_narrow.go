package rls

import (
	"slices"
	"strconv"

	"github.com/rowtide/rowtide/authz"
)

// A narrow gives the equalities that an image must meet for a condition to be true, under the
// principal of an evaluation; none where nothing is known. What cannot be true for any image
// gives one without values.
type narrow func(e *evaluation) []authz.Equality

// never is what no image meets.
func never() []authz.Equality { return []authz.Equality{{}} }

func impossible(all []authz.Equality) bool {
	return slices.ContainsFunc(all, func(q authz.Equality) bool { return len(q.Values) == 0 })
}

// byPrincipal narrows by a condition that does not read the row.
func byPrincipal(eval func(*evaluation) datum) narrow {
	return func(e *evaluation) []authz.Equality {
		if d := eval(e); !e.refused && !d.isTrue() {
			return never()
		}
		return nil
	}
}

// equalTo narrows by an equality of a column and a value that the row has no part in. Nothing
// equals NULL.
func equalTo(column, value formula) narrow {
	return oneOf(column, value, func(d datum) []datum { return []datum{d} })
}

// elementOf narrows by an equality of a column and one of the elements of such an array.
func elementOf(column, array formula) narrow {
	return oneOf(column, array, func(d datum) []datum { return d.list })
}

func oneOf(column, value formula, list func(datum) []datum) narrow {
	if column.column == 0 || value.reads&^readsPrincipal != 0 || !printsAlike(column.typ) {
		return nil
	}
	return func(e *evaluation) []authz.Equality {
		d := value.eval(e)
		if e.refused {
			return nil
		}
		q := authz.Equality{Column: column.column - 1}
		for _, d := range list(d) {
			if !d.null {
				q.Values = append(q.Values, printed(column.typ, d))
			}
		}
		return []authz.Equality{q}
	}
}

// printsAlike tells types whose equal values have one text, which is the stream's.
func printsAlike(typ string) bool {
	return isInt(typ) || typ == "bool" || typ == "text" || typ == "name" || typ == "uuid"
}

// printed is a value as its output function writes it.
func printed(typ string, d datum) string {
	switch {
	case isInt(typ):
		return strconv.FormatInt(d.i, 10)
	case typ == "bool":
		return string("ft"[d.i])
	}
	return d.s
}

// narrowAll is the narrow of AND, narrowSome that of OR.
func narrowAll(kids []formula) narrow {
	return func(e *evaluation) []authz.Equality {
		var out []authz.Equality
		for _, k := range kids {
			if k.narrow != nil {
				out = append(out, k.narrow(e)...)
			}
		}
		return out
	}
}

func narrowSome(kids []formula) narrow {
	return func(e *evaluation) []authz.Equality {
		out, first := never(), true
		for _, k := range kids {
			if k.narrow == nil {
				return nil
			}
			switch one := k.narrow(e); {
			case impossible(one):
			case first:
				out, first = one, false
			default:
				out = either(out, one)
			}
			if len(out) == 0 {
				return nil
			}
		}
		return out
	}
}

// either keeps what holds whichever of two conjunctions does: of a column that both narrow, the
// values of both.
func either(a, b []authz.Equality) []authz.Equality {
	var out []authz.Equality
	for _, x := range a {
		if i := slices.IndexFunc(b, func(y authz.Equality) bool { return y.Column == x.Column }); i >= 0 {
			out = append(out, authz.Equality{Column: x.Column, Values: slices.Concat(x.Values, b[i].Values)})
		}
	}
	return out
}
