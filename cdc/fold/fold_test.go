package fold

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc"
)

const int8OID, textOID = 20, 25

func relation(oid uint32, name string, identity cdc.Identity) *cdc.Relation {
	full := identity == cdc.IdentityFull
	return &cdc.Relation{OID: oid, Schema: "public", Name: name, Identity: identity, Columns: []cdc.Column{
		{Name: "id", Type: int8OID, Modifier: -1, Identity: true},
		{Name: "v", Type: textOID, Modifier: -1, Identity: full},
	}}
}

// byID folds by the column id, as a catalog would say for every table here.
func byID(rel *cdc.Relation) []int {
	if i := rel.Column("id"); i >= 0 {
		return []int{i}
	}
	return nil
}

// row makes an image of its columns: "-" is NULL, "~" unchanged, "?" absent.
func row(values ...string) cdc.Row {
	r := make(cdc.Row, len(values))
	for i, v := range values {
		switch v {
		case "-":
		case "~":
			r[i] = cdc.UnchangedValue()
		case "?":
			r[i] = cdc.AbsentValue()
		default:
			r[i] = cdc.TextValue(v)
		}
	}
	return r
}

func show(r cdc.Row) string {
	if r == nil {
		return "nil"
	}
	var b strings.Builder
	for i, v := range r {
		if i > 0 {
			b.WriteByte(',')
		}
		switch v.Kind() {
		case cdc.Null:
			b.WriteByte('-')
		case cdc.Unchanged:
			b.WriteByte('~')
		case cdc.Absent:
			b.WriteByte('?')
		case cdc.Text:
			b.WriteString(v.Text())
		}
	}
	return b.String()
}

func line(ev *cdc.Event) string {
	name := "*"
	if ev.Relation != nil {
		name = ev.Relation.Name
	}
	switch ev.Op {
	case cdc.Gap:
		return fmt.Sprintf("gap %s %s", name, ev.Reason)
	case cdc.Truncate:
		return "truncate " + name
	case cdc.Insert, cdc.Update, cdc.Delete:
	}
	return fmt.Sprintf("%s %s %s>%s", ev.Op, name, show(ev.Old), show(ev.New))
}

func newFolder(t testing.TB, cfg Config) *Folder {
	t.Helper()
	if cfg.Key == nil {
		cfg.Key = byID
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Begin()
	return f
}

var testTransaction = cdc.Transaction{XID: 7, Commit: 100, End: 108}

// finish gives the batches, having checked what holds for all of them.
func finish(t testing.TB, f *Folder) []*cdc.Batch {
	t.Helper()
	var out []*cdc.Batch
	err := f.Finish(t.Context(), testTransaction, func(b *cdc.Batch) error {
		out = append(out, b)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seq := uint32(0)
	for i, b := range out {
		if b.Transaction != testTransaction {
			t.Errorf("batch %d is of %v", i, b.Transaction)
		}
		if b.Last != (i == len(out)-1) {
			t.Errorf("batch %d of %d has Last = %v", i, len(out), b.Last)
		}
		if i > 0 && (len(b.Messages) > 0 || len(b.Events) == 0) {
			t.Errorf("batch %d has %d messages and %d events", i, len(b.Messages), len(b.Events))
		}
		for _, ev := range b.Events {
			if ev.Seq != seq {
				t.Fatalf("Seq is %d where %d is due", ev.Seq, seq)
			}
			seq++
		}
	}
	return out
}

func lines(batches []*cdc.Batch) []string {
	var out []string
	for _, b := range batches {
		for i := range b.Events {
			out = append(out, line(&b.Events[i]))
		}
	}
	return out
}

func insert(rel *cdc.Relation, values ...string) cdc.Event {
	return cdc.Event{Op: cdc.Insert, Relation: rel, New: row(values...)}
}

func remove(rel *cdc.Relation, values ...string) cdc.Event {
	return cdc.Event{Op: cdc.Delete, Relation: rel, Old: row(values...)}
}

func update(rel *cdc.Relation, before, after cdc.Row) cdc.Event {
	return cdc.Event{Op: cdc.Update, Relation: rel, Old: before, New: after}
}

func truncate(rel *cdc.Relation) cdc.Event { return cdc.Event{Op: cdc.Truncate, Relation: rel} }

// Covers C47, C60, C87.
func TestNetEffectOfOneTransaction(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	b := relation(2, "b", cdc.IdentityFull)
	d := relation(3, "d", cdc.IdentityDefault)
	u := &cdc.Relation{OID: 4, Name: "u", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "x", Type: textOID}}}
	for name, tt := range map[string]struct {
		in   []cdc.Event
		want []string
	}{
		"nothing":                    {},
		"insert":                     {[]cdc.Event{insert(a, "1", "x")}, []string{"insert a nil>1,x"}},
		"insert, update":             {[]cdc.Event{insert(a, "1", "x"), update(a, row("1", "x"), row("1", "y"))}, []string{"insert a nil>1,y"}},
		"insert, delete":             {[]cdc.Event{insert(a, "1", "x"), remove(a, "1", "x")}, nil},
		"insert, delete, insert":     {[]cdc.Event{insert(a, "1", "x"), remove(a, "1", "x"), insert(a, "1", "y")}, []string{"insert a nil>1,y"}},
		"update, update":             {[]cdc.Event{update(a, row("1", "x"), row("1", "y")), update(a, row("1", "y"), row("1", "z"))}, []string{"update a 1,x>1,z"}},
		"update and back":            {[]cdc.Event{update(a, row("1", "x"), row("1", "y")), update(a, row("1", "y"), row("1", "x"))}, nil},
		"update of nothing":          {[]cdc.Event{update(a, row("1", "x"), row("1", "x"))}, nil},
		"update, delete":             {[]cdc.Event{update(a, row("1", "x"), row("1", "y")), remove(a, "1", "y")}, []string{"delete a 1,x>nil"}},
		"delete, insert":             {[]cdc.Event{remove(a, "1", "x"), insert(a, "1", "y")}, []string{"update a 1,x>1,y"}},
		"delete, the same again":     {[]cdc.Event{remove(a, "1", "x"), insert(a, "1", "x")}, nil},
		"NULL is not the empty text": {[]cdc.Event{update(a, row("1", "-"), row("1", ""))}, []string{"update a 1,->1,"}},
		"key change": {
			[]cdc.Event{update(a, row("1", "x"), row("2", "x"))},
			[]string{"delete a 1,x>nil", "insert a nil>2,x"},
		},
		"key change of a new row": {
			[]cdc.Event{insert(a, "1", "x"), update(a, row("1", "x"), row("2", "x"))},
			[]string{"insert a nil>2,x"},
		},
		"key change and back": {
			[]cdc.Event{update(a, row("1", "x"), row("2", "x")), update(a, row("2", "x"), row("1", "x"))},
			nil,
		},
		"keys swapped through a third": {
			[]cdc.Event{
				update(a, row("1", "x"), row("0", "x")), update(a, row("2", "y"), row("1", "y")),
				update(a, row("0", "x"), row("2", "x")),
			},
			[]string{"update a 1,x>1,y", "update a 2,y>2,x"},
		},
		"key taken over": {
			[]cdc.Event{remove(a, "2", "y"), update(a, row("1", "x"), row("2", "x"))},
			[]string{"delete a 1,x>nil", "update a 2,y>2,x"},
		},
		"order is that of the last change": {
			[]cdc.Event{
				insert(a, "1", "x"), insert(b, "1", "x"), insert(a, "2", "x"),
				update(a, row("1", "x"), row("1", "y")),
			},
			[]string{"insert b nil>1,x", "insert a nil>2,x", "insert a nil>1,y"},
		},
		"truncate comes first and voids": {
			[]cdc.Event{insert(b, "9", "x"), insert(a, "1", "x"), remove(a, "2", "x"), truncate(a), insert(a, "2", "z"), truncate(a), insert(a, "3", "z")},
			[]string{"truncate a", "insert b nil>9,x", "insert a nil>3,z"},
		},
		"after a truncate all is new": {
			[]cdc.Event{remove(a, "1", "x"), truncate(a), insert(a, "1", "x")},
			[]string{"truncate a", "insert a nil>1,x"},
		},
		"update without an old image": {
			[]cdc.Event{update(d, nil, row("1", "y")), update(d, nil, row("1", "z"))},
			[]string{"update d nil>1,z"},
		},
		"insert, update without an old image": {
			[]cdc.Event{insert(d, "1", "x"), update(d, nil, row("1", "z"))},
			[]string{"insert d nil>1,z"},
		},
		"update without an old image, delete": {
			[]cdc.Event{update(d, nil, row("1", "y")), remove(d, "1", "?")},
			[]string{"delete d 1,?>nil"},
		},
		"insert, delete by key": {[]cdc.Event{insert(d, "1", "x"), remove(d, "1", "?")}, nil},
		"delete by key, insert": {[]cdc.Event{remove(d, "1", "?"), insert(d, "1", "x")}, []string{"update d 1,?>1,x"}},
		"key change under default identity": {
			[]cdc.Event{update(d, row("1", "?"), row("2", "y"))},
			[]string{"delete d 1,?>nil", "insert d nil>2,y"},
		},
		"unknown key": {
			[]cdc.Event{insert(u, "1"), insert(a, "1", "x"), remove(u, "1"), insert(u, "2"), truncate(u), insert(u, "3"), remove(u, "3")},
			[]string{"truncate u", "insert a nil>1,x", "insert u nil>3", "delete u 3>nil"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, Config{})
			for _, ev := range tt.in {
				f.Add(ev)
			}
			if diff := cmp.Diff(tt.want, lines(finish(t, f))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A table's identity becomes full in the transaction: the old images from then on are those that
// the transaction made itself. They are not those from before it.
func TestAnImageOfTheTransactionIsNeverTheOneBefore(t *testing.T) {
	t.Parallel()
	d, full := relation(1, "d", cdc.IdentityDefault), relation(1, "d", cdc.IdentityFull)
	f := newFolder(t, Config{})
	f.Add(update(d, nil, row("1", "made")))
	f.Add(update(d, nil, row("2", "made")))
	f.Add(remove(full, "1", "made"))
	f.Add(update(full, row("2", "made"), row("2", "last")))
	if diff := cmp.Diff([]string{"delete d 1,?>nil", "update d nil>2,last"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}
}

// Unchanged out-of-line values are taken from the newest image that knows them, and stay
// unchanged where none does. The event that came in is not written to.
//
// Covers C45.
func TestUnchangedValuesComeFromTheOlderImage(t *testing.T) {
	t.Parallel()
	d := relation(3, "d", cdc.IdentityDefault)
	a := relation(1, "a", cdc.IdentityFull)
	keyed := relation(5, "k", cdc.IdentityDefault)
	in := update(d, nil, row("1", "~"))
	for name, tt := range map[string]struct {
		in   []cdc.Event
		want []string
	}{
		"from the insert":        {[]cdc.Event{insert(d, "1", "big"), in}, []string{"insert d nil>1,big"}},
		"from an update":         {[]cdc.Event{update(d, nil, row("1", "big")), update(d, nil, row("1", "~"))}, []string{"update d nil>1,big"}},
		"from nowhere":           {[]cdc.Event{update(d, nil, row("1", "~"))}, []string{"update d nil>1,~"}},
		"from the old image":     {[]cdc.Event{update(a, row("1", "big"), row("1", "~"))}, nil},
		"over a changed key":     {[]cdc.Event{insert(d, "1", "big"), update(d, row("1", "?"), row("2", "~"))}, []string{"insert d nil>2,big"}},
		"changed key, no source": {[]cdc.Event{update(d, row("1", "?"), row("2", "~"))}, []string{"delete d 1,?>nil", "insert d nil>2,~"}},
		"the key itself":         {[]cdc.Event{update(keyed, row("long", "?"), row("~", "x"))}, []string{"update k long,?>long,x"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFolder(t, Config{})
			for _, ev := range tt.in {
				f.Add(ev)
			}
			if diff := cmp.Diff(tt.want, lines(finish(t, f))); diff != "" {
				t.Error(diff)
			}
		})
	}
	if show(in.New) != "1,~" {
		t.Errorf("the event that came in now says %s", show(in.New))
	}
}

// What cannot be true of a key means that the key is none, or that something was lost. A key
// that is checked at commit does that: UPDATE … SET id = id + 1 arrives as 1→2, 2→3.
func TestWhatNoKeyCanDoBecomesAGap(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	for name, in := range map[string][]cdc.Event{
		"insert of a key that is there":   {insert(a, "1", "x"), insert(a, "1", "y")},
		"delete of a key that is gone":    {remove(a, "1", "x"), remove(a, "1", "x")},
		"update of a key that is gone":    {remove(a, "1", "x"), update(a, row("1", "x"), row("1", "y"))},
		"update of a row from elsewhere":  {insert(a, "1", "x"), update(a, row("1", "z"), row("1", "y"))},
		"deferred key":                    {update(a, row("1", "x"), row("2", "x")), update(a, row("2", "y"), row("3", "y"))},
		"delete of a row before truncate": {truncate(a), remove(a, "1", "x")},
		"update of a row before truncate": {truncate(a), update(a, row("1", "x"), row("1", "y"))},
		"image without its key":           {insert(a, "?", "x")},
		"image of other columns":          {insert(a, "1")},
		"delete without an image":         {{Op: cdc.Delete, Relation: a}},
		"update of an unknown key":        {update(a, nil, row("~", "x"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := relation(2, "b", cdc.IdentityFull)
			f := newFolder(t, Config{})
			f.Add(insert(b, "1", "x"))
			for _, ev := range in {
				f.Add(ev)
			}
			f.Add(insert(a, "77", "x"))
			want := []string{"gap a undecodable", "insert b nil>1,x"}
			if diff := cmp.Diff(want, lines(finish(t, f))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestGapsOfTheDecoderReplaceTheChanges(t *testing.T) {
	t.Parallel()
	a, b := relation(1, "a", cdc.IdentityFull), relation(2, "b", cdc.IdentityFull)
	f := newFolder(t, Config{})
	f.Add(insert(a, "1", "x"))
	f.Add(insert(b, "1", "x"))
	f.Add(cdc.Event{Op: cdc.Gap, Relation: a, Reason: "undecodable"})
	f.Add(cdc.Event{Op: cdc.Gap, Relation: a, Reason: "another"})
	f.Add(insert(a, "2", "x"))
	if diff := cmp.Diff([]string{"gap a undecodable", "insert b nil>1,x"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}

	f.Begin()
	f.Add(insert(a, "1", "x"))
	f.Add(cdc.Event{Op: cdc.Gap, Reason: "undecodable"})
	f.Add(insert(b, "1", "x"))
	if diff := cmp.Diff([]string{"gap * undecodable"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}
}

// A transaction that grows over the limit is given up for one Gap of each relation that it
// changed, and holds next to nothing while the rest of it streams in. The next transaction folds.
//
// Covers C66.
func TestTooLargeATransactionBecomesGaps(t *testing.T) {
	t.Parallel()
	a, b, c := relation(1, "a", cdc.IdentityFull), relation(2, "b", cdc.IdentityFull), relation(3, "c", cdc.IdentityFull)
	f := newFolder(t, Config{MaxBytes: 100_000})
	f.Message(cdc.Message{Prefix: "p", Content: []byte("kept")})
	f.Truncate(c)
	f.Add(insert(b, "1", "x"))
	for i := range 5000 {
		f.Add(insert(a, fmt.Sprint(i), strings.Repeat("x", 100)))
		if f.bytes > 100_000 {
			t.Fatalf("%d bytes are held after %d rows", f.bytes, i)
		}
	}
	if n := len(f.tables[1].entries); n > 0 || !f.over {
		t.Fatalf("%d entries are held; given up: %v", n, f.over)
	}
	late := relation(4, "late", cdc.IdentityFull)
	f.Truncate(late)
	batches := finish(t, f)
	want := []string{"gap c transaction_size", "gap b transaction_size", "gap a transaction_size", "gap late transaction_size"}
	if diff := cmp.Diff(want, lines(batches)); diff != "" {
		t.Error(diff)
	}
	if len(batches[0].Messages) != 1 {
		t.Error("the message is lost")
	}

	f.Begin()
	f.Add(insert(a, "1", "x"))
	if diff := cmp.Diff([]string{"insert a nil>1,x"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}
}

// Rows that come and go within the transaction are not held, however many they are.
func TestRowsThatCameAndWentTakeNoMemory(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	f := newFolder(t, Config{MaxBytes: 10_000})
	f.Add(insert(a, "last", "x"))
	for i := range 5000 {
		f.Add(insert(a, fmt.Sprint(i), strings.Repeat("x", 100)))
		f.Add(remove(a, fmt.Sprint(i), strings.Repeat("x", 100)))
	}
	for range 5000 {
		f.Add(insert(a, "again", strings.Repeat("x", 100)))
		f.Truncate(a)
	}
	f.Add(insert(a, "last", "x"))
	if diff := cmp.Diff([]string{"truncate a", "insert a nil>last,x"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}
}

func TestMessagesOverTheLimitConcernEveryRelation(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	f := newFolder(t, Config{MaxBytes: 10_000})
	f.Add(insert(a, "1", "x"))
	for range 200 {
		f.Message(cdc.Message{Prefix: "p", Content: make([]byte, 100)})
	}
	if f.bytes > 10_000 {
		t.Errorf("%d bytes are held", f.bytes)
	}
	batches := finish(t, f)
	if diff := cmp.Diff([]string{"gap * transaction_size"}, lines(batches)); diff != "" {
		t.Error(diff)
	}
}

func TestBatchesAreBoundedAndMessagesComeFirst(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	for _, tt := range []struct {
		cfg     Config
		want    []int // events of each batch
		rowSize int
	}{
		{Config{BatchEvents: 4}, []int{4, 4, 2}, 1},
		{Config{BatchEvents: 10}, []int{10}, 1},
		{Config{BatchBytes: 1000}, []int{4, 4, 2}, 100},
		{Config{BatchBytes: 1000}, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 2000},
	} {
		f := newFolder(t, tt.cfg)
		for i := range 10 {
			f.Add(insert(a, fmt.Sprint(i), strings.Repeat("x", tt.rowSize)))
			f.Message(cdc.Message{Prefix: "p", Content: []byte{byte(i)}})
		}
		var got []int
		batches := finish(t, f)
		for _, b := range batches {
			got = append(got, len(b.Events))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v, rows of %d: %s", tt.cfg, tt.rowSize, diff)
		}
		for i, m := range batches[0].Messages {
			if m.Content[0] != byte(i) {
				t.Errorf("message %d is %v", i, m.Content)
			}
		}
		if len(batches[0].Messages) != 10 {
			t.Errorf("the first batch has %d messages", len(batches[0].Messages))
		}
	}
}

func TestATransactionWithoutEffectMovesThePosition(t *testing.T) {
	t.Parallel()
	f := newFolder(t, Config{})
	batches := finish(t, f)
	if len(batches) != 1 || !batches[0].Last || len(batches[0].Events) != 0 {
		t.Errorf("got %+v", batches)
	}
}

func TestFinishStopsAtTheFirstErrorOfEmit(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	f := newFolder(t, Config{BatchEvents: 1})
	for i := range 3 {
		f.Add(insert(a, fmt.Sprint(i), "x"))
	}
	no, calls := errors.New("no"), 0
	err := f.Finish(t.Context(), testTransaction, func(*cdc.Batch) error {
		calls++
		return no
	})
	if !errors.Is(err, no) || calls != 1 {
		t.Errorf("after %d calls: %v", calls, err)
	}
	f.Begin()
	f.Add(insert(a, "9", "x"))
	if diff := cmp.Diff([]string{"insert a nil>9,x"}, lines(finish(t, f))); diff != "" {
		t.Error(diff)
	}
}

// A connection that is lost cuts a transaction off; it comes again from its begin.
func TestBeginForgetsATransactionThatWasCutOff(t *testing.T) {
	t.Parallel()
	a := relation(1, "a", cdc.IdentityFull)
	f := newFolder(t, Config{})
	f.Add(insert(a, "1", "x"))
	f.Message(cdc.Message{Prefix: "p"})
	f.Truncate(a)
	f.Add(cdc.Event{Op: cdc.Gap, Reason: "undecodable"})
	f.Begin()
	f.Add(insert(a, "1", "x"))
	batches := finish(t, f)
	if diff := cmp.Diff([]string{"insert a nil>1,x"}, lines(batches)); diff != "" {
		t.Error(diff)
	}
	if len(batches[0].Messages) > 0 {
		t.Error("a message of the cut-off transaction is left")
	}
}

func TestNewRefusesAConfigurationThatCannotWork(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{}, {Key: byID, MaxBytes: -1}, {Key: byID, BatchBytes: -1}, {Key: byID, BatchEvents: -1}} {
		if f, err := New(cfg); err == nil || f != nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
