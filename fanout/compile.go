package fanout

import (
	"sync"
	"unique"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// A compiler makes views of requests. It remembers some, since most clients of an application send
// the same few documents: their operations, and the texts of the requests, are shared.
type compiler struct {
	mu sync.Mutex
	// known is of this catalog alone.
	catalog *schema.Catalog
	known   map[document]compiled
	bytes   int
}

// A compiled is a view, of whatever principal, and the request that it was made of.
type compiled struct {
	view    view
	request schema.Request
}

// A document is what an operation follows from, for a role of a catalog.
type document struct{ role, query, name, variables string }

// maxDocuments bounds the bytes of what is remembered: when there is more, all of it goes.
const maxDocuments = 1 << 20

// compile makes the view of a request, and gives the request in texts that are shared.
func (k *compiler) compile(c *schema.Catalog, p *authz.Principal, req schema.Request) (view, schema.Request, error) {
	doc := document{p.Role, req.Query, req.OperationName, string(req.Variables)}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.catalog != c {
		k.catalog, k.known, k.bytes = c, map[document]compiled{}, 0
	}
	if known, ok := k.known[doc]; ok {
		known.view.principal = p
		return known.view, known.request, nil
	}
	k.mu.Unlock()
	v, err := compile(c, p, req)
	k.mu.Lock()
	if err != nil || v.op.Result != nil || k.catalog != c {
		return v, req, err
	}
	if k.bytes += len(doc.query) + len(doc.variables); k.bytes > maxDocuments {
		k.known, k.bytes = map[document]compiled{}, 0
	}
	k.known[doc] = compiled{v, req}
	return v, req, nil
}

// compile makes the view of a request. A query's has only its operation.
func compile(c *schema.Catalog, p *authz.Principal, req schema.Request) (view, error) {
	role := c.Role(p.Role)
	if role == nil {
		return view{}, forbidden()
	}
	op, err := role.Compile(req)
	if err != nil {
		return view{}, err
	}
	v := view{op: op, principal: p}
	if op.Result == nil {
		v.signature = unique.Make(op.Selection.Signature())
		v.usesLast = op.Selection.UsesLast()
		v.readable = role.Readable(op.Table)
	}
	return v, nil
}
