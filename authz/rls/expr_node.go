package rls

// A node is an expression as it is written.
type node struct {
	kind nodeKind
	// text is a literal's value, an operator, a type's name or a test's words.
	text string
	// path is the name of a column or function. A part that stood in no quotes is folded.
	path []string
	kids []*node
	// otherwise is the ELSE of a CASE, whose kids are conditions and values by turns.
	otherwise *node
	// query is the sub-select of those that have one.
	query *query
}

type nodeKind uint8

const (
	nodeString nodeKind = iota + 1
	nodeNumber
	nodeNull
	nodeBool
	nodeUser
	nodeParam
	nodeName
	nodeCall
	nodeCast
	nodeOp
	nodeAnd
	nodeOr
	nodeNot
	nodeIs       // text: NULL, TRUE, FALSE, UNKNOWN, DISTINCT; NOT around it is a nodeNot
	nodeCase     // kids: conditions and values
	nodeCaseOf   // kids: the operand, then values and results
	nodeCoalesce // kids
	nodeNullIf   // two kids
	nodeArray    // kids are the elements
	nodeAny      // op over kids: an operand and an array
	nodeAll
	nodeRow        // path.*, as the argument of a function
	nodeTuple      // kids
	nodeExists     // query
	nodeScalar     // query, of one row at most
	nodeInQuery    // one kid, query
	nodeArrayQuery // query
)
