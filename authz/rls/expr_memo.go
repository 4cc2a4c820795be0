package rls

// reads tells what an expression depends on.
type reads uint64

// The lowest bits stand for the rows of sub-selects, by their slots.
const (
	maxSlots             = 60
	readsSlots     reads = 1<<maxSlots - 1
	readsOther     reads = 1 << 61 // other tables
	readsPrincipal reads = 1 << 62
	readsRow       reads = 1 << 63 // the image
)

// A memo lists the parts of a predicate that need not be evaluated for every pair of an image and
// a principal: those that read the principal alone, and those that read the row alone. Such a
// part is evaluated once, its formula then gives the result; since every part is evaluated anyway,
// it raises no error that would not be raised without.
type memo struct{ ofPrincipal, ofRow []part }

// A part is a formula of a memo. One within another comes before it.
type part struct {
	eval func(*evaluation) datum
	// inner tells that only a later part uses the result.
	inner bool
}

// A mark is how many parts there were before an expression was compiled.
type mark struct{ ofPrincipal, ofRow int }

func (m *memo) mark() mark { return mark{len(m.ofPrincipal), len(m.ofRow)} }

// forget drops the parts of an expression that is not compiled after all.
func (m *memo) forget(since mark) {
	m.ofPrincipal, m.ofRow = m.ofPrincipal[:since.ofPrincipal], m.ofRow[:since.ofRow]
}

// keep makes a part of a formula where that saves work. Its own parts, since the mark, are inner
// ones then.
func (m *memo) keep(f formula, since mark) formula {
	eval := f.eval
	switch f.reads { //nolint:exhaustive // sets of bits
	case 0: // folded, unless Postgres has to raise an error
		var e evaluation
		if d := eval(&e); !e.refused {
			f.eval = func(*evaluation) datum { return d }
		}
	case readsPrincipal:
		n := len(m.ofPrincipal)
		m.ofPrincipal = append(m.ofPrincipal, part{eval: eval})
		hide(m.ofPrincipal[since.ofPrincipal:n])
		f.eval = func(e *evaluation) datum { return e.ofPrincipal[n] }
	case readsRow:
		n := len(m.ofRow)
		m.ofRow = append(m.ofRow, part{eval: eval})
		hide(m.ofRow[since.ofRow:n])
		f.eval = func(e *evaluation) datum { return e.ofRow[n] }
	}
	return f
}

func hide(parts []part) {
	for i := range parts {
		parts[i].inner = true
	}
}

// evaluate gives the results of parts. They must be those that the formulas of the evaluation read:
// a part may use an earlier one.
func evaluate(e *evaluation, parts []part, results []datum) {
	for i, p := range parts {
		results[i] = p.eval(e)
	}
	for i, p := range parts {
		if p.inner { // the document that a claim was taken from need not be held
			results[i] = datum{}
		}
	}
}

// worthKeeping tells expressions that are more than looking up a value.
func (n *node) worthKeeping() bool {
	switch n.kind {
	case nodeString, nodeNumber, nodeNull, nodeBool, nodeUser, nodeParam, nodeName, nodeRow:
		return false
	default:
		return true
	}
}
