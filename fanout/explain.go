package fanout

import (
	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// An IndexTerm is a condition by which the index finds a subscription: a change is looked at for
// it only where the column of one of its images has one of some values.
type IndexTerm struct {
	// Column is an index of Table.Columns.
	Column int
	// Where tells that the condition is of the where argument, and not of policies.
	Where bool
	// Values is how many values there are.
	Values int
}

// ExplainIndex tells by what the index would find a subscription; by nothing, it is looked at for
// every change of the table. It is never looked at where no image could be visible to it.
func ExplainIndex(op *schema.Operation, p *authz.Principal, j Judge) (terms []IndexTerm, never bool) {
	narrower, _ := j.(Narrower)
	eq, places := chosen(equalities(view{op: op, principal: p}, narrower))
	for _, e := range eq {
		terms = append(terms, IndexTerm{Column: e.column, Where: e.value, Values: len(e.keys)})
	}
	return terms, places == 0
}
