package schema

// Options are the server's part of a Catalog.
type Options struct {
	// ExposePositions adds xid and commitLsn to ChangeTransaction.
	ExposePositions bool
	// Introspection allows __schema and __type.
	Introspection bool
	Server        ServerInfo
	// Limits bound what a client may ask.
	Limits Limits
	// Previous is a catalog whose work is used again for the roles whose schema is the same.
	// Defaults to none.
	Previous *Catalog
}

// ServerInfo is the GraphQL type of that name, less what the role gives.
type ServerInfo struct{ Version string }

// Limits bound one request. A request over a limit is LIMIT_EXCEEDED, before it costs anything.
type Limits struct {
	// DocumentBytes is the length of the document. Defaults to 65,536.
	DocumentBytes int
	// VariableBytes is the length of the variables. Defaults to 65,536.
	VariableBytes int
	// Tokens is the number of tokens of the document, comments included. Defaults to 2,000.
	Tokens int
	// Depth is how deep braces, brackets and parentheses may nest, in the document as
	// written, with its fragments expanded, and in the variables. Defaults to 20.
	Depth int
	// Fields is the number of fields with all fragments expanded. Defaults to 2,000.
	Fields int
	// Repeats is how often one response key may stand in a document: merging fields costs
	// its square. Defaults to 64.
	Repeats int
	// Directives is the number of directives in a document. Defaults to 100.
	Directives int
	// Operations is the number of operations in a document. Defaults to 10.
	Operations int
	// NameBytes is the length of a name. Defaults to 128.
	NameBytes int
	// ListItems is the length of a list in a filter. Defaults to 1,000.
	ListItems int
	// Conditions is the number of operators in a filter: each change is held against them.
	// Defaults to 200.
	Conditions int
	// PatternBytes is the length of a like pattern. Defaults to 1,000.
	PatternBytes int
}

func (l Limits) withDefaults() Limits {
	set := func(n *int, to int) {
		if *n <= 0 {
			*n = to
		}
	}
	set(&l.DocumentBytes, 64<<10)
	set(&l.VariableBytes, 64<<10)
	set(&l.Tokens, 2000)
	set(&l.Depth, 20)
	set(&l.Fields, 2000)
	set(&l.Repeats, 64)
	set(&l.Directives, 100)
	set(&l.Operations, 10)
	set(&l.NameBytes, 128)
	set(&l.ListItems, 1000)
	set(&l.Conditions, 200)
	set(&l.PatternBytes, 1000)
	return l
}
