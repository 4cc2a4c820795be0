package cdc_test

import (
	"cmp"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

// An LSN is unsigned: in text or in 64 signed bits FFFFFFFF/0 would sort before 9/0.
//
// Covers C17.
func TestLSNIsUnsignedOverAllOfItsBits(t *testing.T) {
	t.Parallel()
	ascending := []struct {
		text string
		lsn  cdc.LSN
	}{
		{"0/0", 0},
		{"0/1", 1},
		{"0/FFFFFFFF", math.MaxUint32},
		{"1/0", 1 << 32},
		{"9/0", 9 << 32},
		{"10/0", 16 << 32},
		{"7FFFFFFF/FFFFFFFF", math.MaxInt64},
		{"80000000/0", 1 << 63},
		{"FFFFFFFF/0", 0xFFFFFFFF << 32},
		{"FFFFFFFF/FFFFFFFF", math.MaxUint64},
	}
	for i, tt := range ascending {
		got, err := cdc.ParseLSN(tt.text)
		if err != nil || got != tt.lsn {
			t.Errorf("ParseLSN(%q) = %d, %v, want %d", tt.text, got, err, tt.lsn)
		}
		if s := tt.lsn.String(); s != tt.text {
			t.Errorf("LSN %d is %q, want %q", tt.lsn, s, tt.text)
		}
		if i > 0 && ascending[i-1].lsn >= got {
			t.Errorf("%s does not lie behind %s", tt.text, ascending[i-1].text)
		}
		a, b := cdc.Position{Commit: got, Seq: 5}, cdc.Position{Commit: ascending[max(i-1, 0)].lsn, Seq: 9}
		if want := min(i, 1); i > 0 && (a.Compare(b) != want || b.Compare(a) != -want) {
			t.Errorf("position %s does not lie behind %s", a, b)
		}
	}
}

func TestParseLSNTakesNothingElse(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "/", "0", "0/", "/0", "0/0/0", "-1/0", "+1/0", "0/-1", "100000000/0", "0/100000000", "0x1/0", " 0/0", "0/0 ", "G/0", "1_0/0"} {
		if l, err := cdc.ParseLSN(s); err == nil {
			t.Errorf("ParseLSN(%q) = %s, want an error", s, l)
		}
	}
	if l, err := cdc.ParseLSN("a/bC"); err != nil || l != 0xA_000000BC {
		t.Errorf("lower case: %s, %v", l, err)
	}
}

// Covers C17.
func TestLSNTextRoundTripsAndOrders(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		l := cdc.LSN(rapid.Uint64().Draw(t, "lsn"))
		if back, err := cdc.ParseLSN(l.String()); err != nil || back != l {
			t.Fatalf("%d became %q became %d, %v", l, l, back, err)
		}
	})
}

// Positions order by commit first, then by sequence; the end of a transaction lies behind all
// of it.
//
// Covers C18.
func TestPositionsOrderByCommitThenSequence(t *testing.T) {
	t.Parallel()
	sorted := []cdc.Position{
		{},
		{Commit: 1},
		{Commit: 1, Seq: 1},
		{Commit: 1, Seq: math.MaxUint32 - 1},
		{Commit: 1, Seq: cdc.EndOfTransaction},
		{Commit: 2},
		{Commit: 2, Seq: cdc.EndOfTransaction},
		{Commit: math.MaxUint64},
	}
	for i, p := range sorted {
		for j, q := range sorted {
			if got, want := p.Compare(q), cmp.Compare(i, j); got != want {
				t.Errorf("%s.Compare(%s) = %d, want %d", p, q, got, want)
			}
		}
		if p.IsZero() != (i == 0) {
			t.Errorf("%s: IsZero is %t", p, p.IsZero())
		}
	}
	if !slices.IsSortedFunc(sorted, cdc.Position.Compare) {
		t.Error("positions are not in order")
	}
	if s := sorted[4].String(); s != "0/1:end" {
		t.Errorf("the end of a transaction is %q", s)
	}
	if s := sorted[2].String(); s != "0/1:1" {
		t.Errorf("a position is %q", s)
	}
}
