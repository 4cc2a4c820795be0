package rls_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// sleepy is a table whose policy sleeps for whom table slow names.
const sleepy = three + `CREATE TABLE slow (who text); GRANT SELECT ON slow TO {0};
	CREATE POLICY p ON t USING (CASE WHEN (current_setting('request.jwt.claims')::json ->> 'sub') IN (SELECT who FROM slow) THEN pg_sleep(3600) IS NOT NULL ELSE true END)`

// A principal whose policies time out is held up once: it is answered at once from then on, and so
// is everybody behind it. When its policies work again, it is heard again.
//
// Covers S47, S48.
func TestPrincipalThatTimesOutIsSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, sleepy+`; INSERT INTO slow VALUES ('u1')`)
	const limit = 3 * time.Second
	g := w.newJudge(t, func(c *rls.Config) { c.StatementTimeout = limit })
	tab := w.table(t, "t")
	images := []cdc.Row{texts("1", "x", "1")}
	// round is what a dispatcher does: it judges for all, and what is behind waits.
	round := func(who ...*authz.Principal) (string, time.Duration) {
		began := time.Now()
		got := w.askOf(t, g, tab, images, who...)
		took := time.Since(began)
		letters := ""
		for _, v := range got {
			letters += string("?vhu"[v[0]])
		}
		return letters, took
	}
	alone, beside := make([]time.Duration, 200), make([]time.Duration, 200)
	for i := range alone {
		if _, alone[i] = round(w.as(0, u2)); i == 0 {
			alone[i] = 0 // it connects
		}
	}
	if got, took := round(w.as(0, u1), w.as(0, u2)); got != "uv" || took >= limit {
		t.Errorf("the first time: %s, within %s", got, took)
	}
	if n := g.Stats().Suspended; n != 1 {
		t.Errorf("%d are suspended", n)
	}
	held := 0
	for i := range beside {
		got, took := round(w.as(0, u1), w.as(0, u2))
		if got != "uv" {
			t.Fatalf("round %d: %s", i, got)
		}
		if beside[i] = took; took >= limit {
			held++
		}
	}
	slices.Sort(alone)
	slices.Sort(beside)
	t.Logf("p50 and p99 of a round: %s and %s alone, %s and %s beside the poisoned one", alone[100], alone[198], beside[100], beside[198])
	if held > len(beside)/10 {
		t.Errorf("%d of %d rounds were held up", held, len(beside))
	}
	w.exec(t, "DELETE FROM slow")
	until := time.Now().Add(time.Minute)
	for got := ""; got != "vv"; got, _ = round(w.as(0, u1), w.as(0, u2)) {
		if time.Now().After(until) {
			t.Fatalf("never heard again: %s", got)
		}
	}
	if n := g.Stats().Suspended; n != 0 {
		t.Errorf("%d are suspended still", n)
	}
}

// Whoever has several subjects for whom the policies time out has these suspended, and nobody else: others were
// answered a moment ago.
//
// Covers S47, S48.
func TestSeveralWhoTimeOutTogetherSuspendNobodyElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, sleepy+`; INSERT INTO slow SELECT 'u' || g FROM generate_series(10, 99) g`)
	g := w.newJudge(t, func(c *rls.Config) { c.StatementTimeout = 200 * time.Millisecond })
	tab := w.table(t, "t")
	images := []cdc.Row{texts("1", "x", "1")}
	honest := w.as(0, u2)
	for foe := 10; foe < 90; foe += 4 {
		want(t, "the honest one", w.askOf(t, g, tab, images, honest)[0], "v")
		answered := time.Now()
		var foes []*authz.Principal
		for i := range 4 {
			foes = append(foes, w.as(0, fmt.Sprintf(`{"sub":"u%d"}`, foe+i)))
		}
		for i, v := range w.askOf(t, g, tab, images, foes...) {
			want(t, fmt.Sprint("foe ", i), v, "u")
		}
		if time.Since(answered) > 4*time.Second { // a busy machine: that might be the policies' fault
			continue
		}
		want(t, "the honest one behind them", w.askOf(t, g, tab, images, honest)[0], "v")
		if n := g.Stats().Suspended; n < len(foes) {
			t.Errorf("%d are suspended", n)
		}
		return
	}
	t.Error("the machine is too busy")
}

// A policy that times out for everybody is suspended as a whole: not each principal has to time out.
//
// Covers S48.
func TestPolicyThatTimesOutForAllIsSuspended(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 1, sleepy+`; INSERT INTO slow SELECT 'u' || g FROM generate_series(1, 40) g`)
	g := w.newJudge(t, func(c *rls.Config) { c.StatementTimeout = 200 * time.Millisecond })
	tab := w.table(t, "t")
	var who []*authz.Principal
	for i := range 40 {
		who = append(who, w.as(0, fmt.Sprintf(`{"sub":"u%d"}`, i+1)))
	}
	began := time.Now()
	for i, v := range w.askOf(t, g, tab, []cdc.Row{texts("1", "x", "1")}, who...) {
		want(t, fmt.Sprint("principal ", i), v, "u")
	}
	records := w.audit.take()
	failed := strings.Count(strings.Join(records, ";"), "undecided policy_failed 57014 1")
	if suspended := strings.Count(strings.Join(records, ";"), "undecided policy_suspended 1"); failed != 3 || suspended != 37 {
		t.Errorf("%d principals failed, %d were suspended", failed, suspended)
	}
	if n := g.Stats().Suspended; n != 4 {
		t.Errorf("%d are suspended, want three principals and all", n)
	}
	// One who would be answered waits until the policies were tried aside: so does a snapshot.
	other := w.as(0, `{"sub":"new"}`)
	err := g.Snapshot(t.Context(), authz.Reading{Principal: other, Table: tab, Readable: tab.Def.Access[other.Role].Columns}, func(cdc.Snapshot) error { return nil }, func(cdc.Row) error { return nil })
	const backOff = 4 * time.Second // after three failures
	if se := (*schema.Error)(nil); time.Since(began) < backOff && (!errors.As(err, &se) || se.Code != schema.ResyncRequired) {
		t.Errorf("a snapshot meanwhile: %v", err)
	}
}
