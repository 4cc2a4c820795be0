package fanout

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// allVisible is a Judge that costs next to nothing.
type allVisible struct{ verdicts [][]authz.Verdict }

func (j allVisible) Judge(context.Context, authz.Question) ([][]authz.Verdict, error) {
	return j.verdicts, nil
}

// rig is a matcher with lanes of one principal and document.
func rig(tb testing.TB, lanes int) (matcher, *cdc.Batch, []*cdc.Event, []*lane) {
	tb.Helper()
	column := func(n int16, name string) schema.ColumnDef {
		return schema.ColumnDef{
			Name: name, Number: n, Modifier: -1, NotNull: true, Deterministic: true,
			Type: &schema.Type{OID: 25, Schema: "pg_catalog", Name: "text", Kind: 'b', Delimiter: ','},
		}
	}
	c, problems := schema.New(schema.Database{
		Version: 150018, Roles: []string{"web_user"}, Schemas: []string{"public"},
		Tables: []schema.TableDef{{
			OID: 1, Schema: "public", Name: "notes", Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull, RowSecurity: true,
			Columns:    []schema.ColumnDef{column(1, "id"), column(2, "text")},
			Keys:       []schema.KeyDef{{Columns: []string{"id"}, Primary: true, Usable: true}},
			Directives: schema.Directives{Subscribe: &schema.Subscribe{}},
			Access:     map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true}}},
		}},
	}, schema.Options{})
	for _, p := range problems {
		tb.Fatalf("catalog: %+v", p)
	}
	rel := &cdc.Relation{OID: 1, Schema: "public", Name: "notes", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "id", Type: 25}, {Name: "text", Type: 25}}}
	b := &cdc.Batch{Transaction: cdc.Transaction{XID: 1, Commit: 100}, Last: true, Events: []cdc.Event{{
		Op: cdc.Update, Relation: rel,
		Old: cdc.Row{cdc.TextValue("1"), cdc.TextValue("a")}, New: cdc.Row{cdc.TextValue("1"), cdc.TextValue("b")},
	}}}
	p := authz.NewPrincipal("web_user", "ann", nil, time.Time{})
	v, err := compile(c, p, schema.Request{Query: "subscription { notes { kind row { id text } old { text } cursor } }"})
	if err != nil {
		tb.Fatalf("compile: %v", err)
	}
	m := matcher{judge: allVisible{[][]authz.Verdict{{authz.Visible, authz.Visible}}}, bindings: &bindings{}}
	return m, b, []*cdc.Event{&b.Events[0]}, slices.Collect(func(yield func(*lane) bool) {
		for range lanes {
			if !yield(&lane{view: v}) {
				return
			}
		}
	})
}

func TestMatchingAllocatesNothingPerSubscriber(t *testing.T) {
	const many = 1000
	allocs := map[int]float64{}
	for _, n := range []int{1, many} {
		m, b, events, lanes := rig(t, n)
		codec, err := NewCursorCodec(CursorConfig{Secret: make([]byte, 32)})
		if err != nil {
			t.Fatalf("make codec: %v", err)
		}
		w := newWriter(codec)
		allocs[n] = testing.AllocsPerRun(20, func() {
			w.turn(b)
			for _, l := range lanes {
				l.reset(l.view)
			}
			if err := m.match(context.Background(), w, events, lanes); err != nil {
				t.Errorf("match: %v", err)
			}
		})
		for _, l := range lanes {
			if len(l.frames) != 1 || &l.frames[0].payload[0] != &lanes[0].frames[0].payload[0] {
				t.Fatalf("lane has %d frames, or its own bytes", len(l.frames))
			}
		}
	}
	if perSubscriber := (allocs[many] - allocs[1]) / many; perSubscriber > 0.01 {
		t.Errorf("%v allocations per subscriber (%v for one, %v for %d)", perSubscriber, allocs[1], allocs[many], many)
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("%d subscribers", n), func(b *testing.B) {
			m, batch, events, lanes := rig(b, n)
			codec, err := NewCursorCodec(CursorConfig{Secret: make([]byte, 32)})
			if err != nil {
				b.Fatalf("make codec: %v", err)
			}
			w := newWriter(codec)
			b.ReportAllocs()
			for b.Loop() {
				w.turn(batch)
				for _, l := range lanes {
					l.reset(l.view)
				}
				if err := m.match(context.Background(), w, events, lanes); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/subscriber")
		})
	}
}
