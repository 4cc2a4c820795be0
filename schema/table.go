package schema

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/rowtide/rowtide/cdc"
)

// A Table is a served table.
type Table struct {
	Def   *TableDef
	Field string // of Subscription
	Type  string
	// Columns are all live columns in attribute order, omitted and unreadable ones too:
	// policies need them. The images of a table are in this order.
	Columns []*Column
	// Key are the indexes in Columns of the key.
	Key []int
	// Kinds are the kinds that the table can give.
	Kinds KindSet

	named []namedType // the enums and composites that its columns show
}

// A namedType is a type that has a name in the API.
type namedType struct {
	oid  uint32
	name string
}

// A Column is a column of a served table.
type Column struct {
	Def  *ColumnDef
	Name string // GraphQL name; "" where it is omitted

	typ *columnType // nil where it is omitted
	// nonNull tells that the GraphQL type is non-null.
	nonNull bool
}

// Bind joins the columns of a relation of the stream to those of the table, by name. It is an
// error where they differ: the catalog is older or newer than the stream. Both are in attribute
// order, so one that differs means that columns took the names of others: policies and filters
// that were read before would read the wrong ones.
func (t *Table) Bind(rel *cdc.Relation) (*Binding, error) {
	if rel.OID != t.Def.OID {
		return nil, fmt.Errorf("bind relation %s: it has OID %d, table %s.%s has %d",
			rel, rel.OID, t.Def.Schema, t.Def.Name, t.Def.OID)
	}
	b := &Binding{from: make([]int, len(t.Columns))}
	b.same = len(rel.Columns) == len(t.Columns)
	found, last := 0, -1
	for i, c := range t.Columns {
		at := rel.Column(c.Def.Name)
		if at >= 0 && at < last {
			return nil, fmt.Errorf("bind relation %s: column %q is at another place in the stream than in the catalog", rel, c.Def.Name)
		}
		last = max(last, at)
		b.from[i] = at
		if at < 0 {
			if c.Def.Generated != 0 {
				b.same = false
				continue
			}
			return nil, fmt.Errorf("bind relation %s: the stream has no column %q", rel, c.Def.Name)
		}
		found++
		if got := rel.Columns[at].Type; got != c.Def.Type.OID {
			return nil, fmt.Errorf("bind relation %s: column %q has type OID %d in the stream and %d in the catalog",
				rel, c.Def.Name, got, c.Def.Type.OID)
		}
		if at != i {
			b.same = false
		}
	}
	if found != len(rel.Columns) {
		return nil, fmt.Errorf("bind relation %s: the stream has %d columns, the catalog knows %d of them",
			rel, len(rel.Columns), found)
	}
	return b, nil
}

// A Binding turns rows of one relation into images of a table.
type Binding struct {
	from []int // index in the relation of each column of the table, or -1
	same bool
}

// Image gives the row in the order of Table.Columns; columns that the relation lacks (generated
// ones) are Absent. It gives the row itself where the order is the same, and nil for nil.
func (b *Binding) Image(r cdc.Row) cdc.Row {
	if r == nil || b.same {
		return r
	}
	out := make(cdc.Row, len(b.from))
	for i, at := range b.from {
		if at < 0 || at >= len(r) {
			out[i] = cdc.AbsentValue()
			continue
		}
		out[i] = r[at]
	}
	return out
}

// rowIDBytes is how much of the hash a row id keeps. Ids need to differ within one client's
// rows: 128 bits make a clash impossible in practice.
const rowIDBytes = 16

// RowID is the opaque id of the row that an image is of: the same for the same type and key.
func (t *Table) RowID(image cdc.Row) string {
	return string(t.appendRowID(nil, image))
}

// appendRowID appends the id, using dst's spare room for its work.
func (t *Table) appendRowID(dst []byte, image cdc.Row) []byte {
	start := len(dst)
	dst = appendCounted(dst, t.Type)
	for _, k := range t.Key {
		v := image[k]
		dst = append(dst, byte(v.Kind()))
		dst = appendCounted(dst, v.Text())
	}
	sum := sha256.Sum256(dst[start:])
	return base64.RawURLEncoding.AppendEncode(dst[:start], sum[:rowIDBytes])
}

// appendCounted appends s behind its length, so that no two sequences of strings look alike.
func appendCounted(dst []byte, s string) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(s)))
	return append(dst, s...)
}
