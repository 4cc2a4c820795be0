package fold

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc"
)

func described(name string, columns ...cdc.Column) *cdc.Relation {
	return &cdc.Relation{OID: 1, Schema: "public", Name: name, Identity: cdc.IdentityFull, Columns: columns}
}

// DDL in the middle of a transaction: every event has the last description of its relation, and
// images from before are carried over by name, or the relation is resynced.
//
// Covers C52.
func TestDDLInsideATransaction(t *testing.T) {
	t.Parallel()
	text := func(name string) cdc.Column { return cdc.Column{Name: name, Type: textOID, Modifier: -1} }
	id := cdc.Column{Name: "id", Type: int8OID, Modifier: -1}
	before := described("a", id, text("v"), text("w"))
	for name, tt := range map[string]struct {
		after *cdc.Relation
		in    func(after *cdc.Relation) []cdc.Event
		want  []string
	}{
		"described again, nothing changed": {
			described("a", id, text("v"), text("w")),
			func(r *cdc.Relation) []cdc.Event { return []cdc.Event{remove(r, "1", "x", "y")} },
			[]string{"update a 0,x,o>0,x,n", "insert a nil>2,x,y"},
		},
		"renamed table": {
			described("b", id, text("v"), text("w")),
			func(r *cdc.Relation) []cdc.Event { return []cdc.Event{remove(r, "1", "x", "y")} },
			[]string{"update b 0,x,o>0,x,n", "insert b nil>2,x,y"},
		},
		"added column": {
			described("a", id, text("v"), text("w"), text("z")),
			func(r *cdc.Relation) []cdc.Event {
				return []cdc.Event{update(r, row("1", "x", "y", "d"), row("1", "x", "y", "e")), insert(r, "3", "x", "y", "z")}
			},
			[]string{"update a 0,x,o,?>0,x,n,?", "insert a nil>2,x,y,?", "insert a nil>1,x,y,e", "insert a nil>3,x,y,z"},
		},
		"added column of a row from before": {
			described("a", id, text("v"), text("w"), text("z")),
			func(r *cdc.Relation) []cdc.Event {
				return []cdc.Event{remove(r, "1", "x", "y", "d"), remove(r, "2", "x", "y", "d"), update(r, row("0", "x", "n", "d"), row("0", "x", "n", "e"))}
			},
			[]string{"update a 0,x,o,?>0,x,n,e"},
		},
		"dropped column": {
			described("a", id, text("w")),
			func(r *cdc.Relation) []cdc.Event {
				return []cdc.Event{update(r, row("1", "y"), row("1", "u")), remove(r, "2", "y")}
			},
			[]string{"update a 0,o>0,n", "insert a nil>1,u"},
		},
		"another type under the same name": {
			described("a", id, text("v"), cdc.Column{Name: "w", Type: int8OID, Modifier: -1}),
			func(r *cdc.Relation) []cdc.Event {
				return []cdc.Event{insert(r, "3", "x", "6")}
			},
			[]string{"gap a undecodable"},
		},
		"columns that swapped their names": {
			described("a", id, text("w"), text("v")),
			func(r *cdc.Relation) []cdc.Event { return []cdc.Event{insert(r, "3", "y", "x")} },
			[]string{"gap a undecodable"},
		},
		"renamed key": {
			described("a", cdc.Column{Name: "key", Type: int8OID, Modifier: -1}, text("v"), text("w")),
			func(r *cdc.Relation) []cdc.Event { return []cdc.Event{insert(r, "3", "x", "y")} },
			[]string{"gap a undecodable"},
		},
		"key of another type": {
			described("a", cdc.Column{Name: "id", Type: textOID, Modifier: -1}, text("v"), text("w")),
			func(r *cdc.Relation) []cdc.Event { return []cdc.Event{insert(r, "3", "x", "y")} },
			[]string{"gap a undecodable"},
		},
		"renamed key, truncated before": {
			described("a", cdc.Column{Name: "key", Type: int8OID, Modifier: -1}, text("v"), text("w")),
			func(r *cdc.Relation) []cdc.Event { return []cdc.Event{truncate(before), insert(r, "3", "x", "y")} },
			[]string{"truncate a", "insert a nil>3,x,y"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, Config{})
			f.Add(insert(before, "1", "x", "y"))
			f.Add(update(before, row("0", "x", "o"), row("0", "x", "n")))
			f.Add(update(before, row("4", "x", "o"), row("4", "x", "n")))
			f.Add(update(before, row("4", "x", "n"), row("4", "x", "o")))
			f.Add(insert(before, "2", "x", "y"))
			for _, ev := range tt.in(tt.after) {
				f.Add(ev)
			}
			batches := finish(t, f)
			if diff := cmp.Diff(tt.want, lines(batches)); diff != "" {
				t.Error(diff)
			}
			for _, ev := range batches[0].Events {
				if ev.Relation != tt.after {
					t.Errorf("%s has an older relation", line(&ev))
				}
			}
		})
	}
}

// Under default identity old images hold the primary key alone. A key of other columns then
// cannot be folded by; the identity can.
func TestWhereOldImagesLackTheKeyTheIdentityStandsForIt(t *testing.T) {
	t.Parallel()
	rel := relation(1, "a", cdc.IdentityDefault)
	key := func(*cdc.Relation) []int { return []int{1} }
	f := newFolder(t, Config{Key: key})
	f.Add(insert(rel, "1", "x"))
	f.Add(remove(rel, "1", "?"))
	f.Add(insert(rel, "2", "x"))
	f.Add(update(rel, nil, row("2", "y")))
	if diff := cmp.Diff([]string{"insert a nil>2,y"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}

	none := relation(2, "n", cdc.IdentityIndex) // its index was dropped
	none.Columns[0].Identity = false
	f.Begin()
	f.Add(insert(none, "1", "x"))
	f.Add(insert(none, "1", "x"))
	if diff := cmp.Diff([]string{"insert n nil>1,x", "insert n nil>1,x"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}
}
