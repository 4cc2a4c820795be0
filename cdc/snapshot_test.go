package cdc_test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestParseSnapshot(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text string
		want cdc.Snapshot
	}{
		{"10:20:", cdc.Snapshot{Xmin: 10, Xmax: 20}},
		{"10:20:10,14", cdc.Snapshot{Xmin: 10, Xmax: 20, InProgress: []uint64{10, 14}}},
		{"4294967297:18446744073709551615:4294967297", cdc.Snapshot{Xmin: 1<<32 + 1, Xmax: 1<<64 - 1, InProgress: []uint64{1<<32 + 1}}},
	}
	for _, tt := range tests {
		got, err := cdc.ParseSnapshot(tt.text)
		if err != nil {
			t.Errorf("ParseSnapshot(%q): %v", tt.text, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("ParseSnapshot(%q) differs:\n%s", tt.text, diff)
		}
	}
	for _, s := range []string{"", "1:2", "1:2:3:4", "a:2:", "1:b:", "1:2:c", "1:2:3,", "-1:2:", "1:18446744073709551616:"} {
		if got, err := cdc.ParseSnapshot(s); err == nil {
			t.Errorf("ParseSnapshot(%q) = %v, want an error", s, got)
		}
	}
}

// The stream has 32 bits of a transaction's id, a snapshot all 64: across a wraparound the id
// must be widened to the epoch it came from, not to the snapshot's own.
//
// Covers C42.
func TestSeesWidensTheIDAcrossWraparound(t *testing.T) {
	t.Parallel()
	const epoch = uint64(1) << 32
	tests := []struct {
		name string
		s    cdc.Snapshot
		xid  uint32
		want bool
	}{
		{"before xmin", cdc.Snapshot{Xmin: 100, Xmax: 110}, 99, true},
		{"between, finished", cdc.Snapshot{Xmin: 100, Xmax: 110, InProgress: []uint64{100, 105}}, 104, true},
		{"between, in progress", cdc.Snapshot{Xmin: 100, Xmax: 110, InProgress: []uint64{100, 105}}, 105, false},
		{"xmin in progress", cdc.Snapshot{Xmin: 100, Xmax: 110, InProgress: []uint64{100}}, 100, false},
		{"xmax", cdc.Snapshot{Xmin: 100, Xmax: 110}, 110, false},
		{"behind xmax", cdc.Snapshot{Xmin: 100, Xmax: 110}, 111, false},
		{"previous epoch", cdc.Snapshot{Xmin: 2*epoch + 3, Xmax: 2*epoch + 5}, 0xFFFFFFF0, true},
		{"previous epoch, in progress", cdc.Snapshot{Xmin: 2*epoch - 16, Xmax: 2*epoch + 5, InProgress: []uint64{2*epoch - 16}}, 0xFFFFFFF0, false},
		{"previous epoch, finished", cdc.Snapshot{Xmin: 2*epoch - 16, Xmax: 2*epoch + 5, InProgress: []uint64{2*epoch - 16}}, 0xFFFFFFF1, true},
		{"next epoch", cdc.Snapshot{Xmin: 2*epoch - 10, Xmax: 2*epoch - 5}, 3, false},
		{"same epoch, in progress", cdc.Snapshot{Xmin: 2*epoch + 3, Xmax: 2*epoch + 5, InProgress: []uint64{2*epoch + 3}}, 3, false},
	}
	for _, tt := range tests {
		if got := tt.s.Sees(tt.xid); got != tt.want {
			t.Errorf("%s: Sees(%d) = %t, want %t", tt.name, tt.xid, got, tt.want)
		}
	}
}

// Covers C42.
func TestSeesAgreesWithAllSixtyFourBits(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		xmax := rapid.Uint64Range(1<<31, 1<<50).Draw(t, "xmax")
		s := cdc.Snapshot{Xmax: xmax, Xmin: xmax - rapid.Uint64Range(0, 1000).Draw(t, "window")}
		for x := s.Xmin; x < xmax; x += 1 + rapid.Uint64Range(0, 100).Draw(t, "step") {
			s.InProgress = append(s.InProgress, x)
		}
		// Any transaction that a stream can carry: within two billion of the present.
		full := xmax - 1<<31 + rapid.Uint64Range(0, 1<<32-1).Draw(t, "transaction")
		if rapid.Bool().Draw(t, "near") {
			full = s.Xmin + rapid.Uint64Range(0, 1100).Draw(t, "offset")
		}
		want := full < xmax && !slices.Contains(s.InProgress, full)
		if got := s.Sees(uint32(full)); got != want {
			t.Fatalf("%+v sees %d: %t, want %t", s, full, got, want)
		}
	})
}

// The oracle is Postgres.
func TestSeesAgreesWithPostgres(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE t (x xid8)`)
	pool := db.Pool(t)
	var xids []uint64
	open := func() (end func(string)) {
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var xid uint64
		if _, err := conn.Exec(t.Context(), "BEGIN"); err != nil {
			t.Fatal(err)
		}
		if err := conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
			t.Fatal(err)
		}
		xids = append(xids, xid)
		return func(end string) {
			defer conn.Release()
			if _, err := conn.Exec(t.Context(), end); err != nil {
				t.Error(err)
			}
		}
	}
	first := open()
	second := open()
	third := open()
	second("COMMIT")
	text := pgtest.One[string](t, db, "SELECT pg_current_snapshot()::text")
	s, err := cdc.ParseSnapshot(text)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range append(xids, xids[0]-1, xids[2]+1, xids[2]+100) {
		want := pgtest.One[bool](t, db, fmt.Sprintf("SELECT pg_visible_in_snapshot('%d', '%s')", x, text))
		if got := s.Sees(uint32(x)); got != want {
			t.Errorf("snapshot %s sees %d: %t, Postgres says %t", text, x, got, want)
		}
	}
	first("ROLLBACK")
	third("COMMIT")
}
