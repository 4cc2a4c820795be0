package feedtest

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestMaterialiserObeysTheClientsRule(t *testing.T) {
	t.Parallel()
	s := goodStream()
	m := NewMaterialiser()
	var sizes []int
	for _, f := range goodFrames(s) {
		m.Apply(f)
		sizes = append(sizes, m.Len())
	}
	// RESET, SNAPSHOT, LIVE; INSERT, INSERT; UPDATE, DELETE, ENTER; LEAVE; TRUNCATE, INSERT;
	// UPDATE; PROGRESS.
	want := []int{0, 1, 1, 2, 3, 3, 2, 3, 2, 0, 1, 1, 1}
	for i := range want {
		if sizes[i] != want[i] {
			t.Fatalf("the table has %v rows frame by frame, want %v", sizes, want)
		}
	}
	m.Apply(&Frame{Kind: "SOMETHING_NEW", RowID: "notes 1"})
	if m.Len() != 0 {
		t.Error("a kind of later, with rowId and without row, does not remove")
	}
	m.Apply(s.Frame(0))
	m.Apply(&Frame{Kind: Reset})
	if m.Len() != 0 {
		t.Error("RESET does not clear")
	}
}

func TestMaterialiserTellsWhereItDiffersFromTheTable(t *testing.T) {
	t.Parallel()
	s := goodStream()
	one, two := s.Frames[0].Row, s.Frames[1].Row
	fill := func(m *Materialiser) Rows {
		m.Apply(s.Frame(0))
		m.Apply(s.Frame(1))
		return Rows{"1": one, "2": two}
	}
	for name, tt := range map[string]struct {
		spoil func(*Materialiser, Rows)
		want  string // "" for nothing
	}{
		"nothing":       {func(*Materialiser, Rows) {}, ""},
		"missing row":   {func(m *Materialiser, _ Rows) { m.Apply(&Frame{RowID: "notes 1"}) }, "missing: 1"},
		"extra row":     {func(_ *Materialiser, r Rows) { delete(r, "2") }, "extra: 2"},
		"other value":   {func(m *Materialiser, _ Rows) { m.rows["notes 1"]["n"] = json.RawMessage("7") }, "1: wrong value: n"},
		"one row twice": {func(m *Materialiser, _ Rows) { m.rows["x"] = m.rows["notes 1"] }, "duplicate: 1"},
		"no key":        {func(m *Materialiser, _ Rows) { delete(m.rows["notes 1"], "id") }, "wrong key"},
		"hidden column": {func(m *Materialiser, _ Rows) { m.rows["notes 1"]["secret"] = json.RawMessage("7") }, "1: leaked column: secret"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := NewMaterialiser()
			rows := fill(m)
			tt.spoil(m, rows)
			got := strings.Join(m.Compare(s.Subscription, rows), "\n")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
