package fold

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rowtide/rowtide/cdc"
)

// A record is an entry on disk: of which table, in which of its descriptions, of which key.
type record struct {
	table   int
	epoch   uint32
	version int
	key     []byte
	entry   entry
}

// On disk a record is its length and its check, four bytes each, and then its fields. A value is
// a number: one of these, or the length of its text and valueText.
const (
	valueNull = iota
	valueUnchanged
	valueAbsent
	valueSame // as in the old image
	valueText
)

const recordHeader = 8

// The fields that may be missing or are but a bit.
const (
	hasExisted = 1 << iota
	hasOld
	hasNew
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// append appends the record in its form on disk.
func (r *record) append(b []byte) []byte {
	from := len(b)
	b = append(b, make([]byte, recordHeader)...)
	b = binary.AppendUvarint(b, uint64(r.table))
	b = binary.AppendUvarint(b, uint64(r.epoch))
	b = binary.AppendUvarint(b, uint64(r.version))
	e := &r.entry
	var has byte
	if e.existed {
		has |= hasExisted
	}
	if e.old != nil {
		has |= hasOld
	}
	if e.new != nil {
		has |= hasNew
	}
	b = append(b, byte(e.op), has)
	b = binary.AppendUvarint(b, e.last)
	b = binary.AppendUvarint(b, uint64(len(r.key)))
	b = append(b, r.key...)
	b = appendRow(b, e.old, nil)
	b = appendRow(b, e.new, e.old)
	body := b[from+recordHeader:]
	binary.LittleEndian.PutUint32(b[from:], uint32(len(body))) //nolint:gosec // PostgreSQL sends messages below 1 GB
	binary.LittleEndian.PutUint32(b[from+4:], crc32.Checksum(body, castagnoli))
	return b
}

// appendRow writes what is not as in older.
func appendRow(b []byte, row, older cdc.Row) []byte {
	if row == nil {
		return b
	}
	b = binary.AppendUvarint(b, uint64(len(row)))
	for i, v := range row {
		switch {
		case i < len(older) && v == older[i]:
			b = append(b, valueSame)
		case v.Kind() == cdc.Null:
			b = append(b, valueNull)
		case v.Kind() == cdc.Unchanged:
			b = append(b, valueUnchanged)
		case v.Kind() == cdc.Absent:
			b = append(b, valueAbsent)
		default:
			b = binary.AppendUvarint(b, uint64(len(v.Text()))+valueText)
			b = append(b, v.Text()...)
		}
	}
	return b
}

// errCorrupt says that a file does not have what was written to it.
var errCorrupt = errors.New("spill file is corrupt")

// read reads a record. It is io.EOF where there is none left.
func (r *record) read(from *bufio.Reader, buf *[]byte) error {
	var header [recordHeader]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	n := int(binary.LittleEndian.Uint32(header[:]))
	if n > maxRecord {
		return fmt.Errorf("%w: a record of %d bytes", errCorrupt, n)
	}
	if cap(*buf) < n {
		*buf = make([]byte, n)
	}
	body := (*buf)[:n]
	if _, err := io.ReadFull(from, body); err != nil {
		return fmt.Errorf("%w: %w", errCorrupt, err)
	}
	if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(header[4:]) {
		return fmt.Errorf("%w: a record does not match its check", errCorrupt)
	}
	// One string for all texts of the record, as they are let go together.
	f := fields{text: string(body)}
	*r = f.record(r.key[:0])
	if f.bad || len(f.text) > 0 {
		return fmt.Errorf("%w: a record cannot be read", errCorrupt)
	}
	return nil
}

// maxRecord bounds what a corrupt length can cost: two images of PostgreSQL's largest message
// (MaxAllocSize), and the rest.
const maxRecord = 2<<30 + 1<<20

// fields are what is left to read of a record; bad tells that it made no sense.
type fields struct {
	text string
	bad  bool
}

func (f *fields) record(key []byte) record {
	r := record{table: int(f.number()), epoch: uint32(f.number()), version: int(f.number())} //nolint:gosec // as they were written
	r.entry.op = cdc.Op(f.byte())
	has := f.byte()
	r.entry.used, r.entry.existed = true, has&hasExisted != 0
	r.entry.last = f.number()
	r.key = append(key, f.bytes(f.number())...)
	if has&hasOld != 0 {
		r.entry.old = f.row(nil)
	}
	if has&hasNew != 0 {
		r.entry.new = f.row(r.entry.old)
	}
	return r
}

func (f *fields) row(older cdc.Row) cdc.Row {
	n := f.number()
	if n > uint64(len(f.text)) { // a value has a byte at least
		f.bad = true
		return nil
	}
	row := make(cdc.Row, n)
	for i := range row {
		switch v := f.number(); {
		case v == valueNull:
		case v == valueUnchanged:
			row[i] = cdc.UnchangedValue()
		case v == valueAbsent:
			row[i] = cdc.AbsentValue()
		case v == valueSame && i < len(older):
			row[i] = older[i]
		case v >= valueText:
			row[i] = cdc.TextValue(f.bytes(v - valueText))
		default:
			f.bad = true
		}
	}
	return row
}

func (f *fields) number() (n uint64) {
	for shift := 0; shift < 64; shift += 7 {
		b := f.byte()
		n |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return n
		}
	}
	f.bad = true
	return 0
}

func (f *fields) byte() byte {
	b := f.bytes(1)
	if b == "" {
		return 0
	}
	return b[0]
}

func (f *fields) bytes(n uint64) string {
	if n > uint64(len(f.text)) {
		f.bad = true
		f.text = ""
		return ""
	}
	b := f.text[:n]
	f.text = f.text[n:]
	return b
}
