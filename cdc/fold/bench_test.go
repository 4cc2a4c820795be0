package fold

import (
	"strconv"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
)

func BenchmarkFold(b *testing.B) {
	rel := relation(1, "a", cdc.IdentityFull)
	value := strings.Repeat("x", 40)
	var distinct, same, passing []cdc.Event
	for i := range 1000 {
		id := strconv.Itoa(i)
		distinct = append(distinct, cdc.Event{Op: cdc.Update, Relation: rel, Old: row(id, value), New: row(id, value+id)})
		same = append(same, cdc.Event{Op: cdc.Update, Relation: rel, Old: row("1", id), New: row("1", strconv.Itoa(i+1))})
		passing = append(passing, insert(rel, id, value), remove(rel, id, value))
	}
	for _, bb := range []struct {
		name   string
		events []cdc.Event
	}{
		{"one row", distinct[:1]},
		{"1000 rows", distinct},
		{"1000 times one row", same},
		{"1000 rows that come and go", passing},
	} {
		b.Run(bb.name, func(b *testing.B) {
			f := newFolder(b, Config{})
			b.ReportAllocs()
			for b.Loop() {
				f.Begin()
				for _, ev := range bb.events {
					f.Add(ev)
				}
				if err := f.Finish(b.Context(), testTransaction, func(*cdc.Batch) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(bb.events)), "ns/change")
		})
	}
}
