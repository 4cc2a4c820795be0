package fanout

import (
	"sync"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// bindings remember how the relations of the stream fit the tables of the catalog, and that
// they do not.
type bindings struct {
	mu   sync.Mutex
	seen map[binding]bound
}

type binding struct {
	table *schema.Table
	rel   *cdc.Relation
}

type bound struct {
	b   *schema.Binding
	err error
}

// maxBindings bounds the memory: a bus outside the process may give each batch relations of
// its own.
const maxBindings = 4096

func (b *bindings) get(t *schema.Table, rel *cdc.Relation) (*schema.Binding, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	key := binding{t, rel}
	if found, ok := b.seen[key]; ok {
		return found.b, found.err
	}
	if b.seen == nil || len(b.seen) >= maxBindings {
		b.seen = map[binding]bound{}
	}
	var made bound
	made.b, made.err = t.Bind(rel)
	b.seen[key] = made
	return made.b, made.err
}

// forget lets go of the tables of an old catalog.
func (b *bindings) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = nil
}
