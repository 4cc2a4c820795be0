package cdc

// ValueKind tells what an image says of a column.
type ValueKind uint8

const (
	// Null is SQL NULL.
	Null ValueKind = iota
	// Text is a value in the text of the type's output function.
	Text
	// Unchanged is an out-of-line value that the update did not touch and that the stream
	// did not repeat. It is neither NULL nor empty.
	Unchanged
	// Absent is a column of which the image says nothing: all but the key in a key-only old
	// image, generated columns before PostgreSQL 18.
	Absent
)

// A Value is one column of a row image. The zero Value is SQL NULL.
type Value struct {
	text string
	kind ValueKind
}

// TextValue is a value in its type's output text.
func TextValue(text string) Value { return Value{text: text, kind: Text} }

// UnchangedValue is an unchanged out-of-line value.
func UnchangedValue() Value { return Value{kind: Unchanged} }

// AbsentValue is a column of which the image says nothing.
func AbsentValue() Value { return Value{kind: Absent} }

// Kind tells what the value is.
func (v Value) Kind() ValueKind { return v.kind }

// IsNull tells SQL NULL.
func (v Value) IsNull() bool { return v.kind == Null }

// Known tells that the image says what the value is: NULL or a text.
func (v Value) Known() bool { return v.kind <= Text }

// Text is the text of the value; "" for every kind but Text.
func (v Value) Text() string { return v.text }

// A Row is an image: one Value for each column of its Relation.
type Row []Value

// Size is the memory that the row holds, in bytes.
func (r Row) Size() int {
	n := 0
	for i := range r {
		n += 24 + len(r[i].text)
	}
	return n
}

// Equal tells that both images say the same of every column.
func (r Row) Equal(o Row) bool {
	if len(r) != len(o) {
		return false
	}
	for i := range r {
		if r[i] != o[i] {
			return false
		}
	}
	return true
}
