package fold

import (
	"context"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

// The first batch of a transaction that has several tells all that becomes of the relations asked
// for, whether the transaction was in memory or on disk; what is too much for it is a Gap.
//
// Covers R31.
func TestTheFirstBatchTellsAllOfWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole, spilled, gaps := 0, 0, 0
	some(t, func(t *rapid.T) {
		cfg := Config{
			Ahead: func() []uint32 { return []uint32{2} }, BatchEvents: rapid.IntRange(1, 4).Draw(t, "events"),
			MaxBytes: rapid.IntRange(1, 6000).Draw(t, "limit"), SpillDir: dir,
		}
		w := newWorld(t, cdc.IdentityFull, false, cfg)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			w.step(t, false)
		}
		if w.f.disk.byKey != nil {
			spilled++
		}
		var batches []*cdc.Batch
		err := w.f.Finish(context.Background(), testTransaction, func(b *cdc.Batch) error {
			batches = append(batches, b)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for i, b := range batches {
			if told := b.Ahead != nil; told != (i == 0 && len(batches) > 1) {
				t.Fatalf("batch %d of %d tells ahead: %t", i, len(batches), told)
			}
			for n := range b.Events {
				if b.Events[n].Relation.OID == 2 {
					want = append(want, line(&b.Events[n]))
				}
			}
		}
		if len(batches) == 1 {
			return
		}
		var got []string
		for i := range batches[0].Ahead.Events {
			e := &batches[0].Ahead.Events[i]
			if e.Op == cdc.Truncate && i > 0 {
				t.Fatal("a truncation is told behind other events")
			}
			got = append(got, line(e))
		}
		if slices.Equal(got, []string{"gap t2 transaction_size"}) {
			gaps++
			return
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("told ahead: %q\nand then: %q", got, want)
		}
		whole++
	})
	if whole == 0 || spilled == 0 || gaps == 0 {
		t.Errorf("%d told whole, %d spilled, %d gaps", whole, spilled, gaps)
	}
}
