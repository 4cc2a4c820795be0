package rls

import (
	"strings"
	"unicode/utf8"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// A datum is a value: NULL, or what its type needs.
type datum struct {
	null bool
	i    int64  // of booleans (0, 1) and integers
	s    string // the text of all else
	doc  *document
	list []datum
}

var null = datum{null: true}

func boolean(b bool) datum {
	if b {
		return datum{i: 1}
	}
	return datum{}
}

func (d datum) isTrue() bool { return !d.null && d.i != 0 }

// An evaluation is one image and one principal. Once it is refused, its results mean nothing:
// Postgres has to be asked.
type evaluation struct {
	image    cdc.Row
	role     string
	settings []authz.Setting
	// ofPrincipal and ofRow are results of the predicate's memo.
	ofPrincipal, ofRow []datum
	refused            bool
	// What follows is of sub-selects: the rows in hand, by slot; what IN looks for, by cell; and
	// the transaction as of whose end other tables are read.
	rows  []cdc.Row
	cells []datum
	at    cdc.LSN
	work  int // rows looked at
	// kept tells, where something is narrowed, that these are known, and now is the transaction at hand.
	kept bool
	now  cdc.LSN
}

func (e *evaluation) refuse() datum {
	e.refused = true
	return null
}

// setting is a value that the principal makes before a policy is evaluated. Names are compared
// as guc_name_compare does; the one made last counts.
func (e *evaluation) setting(name string) datum {
	for i := len(e.settings) - 1; i >= 0; i-- {
		if s := e.settings[i]; len(s.Name) == len(name) && lowerASCII(s.Name) == name {
			if strings.IndexByte(s.Value, 0) >= 0 || !utf8.ValidString(s.Value) {
				return e.refuse()
			}
			return datum{s: s.Value}
		}
	}
	return e.refuse()
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for k, c := range b {
				if c >= 'A' && c <= 'Z' {
					b[k] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// A formula is a typed expression. Every part of it is evaluated, whatever the others give: an
// evaluation that no part refuses has raised no error anywhere, so its result is that of every
// order in which Postgres may evaluate, constants folded beforehand or not. Where one refuses,
// Postgres is asked, and decides in its order.
type formula struct {
	typ string
	// constant is the text of a literal that has no type yet; typ is "" then.
	constant string
	isNull   bool // a NULL that has no type yet
	eval     func(*evaluation) datum
	cost     int // how many formulas are evaluated
	reads    reads
	// column is the index, from 1, of the column whose value this is; 0 for none. The value may
	// have been cast to a type in which different values stay different.
	column int
	// narrow tells what an image must meet for the formula to be true; nil where nothing is known.
	narrow narrow
	// kept is set where it is a column of a row of a sub-select, equal where it is an equality of
	// two formulas.
	kept  *rowColumn
	equal *[2]formula
}

// all is AND, some is OR.
func all(kids []formula) func(*evaluation) datum {
	return func(e *evaluation) datum {
		out := datum{i: 1}
		for _, k := range kids {
			switch d := k.eval(e); {
			case d.null:
				if out.i != 0 {
					out.null = true
				}
			case d.i == 0:
				out = datum{}
			}
		}
		return out
	}
}

func some(kids []formula) func(*evaluation) datum {
	return func(e *evaluation) datum {
		out := datum{}
		for _, k := range kids {
			switch d := k.eval(e); {
			case d.null:
				if out.i == 0 {
					out.null = true
				}
			case d.i != 0:
				out = datum{i: 1}
			}
		}
		return out
	}
}

func negate(k formula) func(*evaluation) datum {
	return func(e *evaluation) datum {
		d := k.eval(e)
		if d.null {
			return null
		}
		return boolean(d.i == 0)
	}
}

// strict is a function of two values that gives NULL where one is.
func strict(l, r formula, f func(e *evaluation, a, b datum) datum) func(*evaluation) datum {
	return func(e *evaluation) datum {
		a, b := l.eval(e), r.eval(e)
		if a.null || b.null {
			return null
		}
		return f(e, a, b)
	}
}

// unary likewise, of one value.
func unary(k formula, f func(e *evaluation, a datum) datum) func(*evaluation) datum {
	return func(e *evaluation) datum {
		if a := k.eval(e); !a.null {
			return f(e, a)
		}
		return null
	}
}

// quantified is ANY, or ALL.
func quantified(l, array formula, some bool, compare func(e *evaluation, a, b datum) datum) func(*evaluation) datum {
	return func(e *evaluation) datum {
		a, list := l.eval(e), array.eval(e)
		if list.null {
			return null
		}
		out := boolean(!some)
		for _, b := range list.list {
			// The operators are strict.
			if a.null || b.null {
				if out.i != 0 == !some {
					out.null = true
				}
				continue
			}
			if d := compare(e, a, b); d.i != 0 == some {
				out = boolean(some)
				// What is decided stays so; the rest only has to raise no error.
				for _, b := range list.list {
					if !b.null {
						compare(e, a, b)
					}
				}
				return out
			}
		}
		return out
	}
}

// choose is CASE, with conditions and values by turns and the ELSE last.
func choose(kids []formula) func(*evaluation) datum {
	return func(e *evaluation) datum {
		out, chosen := null, false
		for i := 0; i+1 < len(kids); i += 2 {
			c, v := kids[i].eval(e), kids[i+1].eval(e)
			if !chosen && c.isTrue() {
				out, chosen = v, true
			}
		}
		if v := kids[len(kids)-1].eval(e); !chosen {
			out = v
		}
		return out
	}
}

func firstKnown(kids []formula) func(*evaluation) datum {
	return func(e *evaluation) datum {
		out := null
		for _, k := range kids {
			if d := k.eval(e); out.null {
				out = d
			}
		}
		return out
	}
}

// column reads a value of the image.
func column(i int, read func(e *evaluation, text string) datum) func(*evaluation) datum {
	return func(e *evaluation) datum {
		switch v := e.image[i]; {
		case !v.Known():
			return e.refuse()
		case v.IsNull():
			return null
		default:
			return read(e, v.Text())
		}
	}
}
