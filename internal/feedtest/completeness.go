package feedtest

import (
	"strings"

	"github.com/jackc/pglogrepl"
)

// place names a change: a row, or "" for the table, at a commit.
type place struct {
	commit pglogrepl.LSN
	key    string
}

func placeOf(t *Table, f *Frame) place {
	key, _ := t.keyOf(f.Key)
	return place{f.Commit(), key}
}

func (p place) String() string {
	return strings.ReplaceAll(p.key, keySeparator, ",") + " at " + p.commit.String()
}

// A CompletenessValidator compares the sequence of changes with the one that should have come.
//
// The guarantee: For each committed transaction, in commit order, a subscription receives exactly
// the difference between what its SELECT would have returned just before and just after that
// transaction: one frame for each row that differs, none for any other, of the kind that says
// how it differs, in the order of each row's last change within the transaction.
//
// What the images say is the VisibilityValidator's.
type CompletenessValidator struct {
	failures
	want  *Stream
	index map[place]int
	got   []bool
	// next is the first frame that should come now; the ones before that did not come are
	// late if they come yet.
	next int
	// began tells that the subscription has begun anew and nothing has come since, live behind
	// which position it should then have everything.
	began    bool
	live     pglogrepl.LSN
	forgiven []bool
}

// NewCompletenessValidator makes one for the stream. The frames must tell their commitLsn.
func NewCompletenessValidator(want *Stream) *CompletenessValidator {
	v := &CompletenessValidator{want: want, index: make(map[place]int), got: make([]bool, len(want.Frames)), forgiven: make([]bool, len(want.Frames))}
	for i := range want.Frames {
		e := &want.Frames[i]
		v.index[place{e.Commit, e.Key}] = i
	}
	return v
}

// begin forgives what did not come from here on up to a position.
func (v *CompletenessValidator) begin(live pglogrepl.LSN) {
	v.began, v.live = true, live
	for i := v.next; i < len(v.want.Frames) && v.want.Frames[i].Commit <= live; i++ {
		v.forgiven[i] = true
	}
}

// Note takes the next frame.
func (v *CompletenessValidator) Note(f *Frame) {
	if !f.change() {
		return
	}
	if f.Commit() == 0 {
		v.add("extra: %s does not tell its commit", f)
		return
	}
	i, ok := v.index[placeOf(v.want.Subscription.Table, f)]
	switch {
	case !ok:
		v.add("extra: %s", f)
		return
	case v.got[i]:
		v.add("duplicate: %s", f)
		return
	case i < v.next:
		v.add("out of order: %s comes after %s", f, &v.want.Frames[v.next-1])
	}
	if v.began && v.live == 0 {
		for n := v.next; n < i; n++ {
			v.forgiven[n] = true
		}
	}
	v.began = false
	v.got[i] = true
	v.next = max(v.next, i+1)
	if e := &v.want.Frames[i]; e.Kind != f.Kind {
		v.add("wrong kind: %s, want %s", f, e)
	}
}

// Failures says where the guarantee was broken.
func (v *CompletenessValidator) Failures() []string {
	out := failures{list: v.list, more: v.more}
	for i, got := range v.got {
		if !got && !v.forgiven[i] {
			out.add("missing: %s", &v.want.Frames[i])
		}
	}
	return out.all()
}
