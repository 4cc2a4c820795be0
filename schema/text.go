package schema

import (
	"errors"
	"strings"
)

// A collation is how a column of text compares, as far as it is not by bytes.
type collation struct {
	// name is its name in SQL; "" where the service may not use its schema.
	name string
	// loose tells that texts of different bytes may be equal: a collation that is not
	// deterministic, or citext, which folds case.
	loose  bool
	folded bool // citext
	// foldsBytes tells that lower() changes A to Z and nothing else; foldsASCII that it does
	// to texts that are ASCII.
	foldsBytes, foldsASCII bool
}

func stringOperand(v any) (string, error) {
	s, ok := v.(string)
	if !ok {
		return "", errors.New("want a string")
	}
	if strings.ContainsRune(s, 0) {
		return "", errors.New("PostgreSQL has no text with the character U+0000")
	}
	return s, nil
}

func same(text string) string { return text }

// textComparison is equality of bytes, as with every deterministic collation.
var textComparison = &comparison{
	parse: func(text string) (value, bool) { return value{s: text}, true },
	operand: func(v any) (value, error) {
		s, err := stringOperand(v)
		return value{s: s}, err
	},
	like:   same,
	prefix: same,
}

// bpcharComparison leaves padding out, as bpchareq does. LIKE sees the padding (bpcharlike), but
// a prefix does not: bpchar becomes text for starts_with.
var bpcharComparison = &comparison{
	parse: func(text string) (value, bool) { return value{s: strings.TrimRight(text, " ")}, true },
	operand: func(v any) (value, error) {
		s, err := stringOperand(v)
		return value{s: strings.TrimRight(s, " ")}, err
	},
	like:   same,
	prefix: func(text string) string { return strings.TrimRight(text, " ") },
}

// The operators of text, by what its collation allows.
const (
	stringFilter  = "StringFilter"
	looseFilter   = "LooseStringFilter"
	citextFilter  = "CitextFilter"
	textOperators = withEqual | withOrder | withLike | withPrefix
)

// collated is the type of one column: text compares by its collation.
func (t *columnType) collated(d *ColumnDef) *columnType {
	if t.elem != nil && t.elem.scalar != nil && t.elem.scalar.filter.name == stringFilter && !d.Deterministic {
		c := *t // equality of elements is not that of bytes
		c.filter, c.compare = presence, nil
		return &c
	}
	if t.scalar == nil || t.scalar.filter.name != stringFilter && t.scalar != citextScalar {
		return t
	}
	c, compare := *t, *t.compare
	c.compare = &compare
	compare.collation = &collation{
		name: d.Collation, loose: !d.Deterministic, foldsBytes: d.FoldsBytes, foldsASCII: d.FoldsASCII,
	}
	switch {
	case t.scalar == citextScalar:
		l := compare.collation
		l.loose, l.folded = true, true
		// It folds by the database's collation, whatever the column's.
		l.foldsBytes, l.foldsASCII = d.FoldsBytes && d.CollationDefault, d.FoldsASCII && d.CollationDefault
	case !d.Deterministic:
		// LIKE and starts_with raise an error with such collations (before version 18).
		c.filter = filterInput{name: looseFilter, operand: "String", ops: withEqual | withOrder}
		compare.like, compare.prefix = nil, nil
	case d.CollationC:
		compare.order = byString
	}
	return &c
}

// lowerASCII folds A to Z.
func lowerASCII(s string) string {
	for i := range len(s) {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; c >= 'A' && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// equal tells whether two values are; undecided where PostgreSQL has to say.
func (e *evaluation) equal(c *comparison, a, b value) truth {
	if a == b {
		return isTrue
	}
	if c.collation == nil || !c.collation.loose {
		return isFalse
	}
	l := c.collation
	if !l.folded {
		return e.ask(Fact{Op: FactOrder, Collation: l.name, Left: a.s, Right: b.s}, func(sign int) bool { return sign == 0 })
	}
	if l.foldsBytes || l.foldsASCII && isASCII(a.s) && isASCII(b.s) {
		return truthOf(lowerASCII(a.s) == lowerASCII(b.s))
	}
	// citext_eq compares bytes once case is folded, whatever the collation.
	return e.ask(Fact{Op: FactFolded, Collation: `pg_catalog."C"`, Left: a.s, Right: b.s}, func(sign int) bool { return sign == 0 })
}

// ordered tells whether the comparison of two values has a sign that holds.
func (e *evaluation) ordered(c *comparison, a, b value, holds func(sign int) bool) truth {
	if c.order != nil {
		return truthOf(holds(c.order(a, b)))
	}
	op := FactOrder
	if c.collation.folded {
		op = FactFolded
	}
	return e.ask(Fact{Op: op, Collation: c.collation.name, Left: a.s, Right: b.s}, holds)
}

// ilike matches without regard to case. Folding both sides and matching then is what ILIKE does
// (like.c); what lower() does beyond ASCII only PostgreSQL knows.
func (e *evaluation) ilike(c *condition, text string) truth {
	l := c.compare.collation
	if l.foldsBytes || l.foldsASCII && c.ascii && isASCII(text) {
		return truthOf(c.pattern.match(lowerASCII(text)))
	}
	return e.ask(Fact{Op: FactILike, Collation: l.name, Left: text, Right: c.operand.s}, func(n int) bool { return n == 1 })
}

func (e *evaluation) ask(f Fact, holds func(int) bool) truth {
	answer, ok := e.facts.answer(f)
	if !ok {
		e.open = true
		return undecided
	}
	return truthOf(holds(answer))
}
