package rls

import (
	"sync"

	"github.com/rowtide/rowtide/authz"
)

// A bound is what of a predicate depends on a principal alone: its claims are read once, not for
// each image.
type bound struct {
	values []datum
	// refused tells that Postgres has to be asked, whatever the image.
	refused bool
}

// maxBounds bounds the memory of the bounds that are kept, in bytes. That of a claim or two takes
// some 250.
const maxBounds = 64 << 20

// bounds keeps those of principals who were judged, as long as there is room.
type bounds struct {
	mu   sync.Mutex
	kept map[boundKey]*bound
	size int
}

type boundKey struct {
	predicate *predicate
	principal authz.Key
}

// of gives the bound of a predicate and a principal.
func (b *bounds) of(p *predicate, principal *authz.Principal) *bound {
	if len(p.memo.ofPrincipal) == 0 {
		return &bound{}
	}
	key := boundKey{p, principal.Key()}
	b.mu.Lock()
	out := b.kept[key]
	b.mu.Unlock()
	if out != nil {
		return out
	}
	out = p.bind(principal)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.kept == nil {
		b.kept = map[boundKey]*bound{}
	}
	if b.kept[key] == nil {
		b.size += out.bytes()
	}
	b.kept[key] = out
	for other, o := range b.kept { // in no order: whom it meets is read again when he is judged
		if b.size <= maxBounds {
			break
		}
		delete(b.kept, other)
		b.size -= o.bytes()
	}
	return out
}

// forget drops all.
func (b *bounds) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.kept)
	b.size = 0
}

func (p *predicate) bind(principal *authz.Principal) *bound {
	e := evaluation{role: principal.Role, settings: principal.Settings, ofPrincipal: make([]datum, len(p.memo.ofPrincipal))}
	evaluate(&e, p.memo.ofPrincipal, e.ofPrincipal)
	if e.refused {
		return &bound{refused: true}
	}
	return &bound{values: e.ofPrincipal}
}

// bytes is about the memory that is held.
func (b *bound) bytes() int {
	n := 128
	for i := range b.values {
		n += b.values[i].bytes()
	}
	return n
}

func (d *datum) bytes() int {
	n := 64 + len(d.s)
	for i := range d.list {
		n += d.list[i].bytes()
	}
	return n + d.doc.bytes()
}

func (d *document) bytes() int {
	if d == nil {
		return 0
	}
	n := 80 + len(d.text)
	for _, i := range d.items {
		n += i.bytes()
	}
	for k, f := range d.fields {
		n += 24 + len(k) + f.bytes()
	}
	return n
}
