package feedtest

import "strings"

// A ShapeValidator holds each frame by itself to the API.
//
// The guarantee: A frame of a kind has what that kind has and nothing else. INSERT, ENTER and
// SNAPSHOT have row and no old; DELETE and LEAVE have old and no row; UPDATE has both, and says
// in changed which fields differ, at least one. No other kind says so, since that would tell of
// an image that is not shown. All these have key and rowId; TRUNCATE, RESET, LIVE and PROGRESS
// have none of the four. row, old and key of one frame agree on the key. One rowId stands for one
// key, always. Changes have a cursor and a transaction; SNAPSHOT and RESET have neither, LIVE and
// PROGRESS have a cursor alone. Only RESET has a reason, and it always has.
type ShapeValidator struct {
	failures
	table  *Table
	shapes map[string]shape
	rows   map[string]string // key by rowId
	ids    map[string]string // rowId by key
}

// A shape is what a frame has.
type shape struct{ row, old, cursor, transaction, reason bool }

// NewShapeValidator makes one for a subscription of the table.
func NewShapeValidator(t *Table) *ShapeValidator {
	return &ShapeValidator{
		table: t,
		rows:  make(map[string]string),
		ids:   make(map[string]string),
		shapes: map[string]shape{
			Insert:   {row: true, cursor: true, transaction: true},
			Update:   {row: true, old: true, cursor: true, transaction: true},
			Delete:   {old: true, cursor: true, transaction: true},
			Enter:    {row: true, cursor: true, transaction: true},
			Leave:    {old: true, cursor: true, transaction: true},
			Truncate: {cursor: true, transaction: true},
			Snapshot: {row: true},
			Reset:    {reason: true},
			Live:     {cursor: true},
			Progress: {cursor: true},
		},
	}
}

// Note takes the next frame.
func (v *ShapeValidator) Note(f *Frame) {
	want, known := v.shapes[f.Kind]
	if !known {
		v.add("unknown kind: %s", f)
		return
	}
	got := shape{f.Row != nil, f.Old != nil, f.Cursor != "", f.Transaction != nil, f.Reason != ""}
	if got != want {
		v.add("wrong shape: %s has %+v, want %+v", f, got, want)
	}
	keyed := want.row || want.old
	if (f.Key != nil) != keyed || (f.RowID != "") != keyed {
		v.add("wrong shape: %s has the rowId %q and key is there: %v", f, f.RowID, f.Key != nil)
	}
	if (f.Kind == Update) != (len(f.Changed) > 0) {
		v.add("wrong shape: %s says that it changed %v", f, f.Changed)
	}
	if f.Key != nil {
		v.key(f)
	}
}

func (v *ShapeValidator) key(f *Frame) {
	key, ok := v.table.keyOf(f.Key)
	if !ok || len(f.Key) != len(v.table.Key) {
		v.add("wrong key: %s", f)
		return
	}
	for _, o := range []Object{f.Row, f.Old} {
		if o == nil {
			continue
		}
		if k, ok := v.table.keyOf(o); ok && k != key {
			v.add("wrong key: %s has an image of %s", f, strings.ReplaceAll(k, keySeparator, ","))
		}
	}
	if f.RowID == "" {
		return
	}
	if was, ok := v.rows[f.RowID]; ok && was != key {
		v.add("wrong rowId: %s has that of %s", f, strings.ReplaceAll(was, keySeparator, ","))
	}
	if was, ok := v.ids[key]; ok && was != f.RowID {
		v.add("wrong rowId: %s had another before", f)
	}
	v.rows[f.RowID], v.ids[key] = key, f.RowID
}

// Failures says where the guarantee was broken.
func (v *ShapeValidator) Failures() []string { return v.all() }
