package fold

import (
	"cmp"
	"encoding/binary"

	"github.com/rowtide/rowtide/cdc"
)

// entryBytes is what an entry takes besides its rows and its key: the struct, the map's slot and
// the string's header.
const entryBytes = 160

// spareEntries is how many entries a table keeps for the next transaction.
const spareEntries = 512

// A table is what a transaction has done so far to one relation.
type table struct {
	rel *cdc.Relation
	// key are the columns to fold by; nil where they are unknown.
	key []int
	// truncated tells that the table was emptied: no row from before is left.
	truncated bool
	// gap is the reason why the changes are not carried, or "".
	gap string
	// index is the table's place in the transaction, by which what is on disk names it.
	index int
	disk  onDisk

	entries []entry
	// keys has the entries by key; free are those of no key.
	keys map[string]int32
	free []int32
	held int // bytes

	buf []byte // of the key looked up last
}

// An entry is what a transaction has done so far to one key, or one event of a table whose key
// is unknown.
type entry struct {
	// op is 0 for a key and for an entry that is free; else the operation of a passing event.
	op cdc.Op
	// existed tells that the row was there before; old is nil then if its image is unknown.
	existed bool
	used    bool
	old     cdc.Row
	// new is the present image; nil if the row is not there.
	new  cdc.Row
	last uint64 // time of the last change
}

// comes orders the two changes of a changed key.
func (e *entry) comes() int {
	if e.new != nil {
		return 1
	}
	return 0
}

// event gives the event, but for its Seq.
func (e *entry) event(rel *cdc.Relation) cdc.Event {
	ev := cdc.Event{Op: e.op, Relation: rel, Old: e.old, New: e.new}
	switch {
	case e.op != 0:
	case !e.existed:
		ev.Op = cdc.Insert
	case e.new == nil:
		ev.Op = cdc.Delete
	default:
		ev.Op = cdc.Update
	}
	return ev
}

func (e *entry) rows() int { return e.old.Size() + e.new.Size() }

// none tells that the transaction has done nothing to the key that others could see.
func (e *entry) none() bool {
	if e.op != 0 {
		return false
	}
	if !e.existed {
		return e.new == nil
	}
	return e.old != nil && e.new != nil && e.old.Equal(e.new)
}

// add takes a change and gives how many bytes more are held now.
func (t *table) add(ev *cdc.Event, now uint64) int {
	before := t.held
	if t.key == nil {
		t.put(entry{op: ev.Op, old: ev.Old, new: ev.New, last: now})
		return t.held - before
	}
	ok := true
	switch ev.Op {
	case cdc.Insert:
		ok = t.appear(ev.New, now)
	case cdc.Update:
		ok = t.update(ev.Old, ev.New, now)
	case cdc.Delete:
		_, ok = t.vanish(ev.Old, now)
	case cdc.Truncate, cdc.Gap: // the Folder's
	}
	if !ok {
		t.giveUp(cmp.Or(t.disk.doubt, reasonUndecodable))
	}
	return t.held - before
}

// appear makes a row come into being. It is false where that cannot be.
func (t *table) appear(row cdc.Row, now uint64) bool {
	e, fresh, ok := t.find(row)
	if !ok || (!fresh && e.new != nil) {
		return false
	}
	t.set(e, row, now)
	return true
}

// vanish makes a row go and gives the image that it had, as well as it is known. It is false
// where that cannot be.
func (t *table) vanish(old cdc.Row, now uint64) (cdc.Row, bool) {
	e, fresh, ok := t.find(old)
	if !ok {
		return nil, false
	}
	if fresh {
		if t.empty() {
			return nil, false
		}
		t.remember(e, old)
		t.set(e, nil, now)
		return old, true
	}
	if e.new == nil || !compatible(e.new, old) {
		return nil, false
	}
	was := e.new
	if !e.existed {
		t.release(e, now)
		return was, true
	}
	if e.old == nil {
		// The image before the transaction is unknown, and this one was not it.
		t.remember(e, t.keyOnly(old))
	}
	t.set(e, nil, now)
	return was, true
}

// update changes a row. Old is nil where the stream did not send it, which says that the key is
// the same.
func (t *table) update(old, row cdc.Row, now uint64) bool {
	if old != nil && !t.sameKey(old, row) {
		was, ok := t.vanish(old, now)
		row = fill(fill(row, was), old)
		return ok && t.knows(row) && t.appear(row, now)
	}
	e, fresh, ok := t.find(row)
	if !ok {
		// An out-of-line key that did not change.
		if old == nil {
			return false
		}
		row = fill(row, old)
		if e, fresh, ok = t.find(row); !ok {
			return false
		}
	}
	if fresh {
		if t.empty() {
			return false
		}
		t.remember(e, old)
		t.set(e, fill(row, old), now)
		return true
	}
	if e.new == nil || !compatible(e.new, old) {
		return false
	}
	t.set(e, fill(fill(row, e.new), old), now)
	return true
}

// find gives the entry of a row's key, a fresh one if the transaction has not met it. It is
// false if the row does not tell its key. The entry is valid until the next call.
func (t *table) find(row cdc.Row) (e *entry, fresh, ok bool) {
	if !t.encode(row) {
		return nil, false, false
	}
	if i, met := t.keys[string(t.buf)]; met {
		return &t.entries[i], false, true
	}
	i := t.put(entry{})
	t.keys[string(t.buf)] = i
	t.held += len(t.buf)
	return &t.entries[i], true, true
}

// encode writes a row's key to buf.
func (t *table) encode(row cdc.Row) bool {
	t.buf = t.buf[:0]
	if len(row) != len(t.rel.Columns) {
		return false
	}
	for _, i := range t.key {
		v := row[i]
		if !v.Known() {
			return false
		}
		if v.IsNull() {
			t.buf = append(t.buf, 0)
			continue
		}
		t.buf = binary.AppendUvarint(t.buf, uint64(len(v.Text()))+1)
		t.buf = append(t.buf, v.Text()...)
	}
	return true
}

func (t *table) put(e entry) int32 {
	e.used = true
	t.held += entryBytes + e.rows()
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		t.entries[i] = e
		return i
	}
	t.entries = append(t.entries, e)
	return int32(len(t.entries) - 1)
}

// remember notes that the row was there before the transaction.
func (t *table) remember(e *entry, old cdc.Row) {
	e.existed = true
	e.old = old
	t.held += old.Size()
}

// set gives the row its present image.
func (t *table) set(e *entry, row cdc.Row, now uint64) {
	t.held += row.Size() - e.new.Size()
	e.new, e.last = row, now
}

// empty tells that a key which memory does not have is not there.
func (t *table) empty() bool { return t.truncated && !t.disk.used }

// release forgets the key found last: what came into being in the transaction went in it. Where
// the disk may have the key it only notes that the row went.
func (t *table) release(e *entry, now uint64) {
	if t.disk.used {
		t.set(e, nil, now)
		return
	}
	i := t.keys[string(t.buf)]
	delete(t.keys, string(t.buf))
	t.held -= entryBytes + len(t.buf) + e.rows()
	*e = entry{}
	t.free = append(t.free, i)
}

// giveUp drops the changes for a Gap and gives how many bytes were held.
func (t *table) giveUp(reason string) int {
	t.gap = reason
	return t.drop()
}

// drop forgets the changes, those on disk too, and gives how many bytes were held.
func (t *table) drop() int {
	t.disk.forget()
	return t.unload()
}

// unload forgets what is in memory and gives how many bytes were held.
func (t *table) unload() int {
	n := t.held
	t.held = 0
	if len(t.entries) > spareEntries {
		t.entries, t.free, t.keys = nil, nil, make(map[string]int32)
		return n
	}
	clear(t.entries)
	clear(t.keys)
	t.entries, t.free = t.entries[:0], t.free[:0]
	return n
}

func (t *table) reset() {
	t.drop()
	t.rel, t.key, t.truncated, t.gap, t.disk = nil, nil, false, "", onDisk{}
}

// keyOnly gives a row with nothing but its key.
func (t *table) keyOnly(row cdc.Row) cdc.Row {
	out := make(cdc.Row, len(row))
	for i := range out {
		out[i] = cdc.AbsentValue()
	}
	for _, i := range t.key {
		out[i] = row[i]
	}
	return out
}

// sameKey tells whether two images have the same key. An unchanged out-of-line value is the same.
func (t *table) sameKey(a, b cdc.Row) bool {
	if len(a) != len(b) {
		return false
	}
	for _, i := range t.key {
		if a[i] != b[i] && b[i].Kind() != cdc.Unchanged {
			return false
		}
	}
	return true
}

// compatible tells whether two images can be of one row at one time. An image says nothing of
// the columns that it does not know, nor does one that is missing.
func compatible(a, b cdc.Row) bool {
	for i := range b {
		if i < len(a) && a[i] != b[i] && a[i].Known() && b[i].Known() {
			return false
		}
	}
	return true
}

// fill gives the row with its unchanged out-of-line values taken from an older image, as far as
// that one knows them. The row itself is not written to.
func fill(row, older cdc.Row) cdc.Row {
	var out cdc.Row
	for i := range row {
		if row[i].Kind() != cdc.Unchanged || i >= len(older) || !older[i].Known() {
			continue
		}
		if out == nil {
			out = append(cdc.Row(nil), row...)
		}
		out[i] = older[i]
	}
	if out == nil {
		return row
	}
	return out
}
