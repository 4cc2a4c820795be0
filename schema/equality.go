package schema

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"maps"
	"slices"

	"github.com/rowtide/rowtide/cdc"
)

// A KeySet is a condition that every image which a filter matches meets: its column has a value
// with one of these keys, as Table.AppendKey gives them. Without any the filter matches nothing.
type KeySet struct {
	Column int
	Keys   []string
}

// Equalities gives the conditions of equality that follow from the filter, at most one for each
// column: an index finds by them which filters an image may match. There may be none.
func (f *Filter) Equalities() []KeySet {
	var out []KeySet
	necessary := f.root.necessary()
	for _, column := range slices.Sorted(maps.Keys(necessary)) {
		s := KeySet{Column: column}
		for v := range necessary[column] {
			s.Keys = append(s.Keys, string(v.appendKey(nil)))
		}
		slices.Sort(s.Keys)
		out = append(out, s)
	}
	return out
}

// necessary gives for columns the values of which a condition needs one to be true.
func (c *condition) necessary() map[int]map[value]struct{} {
	switch c.op {
	case opAnd:
		out := map[int]map[value]struct{}{}
		for _, k := range c.kids {
			for column, values := range k.necessary() {
				if known, ok := out[column]; !ok || len(values) < len(known) {
					out[column] = values
				}
			}
		}
		return out
	case opOr:
		return c.either()
	case opEq, opIn:
		if c.asks() {
			return nil // what is equal is not told by the bytes
		}
		if c.op == opIn {
			return map[int]map[value]struct{}{c.column: c.set}
		}
		return map[int]map[value]struct{}{c.column: {c.operand: {}}}
	default:
		return nil
	}
}

// either is necessary of an OR: of the columns on which every part insists, all values.
func (c *condition) either() map[int]map[value]struct{} {
	var out map[int]map[value]struct{}
	for i, k := range c.kids {
		part := k.necessary()
		if i == 0 {
			out = make(map[int]map[value]struct{}, len(part))
			for column, values := range part {
				out[column] = maps.Clone(values)
			}
			continue
		}
		for column, values := range out {
			if more, ok := part[column]; ok {
				maps.Copy(values, more)
			} else {
				delete(out, column)
			}
		}
	}
	return out
}

func (v value) appendKey(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(v.i)) //nolint:gosec // all bits count
	return append(dst, v.s...)
}

// AppendKey appends what is equal for values of the column that an equality in a filter takes for
// equal. It is false where the image does not tell the value, or not in a form that its type has:
// then the filter itself has to be asked. For NULL, which equals nothing, it appends nothing.
func (t *Table) AppendKey(dst []byte, column int, v cdc.Value) ([]byte, bool) {
	if v.IsNull() {
		return dst, true
	}
	c := t.Columns[column]
	if !v.Known() || c.typ == nil || c.typ.compare == nil {
		return dst, false
	}
	have, ok := c.typ.compare.parse(v.Text())
	if !ok {
		return dst, false
	}
	return have.appendKey(dst), true
}

// Signature is equal for filters that were written alike: on one table these match the same.
func (f *Filter) Signature() string { return f.signature }

// signFilter is a hash of a where argument.
func signFilter(v any) string {
	text, err := json.Marshal(v) // sorts the keys of objects
	if err != nil {
		return "" // values of JSON can be written
	}
	sum := sha256.Sum256(text)
	return string(sum[:16])
}
