package pgoutput_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
)

// BenchmarkDecode holds the cost of one change: an event, and a row and a string an image,
// whatever the number of columns.
func BenchmarkDecode(b *testing.B) {
	for _, columns := range []int{4, 32} {
		rel := &cdc.Relation{OID: 16385, Schema: "public", Name: "t", Identity: cdc.IdentityFull}
		var before, after cdc.Row
		for i := range columns {
			rel.Columns = append(rel.Columns, cdc.Column{Name: fmt.Sprintf("column_%d", i), Type: 25, Modifier: -1, Identity: true})
			before = append(before, text(strings.Repeat("a", 20)))
			after = append(after, text(strings.Repeat("b", 20)))
		}
		for _, bm := range []struct {
			name  string
			frame frame
		}{
			{"insert", change('I', rel.OID, image{'N', after})},
			{"update", change('U', rel.OID, image{'O', before}, image{'N', after})},
			{"delete", change('D', rel.OID, image{'O', before})},
		} {
			b.Run(fmt.Sprintf("%s/columns=%d", bm.name, columns), func(b *testing.B) {
				d := decoder(b, begin(7, 900, 1), relation(rel))
				b.SetBytes(int64(len(bm.frame)))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := d.Decode(bm.frame); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// A tuple costs its row and one string; a change adds the event.
func TestTupleCostsOneString(t *testing.T) {
	rel := users(cdc.IdentityFull)
	one := row(text("1"), text("name"), text("bio"), text("2.50"))
	d := decoder(t, begin(7, 900, 1), relation(rel))
	for name, tt := range map[string]struct {
		frame frame
		want  float64
	}{
		"insert": {change('I', rel.OID, image{'N', one}), 3},
		"update": {change('U', rel.OID, image{'O', one}, image{'N', one}), 5},
		"delete": {change('D', rel.OID, image{'O', one}), 3},
	} {
		got := testing.AllocsPerRun(100, func() {
			if _, err := d.Decode(tt.frame); err != nil {
				t.Error(err)
			}
		})
		if got > tt.want {
			t.Errorf("%s: %v allocations, want %v", name, got, tt.want)
		}
	}
}
