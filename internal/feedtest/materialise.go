package feedtest

import "strings"

// A Materialiser holds a table as a client that obeys the API's whole rule has it:
//
// RESET or TRUNCATE: clear. row present: put it at rowId. rowId without row: remove it.
// Otherwise ignore.
//
// The guarantee, checked by Compare: when everything that was committed has arrived, the table
// is what the subscriber's SELECT returns.
type Materialiser struct {
	rows map[string]Object
}

// NewMaterialiser makes an empty one.
func NewMaterialiser() *Materialiser { return &Materialiser{rows: make(map[string]Object)} }

// Apply takes the next frame.
func (m *Materialiser) Apply(f *Frame) {
	switch {
	case f.Kind == Reset || f.Kind == Truncate:
		clear(m.rows)
	case f.Row != nil:
		m.rows[f.RowID] = f.Row
	case f.RowID != "":
		delete(m.rows, f.RowID)
	}
}

// Len is how many rows the table has.
func (m *Materialiser) Len() int { return len(m.rows) }

// Compare says where the table is not what the subscriber's SELECT returns.
func (m *Materialiser) Compare(s *Subscription, rows Rows) []string {
	var f failures
	readable := s.readable()
	met := make(map[string]bool, len(m.rows))
	for id, row := range m.rows {
		key, ok := s.Table.keyOf(row)
		show := strings.ReplaceAll(key, keySeparator, ",")
		want := rows[key]
		switch {
		case !ok:
			f.add("wrong key: the row %s has none", id)
		case met[key]:
			f.add("duplicate: %s is there twice", show)
		case want == nil:
			f.add("extra: %s is not in the table", show)
		default:
			for _, failure := range compare(s.Table, readable, row, want) {
				f.add("%s: %s", show, failure)
			}
		}
		met[key] = true
	}
	for key := range rows {
		if !met[key] {
			f.add("missing: %s", strings.ReplaceAll(key, keySeparator, ","))
		}
	}
	return f.all()
}
