package schema

// operators is the set of operators that a type has, beside isNull.
type operators uint8

const (
	withEqual  operators = 1 << iota // eq ne in notIn
	withOrder                        // lt lte gt gte
	withLike                         // like ilike
	withPrefix                       // startsWith
	withContains
)

// A filterInput is an input type with the operators of a column.
type filterInput struct {
	name string
	// operand is the type of the operands, and contains that of the operator contains.
	operand, contains string
	ops               operators
}

func (f *filterInput) has(op operators) bool { return f.ops&op != 0 }

// presence is the input type of columns whose only operator is isNull.
var presence = filterInput{name: "PresenceFilter"}

// equality, order and such make the input type of a scalar.
func inputOf(scalar string, ops operators) filterInput {
	return filterInput{name: scalar + "Filter", operand: scalar, contains: scalar, ops: ops}
}

// listInput makes the input type of lists of a scalar or enum.
func listInput(of string) filterInput {
	return filterInput{name: of + "ListFilter", operand: "[" + of + "]", contains: "[" + of + "!]", ops: withEqual | withContains}
}

// rangeInput makes the input type of ranges, and multiranges, over a scalar.
func rangeInput(s *scalar) filterInput {
	return filterInput{name: rangeName(s) + "Filter", contains: s.name, ops: withContains}
}

func (w *sdlWriter) operatorInput(in filterInput) {
	w.line()
	w.line("input ", in.name, " {")
	if in.has(withEqual) {
		w.line("  eq: ", in.operand)
		w.line("  ne: ", in.operand)
		w.line("  in: [", in.operand, "!]")
		w.line("  notIn: [", in.operand, "!]")
	}
	if in.has(withOrder) {
		for _, op := range []string{"lt", "lte", "gt", "gte"} {
			w.line("  ", op, ": ", in.operand)
		}
	}
	if in.has(withLike) {
		w.line(`  """As SQL: % is any text, _ any character, \ takes the next one literally."""`)
		w.line("  like: ", in.operand)
		w.line(`  """The same without regard to case."""`)
		w.line("  ilike: ", in.operand)
	}
	if in.has(withPrefix) {
		w.line("  startsWith: ", in.operand)
	}
	if in.has(withContains) {
		w.line(`  """As @> in SQL."""`)
		w.line("  contains: ", in.contains)
	}
	if in.ops == 0 {
		w.line(`  """Whether the value itself is NULL. A composite whose fields are all NULL is none."""`)
	}
	w.line("  isNull: Boolean")
	w.line("}")
}
