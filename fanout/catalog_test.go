package fanout_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

// changed is the table with one change.
func changed(change func(*schema.TableDef)) schema.TableDef {
	d := todos()
	d.Columns = slices.Clone(d.Columns)
	change(&d)
	return d
}

func withColumn(d *schema.TableDef) {
	d.Columns = append(d.Columns, column(5, "extra", "text", 25))
	d.Access = map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true, true, false, true}, RowSecurity: true, Policies: []int{0}}}
}

// Covers C54, C55, S57.
func TestNewCatalogTouchesOnlyWhoIsConcerned(t *testing.T) {
	t.Parallel()
	const goesOn, ends = "goes on", "SCHEMA_CHANGED"
	for name, tt := range map[string]struct {
		def  schema.TableDef
		want string // or the reason to resync
	}{
		"nothing but a comment": {changed(func(d *schema.TableDef) { d.Directives.Description = "new" }), goesOn},
		"a policy for another role": {changed(func(d *schema.TableDef) {
			d.Policies = append(d.Policies, schema.Policy{Name: "other", Permissive: true, Using: "true"})
		}), goesOn},
		"a column that it may not read was retyped": {changed(func(d *schema.TableDef) { d.Columns[3].Type = column(4, "", "int4", 23).Type }), goesOn},
		"a policy": {changed(func(d *schema.TableDef) { d.Policies = []schema.Policy{{Name: "own", Permissive: true, Using: "true"}} }), "policy_changed"},
		"a restrictive policy more": {changed(func(d *schema.TableDef) {
			d.Policies = append(d.Policies, schema.Policy{Name: "not", Using: "false"})
			d.Access = map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true, true, false}, RowSecurity: true, Policies: []int{0, 1}}}
		}), "policy_changed"},
		"no row-level security any more": {changed(func(d *schema.TableDef) {
			d.Access = map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true, true, false}}}
		}), "policy_changed"},
		"row-level security without a policy": {changed(func(d *schema.TableDef) {
			d.Access = map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true, true, false}, RowSecurity: true}}
		}), "policy_changed"},
		"a field is gone":          {changed(func(d *schema.TableDef) { d.Columns[2].Directives.Omit = true }), ends},
		"a field was retyped":      {changed(func(d *schema.TableDef) { d.Columns[2].Type = column(3, "", "int4", 23).Type }), ends},
		"a field was rewritten":    {changed(func(d *schema.TableDef) { d.Columns[2].Modifier = 9 }), "table_rewritten"},
		"a field became nullable":  {changed(func(d *schema.TableDef) { d.Columns[2].NotNull = false }), ends},
		"the type has a new name":  {changed(func(d *schema.TableDef) { d.Directives.Subscribe = &schema.Subscribe{Type: "Task"} }), ends},
		"made anew under its name": {changed(func(d *schema.TableDef) { d.OID = 77 }), ends},
		"no privilege any more":    {changed(func(d *schema.TableDef) { d.Access = nil }), ends},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, membus.Config{})
			w.write(put(1, "ann", "a"))
			d := w.start(fanout.Config{})
			ann, heals := w.follow(d, "ann", ""), w.subscribe(d, "ann", "snapshot: true")
			heals.expect("RESET", "SNAPSHOT 1 a", "LIVE")
			d.SetCatalog(catalog(t, tt.def))
			switch tt.want {
			case goesOn:
				w.relation = relation(tt.def)
				w.write(put(1, "ann", "b"))
				ann.expect("UPDATE 1 a-> b")
				heals.expect("UPDATE 1 a-> b")
			case ends:
				for _, c := range []*client{ann, heals} {
					_, err := c.expectEnd()
					if f := fanout.Explain(err); f.Code != schema.SchemaChanged {
						t.Errorf("ended with %v", err)
					}
				}
			default:
				ann.expectResync(tt.want)
				heals.expect("RESET "+tt.want, "SNAPSHOT 1 a", "LIVE")
			}
		})
	}
}

// Covers R34.
func TestCatalogOfAMessageIsInForceForItsTransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	next := changed(withColumn)
	var d *fanout.Dispatcher
	ready := make(chan struct{})
	d = w.start(fanout.Config{OnMessages: func(_ context.Context, tx cdc.Transaction, of []cdc.Message) {
		<-ready
		if m := of[0]; m.Prefix != "rowtide" || tx.XID == 0 {
			t.Errorf("message %+v of %+v", m, tx)
		}
		d.SetCatalog(catalog(t, next))
	}})
	close(ready)
	ann := w.follow(d, "ann", "")
	w.mu.Lock()
	w.commit += 16
	tx := cdc.Transaction{XID: 7000, Commit: w.commit}
	w.mu.Unlock()
	err := w.bus.Publish(t.Context(), &cdc.Batch{
		Transaction: tx, Messages: []cdc.Message{{Prefix: "rowtide"}}, Last: true,
		Events: []cdc.Event{{Op: cdc.Insert, Relation: relation(next), New: append(row(1, "ann", "a"), cdc.TextValue("x"))}},
	})
	if err != nil {
		t.Fatalf("publish: %v", err)
	}
	ann.expect("INSERT 1 a")
}

// Covers R35.
func TestRelationThatDoesNotFitIsReadAnewOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	next := changed(withColumn)
	w.write(put(1, "ann", "a"))
	reads := 0
	d := w.start(fanout.Config{Refresh: func(context.Context) (*schema.Catalog, error) {
		reads++
		if reads == 1 {
			return catalog(t, next), nil
		}
		return nil, errors.New("no connection")
	}})
	ann := w.follow(d, "ann", "")
	wide := func(id int, note string) cdc.Row { return append(row(id, "ann", note), cdc.TextValue("x")) }
	w.relation = relation(next)
	w.publishEvents(cdc.Event{Op: cdc.Insert, Relation: w.relation, New: wide(2, "b")})
	w.publishEvents(cdc.Event{Op: cdc.Insert, Relation: w.relation, New: wide(3, "c")})
	ann.expect("INSERT 2 b", "INSERT 3 c")
	heals := w.subscribe(d, "bob", "snapshot: true")
	heals.expect("RESET", "LIVE")
	unknown := relation(changed(func(d *schema.TableDef) { d.Columns = d.Columns[:3] }))
	for range 3 {
		w.publishEvents(cdc.Event{Op: cdc.Insert, Relation: unknown, New: row(4, "ann", "d")[:3]})
	}
	ann.expectResync("undecodable")
	heals.expect("RESET undecodable")
	w.follow(d, "ann", "")
	if reads != 2 {
		t.Errorf("the catalog was read %d times, want 2: once for each relation", reads)
	}
}

func TestSubscriptionsOfANewCatalogAreCompiledByIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "a"))
	d := w.start(fanout.Config{})
	w.follow(d, "ann", "")
	d.SetCatalog(catalog(t, changed(withColumn)))
	deadline := time.After(10 * time.Second)
	for {
		r, err := d.Subscribe(t.Context(), principal("ann", time.Time{}), schema.Request{Query: "subscription { todos { row { extra } } }"})
		if err == nil {
			r.Subscription.Close()
			return
		}
		select {
		case <-deadline:
			t.Fatalf("subscribe: %v", err)
		default:
		}
	}
}
