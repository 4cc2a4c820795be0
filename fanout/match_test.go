package fanout

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

// allVisible is a Judge that costs next to nothing.
type allVisible struct{ verdicts [][]authz.Verdict }

func (j allVisible) Judge(context.Context, authz.Question) ([][]authz.Verdict, error) {
	return j.verdicts, nil
}

// noRows is a Snapshotter of an empty table.
type noRows struct{}

func (noRows) Snapshot(context.Context, authz.Reading, func(cdc.Snapshot) error, func(cdc.Row) error) error {
	return nil
}

// notes is a table with a policy's place, and nothing else.
func notes(tb testing.TB) *schema.Catalog {
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
	return c
}

// rig is a dispatcher that does not run, with live subscriptions of one principal to a table, and
// an update that all of them get.
func rig(tb testing.TB, subscriptions int, where func(i int) string) (*Dispatcher, *cdc.Batch, []*Subscription) {
	tb.Helper()
	c := notes(tb)
	rel := &cdc.Relation{OID: 1, Schema: "public", Name: "notes", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "id", Type: 25}, {Name: "text", Type: 25}}}
	b := &cdc.Batch{Transaction: cdc.Transaction{XID: 1, Commit: 100}, Last: true, Events: []cdc.Event{{
		Op: cdc.Update, Relation: rel,
		Old: cdc.Row{cdc.TextValue("1"), cdc.TextValue("a")}, New: cdc.Row{cdc.TextValue("1"), cdc.TextValue("b")},
	}}}
	codec, err := NewCursorCodec(CursorConfig{Secret: make([]byte, 32)})
	if err != nil {
		tb.Fatalf("make codec: %v", err)
	}
	mem, err := membus.New(membus.Config{})
	if err != nil {
		tb.Fatalf("make bus: %v", err)
	}
	judge := allVisible{[][]authz.Verdict{{authz.Visible, authz.Visible}}}
	d, err := New(Config{Bus: mem, Judge: judge, Snapshots: noRows{}, Catalog: c, Cursors: codec})
	if err != nil {
		tb.Fatalf("make dispatcher: %v", err)
	}
	p := authz.NewPrincipal("web_user", "ann", nil, time.Time{})
	subs := make([]*Subscription, subscriptions)
	for i := range subs {
		req := schema.Request{Query: "subscription { notes" + where(i) + " { kind row { id text } old { text } cursor } }"}
		v, err := compile(c, p, req)
		if err != nil {
			tb.Fatalf("compile: %v", err)
		}
		subs[i] = newSubscription(d, d.Open(p), req, v, nil)
		subs[i].phase = live
		if added, err := d.registry.add(subs[i], 1, c); !added || err != nil {
			tb.Fatalf("add: %v, %v", added, err)
		}
	}
	return d, b, subs
}

func all(int) string { return "" }

// cycle dispatches the update and takes what it made, and gives how many subscriptions got it.
func cycle(tb testing.TB, d *Dispatcher, b *cdc.Batch, subs []*Subscription) int {
	tb.Helper()
	d.inside = false
	if err := d.dispatch(context.Background(), b); err != nil {
		tb.Fatalf("dispatch: %v", err)
	}
	got := 0
	var room [1][]byte
	for _, s := range subs {
		s.sent()
		out, err := s.take(room[:0])
		if err != nil || len(out) > 1 {
			tb.Fatalf("%d payloads, %v", len(out), err)
		}
		got += len(out)
	}
	return got
}

func TestMatchingAllocatesNothingPerSubscriber(t *testing.T) {
	const many = 1000
	allocs := map[int]float64{}
	for _, n := range []int{1, many} {
		d, b, subs := rig(t, n, all)
		allocs[n] = testing.AllocsPerRun(20, func() {
			if got := cycle(t, d, b, subs); got != n {
				t.Errorf("%d of %d got the change", got, n)
			}
		})
		if err := d.dispatch(context.Background(), b); err != nil {
			t.Fatal(err)
		}
		for _, s := range subs {
			if &s.queue[0].payloads[0][0] != &subs[0].queue[0].payloads[0][0] {
				t.Fatal("a subscription has its own bytes")
			}
		}
	}
	if perSubscriber := (allocs[many] - allocs[1]) / many; perSubscriber > 0.01 {
		t.Errorf("%v allocations per subscriber (%v for one, %v for %d)", perSubscriber, allocs[1], allocs[many], many)
	}
}

func BenchmarkDispatch(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("%d subscribers", n), func(b *testing.B) {
			d, batch, subs := rig(b, n, all)
			b.ReportAllocs()
			for b.Loop() {
				cycle(b, d, batch, subs)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/subscriber")
		})
	}
}

// BenchmarkMatch finds, among subscriptions that each ask for another row, the one that a change
// concerns.
func BenchmarkMatch(b *testing.B) {
	for _, n := range []int{1, 1000, 100_000} {
		b.Run(fmt.Sprintf("%d subscriptions", n), func(b *testing.B) {
			d, batch, _ := rig(b, n, func(i int) string { return fmt.Sprintf(`(where: {id: {eq: "%d"}})`, i+1) })
			t, kinds, ok := d.registry.table(1)
			if !ok {
				b.Fatal("no table")
			}
			events := []*cdc.Event{&batch.Events[0]}
			var lanes []*lane
			b.ReportAllocs()
			for b.Loop() {
				subjects, _ := d.matcher.bind(t.schema, kinds, events)
				lanes = d.registry.find(t, lanes[:0], &batch.Transaction, subjects)
				if len(lanes) != 1 {
					b.Fatalf("%d lanes", len(lanes))
				}
				lanes[0].end()
			}
		})
	}
}

// What is held back until the end of a transaction is not lost where a new catalog has the
// subscription change its class in the middle of it.
func TestLastIsToldOverAChangeOfTheCatalog(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]bool{"more follows": true, "nothing follows": false} {
		d, b, _ := rig(t, 1, all)
		c := d.registry.present()
		p := authz.NewPrincipal("web_user", "ann", nil, time.Time{})
		req := schema.Request{Query: "subscription { notes { transaction { last } } }"}
		v, err := compile(c, p, req)
		if err != nil {
			t.Fatal(err)
		}
		s := newSubscription(d, d.Open(p), req, v, nil)
		s.phase = live
		if added, err := d.registry.add(s, 1, c); !added || err != nil {
			t.Fatalf("add: %v, %v", added, err)
		}
		first, second := *b, *b
		first.Last = false
		second.Events = []cdc.Event{b.Events[0]}
		second.Events[0].Seq = 1
		want := []string{`"last":false`, `"last":true`}
		if !more {
			second.Events, want = nil, want[1:]
		}
		if err := d.dispatch(t.Context(), &first); err != nil {
			t.Fatal(err)
		}
		before := s.class
		d.use(notes(t))
		if err := d.dispatch(t.Context(), &second); err != nil {
			t.Fatal(err)
		}
		got, err := s.Take(nil)
		if err != nil || len(got) != len(want) || s.class == before {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		for i := range want {
			if !bytes.Contains(got[i], []byte(want[i])) {
				t.Errorf("%s: frame %d is %s, want %s", name, i, got[i], want[i])
			}
		}
	}
}
