package fold

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

// A world is what the folder must agree with: tables as maps, changed one row at a time.
type world struct {
	rels   []*cdc.Relation
	before []map[string]cdc.Row
	now    []map[string]cdc.Row
	// touched is the time of the last change of each key since the last truncate.
	touched   []map[string]int
	truncated []bool
	// known are the images of which this transaction told every value, by table and key.
	known []map[string]bool
	clock int
	f     *Folder
	also  *Folder // gets the same changes, if there is one
	log   []string
}

const (
	worldKeys   = 5
	worldValues = 3
)

// rowKey is the text of a row's key, of one column or two.
func rowKey(r cdc.Row) string { return r[0].Text() + "/" + r[1].Text() }

// worldKey makes every second world's key of two columns.
func worldKey(two bool) func(*cdc.Relation) []int {
	return func(*cdc.Relation) []int {
		if two {
			return []int{0, 1}
		}
		return []int{0}
	}
}

func worldRelation(oid uint32, identity cdc.Identity, two bool) *cdc.Relation {
	full := identity == cdc.IdentityFull
	return &cdc.Relation{OID: oid, Name: "t" + strconv.Itoa(int(oid)), Identity: identity, Columns: []cdc.Column{
		{Name: "k", Type: textOID, Identity: true},
		{Name: "l", Type: textOID, Identity: full || two},
		{Name: "v", Type: textOID, Identity: full},
		{Name: "big", Type: textOID, Identity: full},
	}}
}

func drawValue(t *rapid.T, label string) cdc.Value {
	n := rapid.IntRange(0, worldValues).Draw(t, label)
	if n == 0 {
		return cdc.Value{}
	}
	return cdc.TextValue(strconv.Itoa(n))
}

func drawKey(t *rapid.T, two bool) (k, l cdc.Value) {
	n := rapid.IntRange(1, worldKeys).Draw(t, "key")
	if two {
		return cdc.TextValue(strconv.Itoa(n % 2)), cdc.TextValue(strconv.Itoa(n / 2))
	}
	return cdc.TextValue(strconv.Itoa(n)), cdc.TextValue("")
}

func drawRow(t *rapid.T, two bool) cdc.Row {
	k, l := drawKey(t, two)
	return cdc.Row{k, l, drawValue(t, "v"), drawValue(t, "big")}
}

func newWorld(t *rapid.T, identity cdc.Identity, two bool, cfg Config) *world {
	cfg.Key = worldKey(two)
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Begin()
	w := &world{f: f}
	for i := range rapid.IntRange(1, 2).Draw(t, "tables") {
		rows := make(map[string]cdc.Row)
		for range rapid.IntRange(0, worldKeys).Draw(t, "rows") {
			r := drawRow(t, two)
			rows[rowKey(r)] = r
		}
		w.rels = append(w.rels, worldRelation(uint32(i)+1, identity, two))
		w.before = append(w.before, rows)
		w.now = append(w.now, maps.Clone(rows))
		w.touched = append(w.touched, make(map[string]int))
		w.known = append(w.known, make(map[string]bool))
		w.truncated = append(w.truncated, false)
	}
	return w
}

func (w *world) add(ev cdc.Event) {
	w.log = append(w.log, line(&ev))
	if w.also != nil {
		both(ev, w.also)
	}
	w.f.Add(ev)
}

// step makes one random change, as pgoutput would tell it.
func (w *world) step(t *rapid.T, two bool) {
	w.clock++
	i := rapid.IntRange(0, len(w.rels)-1).Draw(t, "table")
	rel, rows := w.rels[i], w.now[i]
	r := drawRow(t, two)
	key := rowKey(r)
	switch what := rapid.IntRange(0, 19).Draw(t, "what"); {
	case what == 0:
		w.now[i] = make(map[string]cdc.Row)
		w.touched[i], w.known[i] = make(map[string]int), make(map[string]bool)
		w.truncated[i] = true
		w.add(cdc.Event{Op: cdc.Truncate, Relation: rel})
	case rows[key] == nil && len(rows) > 0 && what < 8:
		w.changeKey(t, i, r)
	case rows[key] == nil:
		rows[key] = r
		w.touched[i][key], w.known[i][key] = w.clock, true
		w.add(cdc.Event{Op: cdc.Insert, Relation: rel, New: r})
	case what < 6:
		old := rows[key]
		delete(rows, key)
		w.touched[i][key] = w.clock
		w.add(cdc.Event{Op: cdc.Delete, Relation: rel, Old: w.oldImage(rel, old)})
	default:
		old := rows[key]
		if what < 12 {
			r[3] = old[3]
		}
		w.update(i, old, r)
	}
}

// changeKey moves a random row to the key of r, which is free.
func (w *world) changeKey(t *rapid.T, i int, r cdc.Row) {
	from := rapid.SampledFrom(slices.Sorted(maps.Keys(w.now[i]))).Draw(t, "from")
	if rapid.Bool().Draw(t, "keep") {
		r[2], r[3] = w.now[i][from][2], w.now[i][from][3]
	}
	w.update(i, w.now[i][from], r)
}

// update tells a change of a row: under full identity with its old image, else with the key if
// that changed; under default identity the last column is out of line.
func (w *world) update(i int, old, r cdc.Row) {
	from, to := rowKey(old), rowKey(r)
	known := w.known[i][from]
	delete(w.now[i], from)
	w.now[i][to] = r
	w.touched[i][from] = w.clock
	w.touched[i][to] = w.clock
	ev := cdc.Event{Op: cdc.Update, Relation: w.rels[i], Old: w.oldImage(w.rels[i], old), New: slices.Clone(r)}
	if w.rels[i].Identity != cdc.IdentityFull {
		if from == to {
			ev.Old = nil
		}
		if !r[3].IsNull() && r[3] == old[3] {
			ev.New[3] = cdc.UnchangedValue()
		} else {
			known = true
		}
	}
	delete(w.known[i], from)
	w.known[i][to] = known
	w.add(ev)
}

func (w *world) oldImage(rel *cdc.Relation, r cdc.Row) cdc.Row {
	out := slices.Clone(r)
	for j := range out {
		if !rel.Columns[j].Identity {
			out[j] = cdc.AbsentValue()
		}
	}
	return out
}

// checkMemory holds what the folder counts against what it has.
func (w *world) checkMemory(t *rapid.T) {
	sum := w.f.messageBytes
	for _, tab := range w.f.seen {
		held, used := 0, 0
		for i := range tab.entries {
			if e := &tab.entries[i]; e.used {
				used++
				held += entryBytes + e.rows()
			}
		}
		for k := range tab.keys {
			held += len(k)
		}
		if len(tab.keys) != used || held != tab.held {
			t.Fatalf("%d keys, %d entries; %d bytes counted, %d held", len(tab.keys), used, tab.held, held)
		}
		sum += held
	}
	if sum != w.f.bytes {
		t.Fatalf("%d bytes counted, %d held", w.f.bytes, sum)
	}
}

func (w *world) run(t *rapid.T, two bool, check func(*rapid.T)) []cdc.Event {
	for range rapid.IntRange(0, 30).Draw(t, "steps") {
		w.step(t, two)
		check(t)
	}
	var out []cdc.Event
	last := false
	err := w.f.Finish(context.Background(), testTransaction, func(b *cdc.Batch) error {
		if last {
			t.Fatal("a batch follows the last")
		}
		last = b.Last
		out = append(out, b.Events...)
		return nil
	})
	if err != nil || !last {
		t.Fatalf("err %v, last %v", err, last)
	}
	return out
}

func (w *world) fail(t *rapid.T, out []cdc.Event, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	for _, l := range w.log {
		text += "\n  in:  " + l
	}
	for i := range out {
		text += "\n  out: " + line(&out[i])
	}
	t.Fatal(text)
}

// checkOrder holds the events against the times of the last changes.
func (w *world) checkOrder(t *rapid.T, out []cdc.Event) {
	lastTime, lastOp := 0, cdc.Delete
	for n := range out {
		ev := &out[n]
		if ev.Seq != uint32(n) {
			w.fail(t, out, "event %d has Seq %d", n, ev.Seq)
		}
		if ev.Op == cdc.Truncate {
			if lastTime > 0 {
				w.fail(t, out, "a truncate follows a change")
			}
			continue
		}
		image := ev.New
		if image == nil {
			image = ev.Old
		}
		at := w.touched[ev.Relation.OID-1][rowKey(keyImage(image))]
		if at < lastTime || (at == lastTime && (lastOp != cdc.Delete || ev.Op == cdc.Delete)) {
			w.fail(t, out, "event %d is out of order", n)
		}
		lastTime, lastOp = at, ev.Op
	}
}

// keyImage stands in for the columns that a key of one column leaves absent.
func keyImage(r cdc.Row) cdc.Row {
	if r[1].Known() {
		return r
	}
	return cdc.Row{r[0], cdc.TextValue("")}
}

// check tries a property 1,000 times, which takes a tenth of a second.
func check(t *testing.T, property func(*rapid.T)) {
	t.Helper()
	for range 10 {
		rapid.Check(t, property)
	}
}

func FuzzFold(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		switch rapid.IntRange(0, 2).Draw(t, "property") {
		case 0:
			differenceOfTheTables(t)
		case 1:
			defaultIdentity(t)
		default:
			nothingButGaps(t)
		}
	}))
}

// The events, applied to the tables as they were, give the tables as they are; each says the
// truth about both, none is superfluous, and they are in order. So an image in between, which
// nobody could see, is in none of them.
func TestFoldedEventsAreTheDifferenceOfTheTables(t *testing.T) {
	t.Parallel()
	check(t, differenceOfTheTables)
}

func differenceOfTheTables(t *rapid.T) {
	two := rapid.Bool().Draw(t, "two columns in the key")
	w := newWorld(t, cdc.IdentityFull, two, Config{BatchEvents: rapid.IntRange(1, 4).Draw(t, "batch")})
	out := w.run(t, two, w.checkMemory)
	w.checkOrder(t, out)
	tables := w.before
	seen := make(map[string]bool)
	for n := range out {
		ev := &out[n]
		i := ev.Relation.OID - 1
		if ev.Op == cdc.Truncate {
			if !w.truncated[i] || seen[ev.Relation.Name] {
				w.fail(t, out, "event %d: there was no such truncate", n)
			}
			seen[ev.Relation.Name] = true
			tables[i] = make(map[string]cdc.Row)
			continue
		}
		key := w.apply(t, out, n, tables[i])
		if id := ev.Relation.Name + " " + key; seen[id] {
			w.fail(t, out, "event %d: a second one of its key", n)
		} else {
			seen[id] = true
		}
	}
	for i := range tables {
		if w.truncated[i] != seen[w.rels[i].Name] {
			w.fail(t, out, "the truncate of %s is missing", w.rels[i].Name)
		}
		if !maps.EqualFunc(tables[i], w.now[i], cdc.Row.Equal) {
			w.fail(t, out, "table %d is %v in the end, want %v", i, tables[i], w.now[i])
		}
	}
}

// apply does event n to a table, having checked that it is true of it.
func (w *world) apply(t *rapid.T, out []cdc.Event, n int, rows map[string]cdc.Row) string {
	ev := &out[n]
	image := ev.New
	if image == nil {
		image = ev.Old
	}
	if image == nil {
		w.fail(t, out, "event %d has no image", n)
	}
	key := rowKey(image)
	if had := rows[key]; (had != nil) != (ev.Old != nil) || !had.Equal(ev.Old) {
		w.fail(t, out, "event %d: the row before is %s", n, show(had))
	}
	ok := false
	switch ev.Op {
	case cdc.Insert:
		ok = ev.Old == nil && ev.New != nil
	case cdc.Update:
		ok = ev.Old != nil && ev.New != nil && rowKey(ev.Old) == rowKey(ev.New) && !ev.Old.Equal(ev.New)
	case cdc.Delete:
		ok = ev.Old != nil && ev.New == nil
	case cdc.Truncate, cdc.Gap:
	}
	if !ok {
		w.fail(t, out, "event %d: the operation does not fit the images", n)
	}
	delete(rows, key)
	if ev.New != nil {
		rows[key] = ev.New
	}
	return key
}

// Under default identity old images are missing, so an Update may be of equal images; all else
// holds: inserts and deletes are the difference of the keys, each new image is the row in the
// end, and a value is left unchanged only where the transaction never told it.
func TestFoldedEventsUnderDefaultIdentity(t *testing.T) {
	t.Parallel()
	check(t, defaultIdentity)
}

func defaultIdentity(t *rapid.T) {
	two := rapid.Bool().Draw(t, "two columns in the key")
	w := newWorld(t, cdc.IdentityDefault, two, Config{})
	out := w.run(t, two, w.checkMemory)
	w.checkOrder(t, out)
	ops := make([]map[string]cdc.Op, len(w.rels))
	for i := range ops {
		ops[i] = make(map[string]cdc.Op)
	}
	for n := range out {
		ev := &out[n]
		i := ev.Relation.OID - 1
		switch ev.Op {
		case cdc.Insert, cdc.Update:
			key := rowKey(ev.New)
			ops[i][key] = ev.Op
			want := slices.Clone(w.now[i][key])
			if want != nil && !w.known[i][key] && ev.New[3].Kind() == cdc.Unchanged {
				want[3] = cdc.UnchangedValue()
			}
			if !want.Equal(ev.New) {
				w.fail(t, out, "event %d: the row in the end is %s", n, show(want))
			}
		case cdc.Delete:
			ops[i][rowKey(keyImage(ev.Old))] = ev.Op
		case cdc.Truncate, cdc.Gap:
		}
	}
	for i := range ops {
		w.checkKeys(t, out, i, ops[i])
	}
}

// checkKeys holds the operations on a table against the keys before and after.
func (w *world) checkKeys(t *rapid.T, out []cdc.Event, i int, ops map[string]cdc.Op) {
	for n := 0; n <= worldKeys; n++ {
		for _, key := range []string{fmt.Sprintf("%d/", n), fmt.Sprintf("%d/%d", n%2, n/2)} {
			before, after := w.before[i][key] != nil && !w.truncated[i], w.now[i][key] != nil
			_, touched := w.touched[i][key]
			var want cdc.Op
			switch {
			case before && after && touched:
				want = cdc.Update
			case after && !before:
				want = cdc.Insert
			case before && !after:
				want = cdc.Delete
			}
			if ops[key] != want {
				w.fail(t, out, "key %s of table %d: got %s, want %s", key, i, ops[key], want)
			}
		}
	}
}

// However small the limit, a transaction is either folded or, whole, given up for a Gap of each
// relation that it changed; and what is held never passes the limit.
func TestOverTheLimitThereIsNothingButGaps(t *testing.T) {
	t.Parallel()
	check(t, nothingButGaps)
}

func nothingButGaps(t *rapid.T) {
	limit := rapid.IntRange(1, 4000).Draw(t, "limit")
	w := newWorld(t, cdc.IdentityFull, false, Config{MaxBytes: limit})
	touched := make(map[string]bool)
	over := false
	out := w.run(t, false, func(t *rapid.T) {
		w.checkMemory(t)
		if w.f.bytes > limit {
			t.Fatalf("%d bytes held, %d allowed", w.f.bytes, limit)
		}
		over = over || w.f.over
		for _, tab := range w.f.seen {
			touched[tab.rel.Name] = true
		}
	})
	for n := range out {
		if (out[n].Op == cdc.Gap) != over {
			w.fail(t, out, "event %d: given up is %v", n, over)
		}
		if over && out[n].Reason != "transaction_size" {
			w.fail(t, out, "event %d has the reason %q", n, out[n].Reason)
		}
	}
	if over && len(out) != len(touched) {
		w.fail(t, out, "%d relations changed", len(touched))
	}
}
