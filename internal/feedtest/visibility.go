package feedtest

import (
	"maps"
	"slices"
	"strings"
)

// A VisibilityValidator compares what frames say of rows with what Postgres showed.
//
// The guarantee: What a role can SELECT is what it can subscribe to. No frame names a row, in
// key, rowId or an image, of which the subscriber's SELECT returned nothing before or after the
// transaction. row is what it returned after, and old what it returned before, with every
// readable column, with the values of that moment and of no other, and nothing where it returned
// nothing. changed of an UPDATE are the readable columns that differ.
type VisibilityValidator struct {
	failures
	want     *Stream
	index    map[place]int
	readable []int
}

// NewVisibilityValidator makes one for the stream. The frames must tell their commitLsn, and
// must have been asked for every readable column.
func NewVisibilityValidator(want *Stream) *VisibilityValidator {
	v := &VisibilityValidator{want: want, index: make(map[place]int), readable: want.Subscription.readable()}
	for i := range want.Frames {
		e := &want.Frames[i]
		v.index[place{e.Commit, e.Key}] = i
	}
	return v
}

// Note takes the next frame.
func (v *VisibilityValidator) Note(f *Frame) {
	if !f.change() {
		return
	}
	i, ok := v.index[placeOf(v.want.Subscription.Table, f)]
	if !ok {
		if f.Key != nil || f.Row != nil || f.Old != nil {
			v.add("leaked: %s is of a row that the SELECT did not return", f)
		}
		return
	}
	e := &v.want.Frames[i]
	v.image(f, "row", f.Row, e.Row)
	v.image(f, "old", f.Old, e.Old)
	if e.Kind != Update || f.Kind != Update {
		return
	}
	want := v.want.Subscription.differ(e.Old, e.Row)
	if got := slices.Sorted(slices.Values(f.Changed)); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		v.add("wrong changed: %s says %s, want %s", f, strings.Join(got, ","), strings.Join(want, ","))
	}
}

func (v *VisibilityValidator) image(f *Frame, name string, got Object, want *Image) {
	if got == nil || want == nil {
		switch {
		case got != nil:
			v.add("leaked: %s has %s, which the SELECT did not return", f, name)
		case want != nil:
			v.add("missing image: %s has no %s", f, name)
		}
		return
	}
	for _, failure := range compare(v.want.Subscription.Table, v.readable, got, want) {
		v.add("%s of %s: %s", name, f, failure)
	}
}

// compare holds an object of the API against a row as Postgres returned it.
func compare(t *Table, readable []int, got Object, want *Image) []string {
	var f failures
	for _, c := range readable {
		col := &t.Columns[c]
		raw, ok := got[col.Field]
		switch {
		case !ok:
			f.add("missing column: %s", col.Field)
		case !same(col.Type, raw, want.Values[c]):
			f.add("wrong value: %s is %.200s, want %.200s", col.Field, raw, encode(col.Type, want.Values[c]))
		}
	}
	if len(got) == len(readable) && len(f.list) == 0 {
		return nil
	}
	for _, field := range slices.Sorted(maps.Keys(got)) {
		if c := t.field(field); !slices.Contains(readable, c) {
			f.add("leaked column: %s", field)
		}
	}
	return f.all()
}

// Failures says where the guarantee was broken.
func (v *VisibilityValidator) Failures() []string { return v.all() }
