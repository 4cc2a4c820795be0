package cdc_test

import (
	"testing"

	"github.com/rowtide/rowtide/cdc"
)

func TestZeroValueIsNull(t *testing.T) {
	t.Parallel()
	var v cdc.Value
	if !v.IsNull() || !v.Known() || v.Kind() != cdc.Null || v.Text() != "" {
		t.Errorf("the zero value is %+v", v)
	}
}

// NULL, empty, unchanged and absent are four different things.
//
// Covers C45.
func TestValuesOfDifferentKindDiffer(t *testing.T) {
	t.Parallel()
	values := []cdc.Value{{}, cdc.TextValue(""), cdc.UnchangedValue(), cdc.AbsentValue(), cdc.TextValue("NULL")}
	for i, a := range values {
		for j, b := range values {
			if (a == b) != (i == j) {
				t.Errorf("values %d and %d: equal is %t", i, j, a == b)
			}
			if got := (cdc.Row{a}).Equal(cdc.Row{b}); got != (i == j) {
				t.Errorf("rows of values %d and %d: equal is %t", i, j, got)
			}
		}
		if known := i == 0 || i == 1 || i == 4; a.Known() != known {
			t.Errorf("value %d: known is %t", i, a.Known())
		}
	}
	if (cdc.Row{{}}).Equal(cdc.Row{{}, {}}) {
		t.Error("rows of different length are equal")
	}
}

func TestBatchPositionIsItsLastEventOrTheEnd(t *testing.T) {
	t.Parallel()
	b := cdc.Batch{Transaction: cdc.Transaction{Commit: 7}}
	if got := b.Position(); got != (cdc.Position{Commit: 7}) {
		t.Errorf("a batch of messages alone stands at %s", got)
	}
	b.Events = []cdc.Event{{Seq: 4}, {Seq: 5}}
	if got := b.Position(); got != (cdc.Position{Commit: 7, Seq: 5}) {
		t.Errorf("a batch of events stands at %s", got)
	}
	b.Last = true
	if got := b.Position(); got != (cdc.Position{Commit: 7, Seq: cdc.EndOfTransaction}) {
		t.Errorf("the last batch stands at %s", got)
	}
}

// A size that grew slower than the content would make bounds in bytes worthless.
func TestSizesCoverTheContent(t *testing.T) {
	t.Parallel()
	text := make([]byte, 1000)
	e := cdc.Event{Op: cdc.Update, Old: cdc.Row{cdc.TextValue(string(text)), {}}, New: cdc.Row{cdc.TextValue(string(text)), {}}}
	if e.Size() < 2000 {
		t.Errorf("an event with 2000 bytes of text has size %d", e.Size())
	}
	b := cdc.Batch{Events: []cdc.Event{e, e}, Messages: []cdc.Message{{Content: text}}}
	if b.Size() < 5000 {
		t.Errorf("a batch with 5000 bytes of text has size %d", b.Size())
	}
}

func TestOperationsHaveNames(t *testing.T) {
	t.Parallel()
	for op, want := range map[cdc.Op]string{0: "invalid", cdc.Insert: "insert", cdc.Update: "update", cdc.Delete: "delete", cdc.Truncate: "truncate", cdc.Gap: "gap", 99: "invalid"} {
		if got := op.String(); got != want {
			t.Errorf("Op(%d) is %q, want %q", op, got, want)
		}
	}
}

func TestColumnIsFoundByName(t *testing.T) {
	t.Parallel()
	r := cdc.Relation{Schema: "app", Name: "t", Columns: []cdc.Column{{Name: "a"}, {Name: "B"}}}
	if r.Column("B") != 1 || r.Column("b") != -1 || r.String() != "app.t" {
		t.Errorf("columns B, b at %d, %d of %s", r.Column("B"), r.Column("b"), &r)
	}
}
