package schema

// A Fact is a comparison of two texts that only PostgreSQL can make: how a collation orders them,
// or folds their case, depends on the library and the version that the server was built with.
type Fact struct {
	Op FactOp
	// Collation is the name in SQL of the collation to compare by.
	Collation   string
	Left, Right string
}

// A FactOp is what is to be compared.
type FactOp uint8

// The comparisons.
const (
	// FactOrder asks for the sign of Left compared with Right: -1, 0 or 1.
	FactOrder FactOp = iota + 1
	// FactFolded asks for the same of both in lower case by the database's own collation, as
	// citext compares.
	FactFolded
	// FactILike asks whether Left is like the pattern Right without regard to case: 1 or 0.
	FactILike
)

// Facts are what Filters had to have answered by PostgreSQL, and the answers so far. The zero
// value knows nothing. It is for one goroutine.
type Facts struct {
	known  map[Fact]int
	wanted map[Fact]struct{}
}

// Wanted takes the facts that filters asked for and that are not known.
func (f *Facts) Wanted() []Fact {
	if len(f.wanted) == 0 {
		return nil
	}
	out := make([]Fact, 0, len(f.wanted))
	for w := range f.wanted {
		out = append(out, w)
	}
	clear(f.wanted)
	return out
}

// Pending is how many facts are wanted.
func (f *Facts) Pending() int { return len(f.wanted) }

// Learn takes the answers to facts, in their order.
func (f *Facts) Learn(facts []Fact, answers []int) {
	if f.known == nil {
		f.known = make(map[Fact]int, len(facts))
	}
	for i, a := range answers {
		f.known[facts[i]] = a
	}
}

// answer is false where the fact is not known; then it is wanted.
func (f *Facts) answer(x Fact) (int, bool) {
	if f == nil {
		return 0, false
	}
	if a, ok := f.known[x]; ok {
		return a, true
	}
	if f.wanted == nil {
		f.wanted = map[Fact]struct{}{}
	}
	f.wanted[x] = struct{}{}
	return 0, false
}
