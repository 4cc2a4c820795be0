package rls

import (
	"encoding/binary"

	"github.com/rowtide/rowtide/cdc"
)

// appendRecord writes an image as the text of a composite value, as record_in reads it: NULL is
// nothing at all, every other value stands in quotes. Dropped columns have no place in it.
// What the image does not know must be handled before: it would become NULL.
func appendRecord(dst []byte, image cdc.Row) []byte {
	dst = append(dst, '(')
	for i, v := range image {
		if i > 0 {
			dst = append(dst, ',')
		}
		if v.Kind() == cdc.Text {
			dst = appendQuoted(dst, v.Text())
		}
	}
	return append(dst, ')')
}

// appendQuoted writes a value in double quotes. The quote and the backslash stand twice; both
// record_in and array_in take that for one of the latter, only record_in for one of the former.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, s[i])
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}

// appendElement writes an array of one element as array_in reads it, to have the element read
// by its type's input function: a cast of text would truncate, or be another function (R19).
func appendElement(dst []byte, s string) []byte {
	dst = append(dst, '{', '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"', '}')
}

const textOID = 25

// textArray is the binary form of a text[] (array_recv); nil elements are NULL.
func textArray(elements [][]byte) []byte {
	size := 20
	hasNull := uint32(0)
	for _, e := range elements {
		size += 4 + len(e)
		if e == nil {
			hasNull = 1
		}
	}
	b := make([]byte, 0, size)
	for _, n := range []uint32{1, hasNull, textOID, uint32(len(elements)), 1} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	for _, e := range elements {
		if e == nil {
			b = binary.BigEndian.AppendUint32(b, 0xffffffff)
			continue
		}
		b = binary.BigEndian.AppendUint32(b, uint32(len(e)))
		b = append(b, e...)
	}
	return b
}
