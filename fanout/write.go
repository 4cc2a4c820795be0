package fanout

import (
	"bytes"
	"unique"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A hit is a change that a subscription gets, not yet written.
type hit struct {
	view     view
	kind     schema.ChangeKind
	old, new cdc.Row
	nth      int
	pos      cdc.Position
}

// A writer writes the frames of one batch, each once for all subscriptions that get the same
// bytes, and each cursor once.
type writer struct {
	cursors *CursorCodec
	batch   *cdc.Batch
	// tx are the transaction as seen from a frame that is not its last and from one that may
	// be.
	tx      [2]*schema.ChangeTransaction
	cursor  map[uint32]string
	written map[writing][]byte
	scratch []byte
}

// writing is what the bytes of a frame depend on within a transaction.
type writing struct {
	signature unique.Handle[string]
	seq       uint32
	nth       int
	kind      schema.ChangeKind
	last      bool
}

func newWriter(c *CursorCodec) *writer {
	return &writer{cursors: c, cursor: map[uint32]string{}, written: map[writing][]byte{}}
}

// turn makes the writer that of another batch.
func (w *writer) turn(b *cdc.Batch) {
	w.batch, w.tx = b, [2]*schema.ChangeTransaction{}
	clear(w.cursor)
	clear(w.written)
}

// write is an error where an image does not hold what the selection asks for.
func (w *writer) write(h *hit, last bool) ([]byte, error) {
	key := writing{h.view.signature, h.pos.Seq, h.nth, h.kind, last}
	if b, ok := w.written[key]; ok {
		return b, nil
	}
	c := change(h.kind, h.old, h.new)
	c.Cursor = w.cursorOf(h.pos)
	c.Transaction = w.transaction(last)
	var err error
	if w.scratch, err = h.view.op.Selection.Append(w.scratch[:0], &c); err != nil {
		return nil, err
	}
	b := bytes.Clone(w.scratch)
	w.written[key] = b
	return b, nil
}

func (w *writer) cursorOf(p cdc.Position) string {
	c, ok := w.cursor[p.Seq]
	if !ok {
		c = w.cursors.Encode(p)
		w.cursor[p.Seq] = c
	}
	return c
}

func (w *writer) transaction(last bool) *schema.ChangeTransaction {
	i := 0
	if last {
		i = 1
	}
	if w.tx[i] == nil {
		w.tx[i] = &schema.ChangeTransaction{
			ID: w.cursors.TransactionID(w.batch.Commit), CommitTime: w.batch.Time, Last: last,
			XID: w.batch.XID, CommitLSN: w.batch.Commit,
		}
	}
	return w.tx[i]
}

// write writes a frame that no other subscription gets.
func (v view) write(c schema.Change) ([]byte, error) {
	return v.op.Selection.Append(nil, &c)
}
