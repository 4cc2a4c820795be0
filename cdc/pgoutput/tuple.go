package pgoutput

import "github.com/rowtide/rowtide/cdc"

// change reads an insert, update or delete.
func (d *Decoder) change(kind byte, r *reader) Message {
	rel := d.known(r)
	if rel == nil {
		return nil
	}
	m := &d.changed
	*m = Change{cdc.Event{Relation: rel}}
	image := r.byte()
	switch kind {
	case 'I':
		m.Op = cdc.Insert
	case 'U':
		m.Op = cdc.Update
		if image == 'K' || image == 'O' {
			m.Old = d.old(image, rel, r)
			image = r.byte()
		}
	case 'D':
		m.Op = cdc.Delete
		if image != 'K' && image != 'O' {
			r.failf("delete with image %q, want K or O", image)
			return nil
		}
		m.Old = d.old(image, rel, r)
		return m
	}
	if image != 'N' {
		r.failf("%s with image %q, want N", m.Op, image)
		return nil
	}
	m.New = d.tuple(rel, r)
	fill(m.New, m.Old)
	return m
}

// old reads the image before the change: whole ('O'), or the replica identity alone ('K').
// In the latter the wire says NULL of every other column, which is not so: nothing is known.
func (d *Decoder) old(image byte, rel *cdc.Relation, r *reader) cdc.Row {
	row := d.tuple(rel, r)
	if image == 'O' || row == nil {
		return row
	}
	for i := range row {
		if !rel.Columns[i].Identity {
			row[i] = cdc.AbsentValue()
		}
	}
	return row
}

// fill puts into the new image what the update left as it was and did not send again, where
// the old image has it: every column under full identity, else those of the identity.
func fill(row, before cdc.Row) {
	if len(row) != len(before) {
		return
	}
	for i := range row {
		if row[i].Kind() == cdc.Unchanged && before[i].Known() {
			row[i] = before[i]
		}
	}
}

// The kinds of a column in TupleData.
const (
	tupleNull      = 'n'
	tupleUnchanged = 'u'
	tupleText      = 't'
)

// tuple reads one image. It goes over the bytes twice, to check them and to find their end,
// and then to cut values out of one string that holds them all: an allocation for the tuple
// rather than for each value. On an error it is nil.
func (d *Decoder) tuple(rel *cdc.Relation, r *reader) cdc.Row {
	n := int(r.uint16())
	if n != len(rel.Columns) {
		r.failf("%d columns for relation %s with %d", n, rel, len(rel.Columns))
		return nil
	}
	start := r.pos
	if !skipTuple(n, r) {
		return nil
	}
	s := string(r.data[start:r.pos])
	row := d.row(n)
	at := 0
	for i := range row {
		kind := s[at]
		at++
		switch kind {
		case tupleText:
			size := int(uint32(s[at])<<24 | uint32(s[at+1])<<16 | uint32(s[at+2])<<8 | uint32(s[at+3]))
			at += 4
			row[i] = cdc.TextValue(s[at : at+size])
			at += size
		case tupleUnchanged:
			row[i] = cdc.UnchangedValue()
		}
	}
	return row
}

// rowValues is how many values rows are cut from at a time: some dozens of rows. What is left of a
// row that outlives the others keeps all of them, so they are not many.
const rowValues = 256

// row gives the memory of a row, all NULL.
func (d *Decoder) row(n int) cdc.Row {
	if n == 0 || n > rowValues/4 { // an image without columns is still one
		return make(cdc.Row, n)
	}
	if n > len(d.values) {
		d.values = make([]cdc.Value, rowValues)
	}
	row := d.values[:n:n]
	d.values = d.values[n:]
	return row
}

// skipTuple moves past n columns and tells whether they are whole. Binary values ('b') were
// never asked for, so they are as unknown as any other kind.
func skipTuple(n int, r *reader) bool {
	for range n {
		switch kind := r.byte(); kind {
		case tupleNull, tupleUnchanged:
		case tupleText:
			r.bytes(r.uint32())
		default:
			r.failf("unknown kind of column %q", kind)
		}
		if r.reason != "" {
			return false
		}
	}
	return r.reason == ""
}
