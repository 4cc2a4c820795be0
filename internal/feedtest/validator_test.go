package feedtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pglogrepl"
)

// goodStream is a Stream with every kind of change, in five transactions.
func goodStream() *Stream {
	table := &Table{Schema: "public", Name: "notes", Field: "notes", Key: []string{"id"}, Columns: []Column{
		{"id", "id", oidInt8}, {"note_text", "noteText", oidText}, {"n", "n", oidInt4}, {"secret", "secret", oidText}, {"at", "at", oidTimestamptz},
	}}
	sub := &Subscription{Name: "s", Principal: &Principal{Name: "p"}, Table: table, Columns: []string{"id", "note_text", "n", "at"}}
	image := func(id, text, n string) *Image {
		return &Image{[]Value{{Text: id}, {Text: text}, {Text: n, Null: n == ""}, {Text: "hidden"}, {Text: "2020-01-01 00:00:00.5+00"}}}
	}
	s := &Stream{Subscription: sub}
	add := func(commit pglogrepl.LSN, kind, key string, old, row *Image, last bool) {
		s.Frames = append(s.Frames, Expected{Commit: commit, XID: uint32(commit), Kind: kind, Key: key, Old: old, Row: row, Last: last})
	}
	add(100, Insert, "1", nil, image("1", "a", "1"), false)
	add(100, Insert, "2", nil, image("2", "", ""), true)
	add(200, Update, "1", image("1", "a", "1"), image("1", "b", "2"), false)
	add(200, Delete, "2", image("2", "", ""), nil, false)
	add(200, Enter, "3", nil, image("3", "c", "3"), true)
	add(300, Leave, "3", image("3", "c", "3"), nil, true)
	add(400, Truncate, "", nil, nil, false)
	add(400, Insert, "1", nil, image("1", "d", ""), true)
	add(500, Update, "1", image("1", "d", ""), image("1", "", ""), true)
	return s
}

// goodFrames are the frames of the stream, behind a snapshot.
func goodFrames(s *Stream) []*Frame {
	out := []*Frame{
		{Kind: Reset, Reason: "retention"},
		{Kind: Snapshot, RowID: "notes 8", Key: Object{"id": json.RawMessage(`"8"`)}, Row: Object{
			"id": json.RawMessage(`"8"`), "noteText": json.RawMessage(`"x"`), "n": json.RawMessage("null"), "at": json.RawMessage("null"),
		}},
		{Kind: Live, Cursor: "live"},
	}
	for i := range s.Frames {
		out = append(out, s.Frame(i))
	}
	return append(out, &Frame{Kind: Progress, Cursor: "progress"})
}

const changesAt = 3 // where the changes begin in goodFrames

func TestAGoodStreamPasses(t *testing.T) {
	t.Parallel()
	s := goodStream()
	frames := goodFrames(s)
	for _, failure := range Judge(s, frames) {
		t.Error(failure)
	}
	// Also over a reconnect, and without a snapshot.
	again := slices.Insert(frames[2:], 4, &Frame{Kind: Live, Cursor: "again"})
	for _, failure := range Judge(s, again) {
		t.Error(failure)
	}
}

func TestABrokenStreamFails(t *testing.T) {
	t.Parallel()
	drop := func(i int) func(*Stream, []*Frame) []*Frame {
		return func(_ *Stream, f []*Frame) []*Frame { return slices.Delete(f, changesAt+i, changesAt+i+1) }
	}
	swap := func(i, j int) func(*Stream, []*Frame) []*Frame {
		return func(_ *Stream, f []*Frame) []*Frame {
			f[changesAt+i], f[changesAt+j] = f[changesAt+j], f[changesAt+i]
			return f
		}
	}
	change := func(i int, do func(f *Frame)) func(*Stream, []*Frame) []*Frame {
		return func(_ *Stream, f []*Frame) []*Frame {
			do(f[changesAt+i])
			return f
		}
	}
	put := func(at int, x *Frame) func(*Stream, []*Frame) []*Frame {
		return func(_ *Stream, f []*Frame) []*Frame { return slices.Insert(f, at, x) }
	}
	stranger := goodStream().Frame(0)
	stranger.RowID, stranger.Cursor, stranger.Key = "notes 99", "stranger", Object{"id": json.RawMessage(`"99"`)}
	stranger.Row = Object{"id": json.RawMessage(`"99"`)}
	old := goodStream().Frame(2).Old

	for name, tt := range map[string]struct {
		spoil func(*Stream, []*Frame) []*Frame
		want  map[string]string // the validator that must complain, and the word for it
	}{
		"missing frame":             {drop(0), map[string]string{"completeness": "missing: INSERT 1"}},
		"missing last frame":        {drop(1), map[string]string{"completeness": "missing: INSERT 2", "order": "wrong last"}},
		"missing truncate":          {drop(6), map[string]string{"completeness": "missing: TRUNCATE"}},
		"missing transaction":       {drop(5), map[string]string{"completeness": "missing: LEAVE 3"}},
		"no frame at all":           {func(*Stream, []*Frame) []*Frame { return nil }, map[string]string{"completeness": "missing"}},
		"extra row":                 {put(changesAt+1, stranger), map[string]string{"completeness": "extra", "visibility": "leaked"}},
		"extra transaction":         {func(s *Stream, f []*Frame) []*Frame { s.Frames = slices.Delete(s.Frames, 5, 6); return f }, map[string]string{"completeness": "extra: LEAVE", "visibility": "leaked"}},
		"extra truncate":            {func(s *Stream, f []*Frame) []*Frame { s.Frames = slices.Delete(s.Frames, 6, 7); return f }, map[string]string{"completeness": "extra: TRUNCATE"}},
		"repeated frame":            {func(_ *Stream, f []*Frame) []*Frame { return slices.Insert(f, changesAt+1, f[changesAt]) }, map[string]string{"completeness": "duplicate", "order": "duplicate"}},
		"repeated transaction":      {func(_ *Stream, f []*Frame) []*Frame { return slices.Insert(f, changesAt+6, f[changesAt+5]) }, map[string]string{"completeness": "duplicate", "order": "duplicate"}},
		"repeat after a reconnect":  {func(_ *Stream, f []*Frame) []*Frame { return append(f, f[len(f)-2]) }, map[string]string{"completeness": "duplicate", "order": "duplicate"}},
		"two changes of one row":    {change(1, func(f *Frame) { f.RowID = "notes 1" }), map[string]string{"order": "duplicate", "shape": "wrong rowId"}},
		"swapped in a transaction":  {swap(2, 3), map[string]string{"completeness": "out of order"}},
		"swapped transactions":      {swap(5, 8), map[string]string{"completeness": "out of order", "order": "out of order"}},
		"interleaved transactions":  {swap(1, 2), map[string]string{"completeness": "out of order", "order": "out of order"}},
		"truncate behind a change":  {swap(6, 7), map[string]string{"completeness": "out of order", "order": "out of order: TRUNCATE"}},
		"ENTER told as INSERT":      {change(4, func(f *Frame) { f.Kind = Insert }), map[string]string{"completeness": "wrong kind"}},
		"LEAVE told as DELETE":      {change(5, func(f *Frame) { f.Kind = Delete }), map[string]string{"completeness": "wrong kind"}},
		"UPDATE told as DELETE":     {change(2, func(f *Frame) { f.Kind, f.Row = Delete, nil }), map[string]string{"completeness": "wrong kind", "visibility": "missing image"}},
		"unknown kind":              {change(2, func(f *Frame) { f.Kind = "UPSERT" }), map[string]string{"completeness": "missing", "shape": "unknown kind"}},
		"new image in LEAVE":        {change(5, func(f *Frame) { f.Row = f.Old }), map[string]string{"visibility": "leaked: LEAVE", "shape": "wrong shape"}},
		"old image in ENTER":        {change(4, func(f *Frame) { f.Old = old }), map[string]string{"visibility": "leaked: ENTER", "shape": "wrong shape"}},
		"column not readable":       {change(0, func(f *Frame) { f.Row["secret"] = json.RawMessage(`"hidden"`) }), map[string]string{"visibility": "row of INSERT {\"id\":\"1\"} at 0/64: leaked column: secret"}},
		"column that is none":       {change(3, func(f *Frame) { f.Old["ctid"] = json.RawMessage(`"hidden"`) }), map[string]string{"visibility": "old of DELETE {\"id\":\"2\"} at 0/C8: leaked column: ctid"}},
		"missing column":            {change(0, func(f *Frame) { delete(f.Row, "n") }), map[string]string{"visibility": "row of INSERT {\"id\":\"1\"} at 0/64: missing column"}},
		"value of another moment":   {change(2, func(f *Frame) { f.Row["noteText"] = json.RawMessage(`"later"`) }), map[string]string{"visibility": "row of UPDATE {\"id\":\"1\"} at 0/C8: wrong value"}},
		"the old row as the new":    {change(2, func(f *Frame) { f.Row = f.Old }), map[string]string{"visibility": "row of UPDATE {\"id\":\"1\"} at 0/C8: wrong value"}},
		"empty text told as null":   {change(8, func(f *Frame) { f.Row["noteText"] = json.RawMessage("null") }), map[string]string{"visibility": "row of UPDATE"}},
		"null told as empty text":   {change(8, func(f *Frame) { f.Row["n"] = json.RawMessage(`""`) }), map[string]string{"visibility": "row of UPDATE"}},
		"big number as a number":    {change(0, func(f *Frame) { f.Row["id"] = json.RawMessage("1") }), map[string]string{"visibility": "row of INSERT"}},
		"too much in changed":       {change(2, func(f *Frame) { f.Changed = append(f.Changed, "secret") }), map[string]string{"visibility": "wrong changed"}},
		"too little in changed":     {change(2, func(f *Frame) { f.Changed = f.Changed[:1] }), map[string]string{"visibility": "wrong changed"}},
		"nothing in changed":        {change(2, func(f *Frame) { f.Changed = nil }), map[string]string{"visibility": "wrong changed", "shape": "wrong shape"}},
		"changed of an ENTER":       {change(4, func(f *Frame) { f.Changed = []string{"n"} }), map[string]string{"shape": "wrong shape"}},
		"no last":                   {change(4, func(f *Frame) { f.Transaction.Last = false }), map[string]string{"order": "wrong last"}},
		"no last in the end":        {change(8, func(f *Frame) { f.Transaction.Last = false }), map[string]string{"order": "wrong last"}},
		"last too early":            {change(2, func(f *Frame) { f.Transaction.Last = true }), map[string]string{"order": "wrong last"}},
		"one cursor for two":        {change(3, func(f *Frame) { f.Cursor = "cursor 0/C8 2" }), map[string]string{"order": "duplicate"}},
		"two ids for a transaction": {change(3, func(f *Frame) { f.Transaction.ID = "x" }), map[string]string{"order": "wrong transaction"}},
		"one id for two":            {change(5, func(f *Frame) { f.Transaction.ID = "transaction 200" }), map[string]string{"order": "wrong"}},
		"id of a past transaction":  {change(8, func(f *Frame) { f.Transaction.ID = "transaction 200" }), map[string]string{"order": "out of order"}},
		"two times of a commit":     {change(3, func(f *Frame) { f.Transaction.CommitTime = "2002-01-01T00:00:00Z" }), map[string]string{"order": "wrong transaction"}},
		"another commit":            {change(5, func(f *Frame) { f.Transaction.CommitLSN = "0/12D" }), map[string]string{"completeness": "extra", "visibility": "leaked"}},
		"no commit":                 {change(5, func(f *Frame) { f.Transaction.CommitLSN = "" }), map[string]string{"completeness": "extra", "visibility": "leaked"}},
		"no transaction":            {change(5, func(f *Frame) { f.Transaction = nil }), map[string]string{"completeness": "extra", "order": "no transaction", "shape": "wrong shape"}},
		"no cursor":                 {change(5, func(f *Frame) { f.Cursor = "" }), map[string]string{"shape": "wrong shape"}},
		"no key":                    {change(5, func(f *Frame) { f.Key = nil }), map[string]string{"completeness": "extra", "shape": "wrong shape"}},
		"no rowId":                  {change(5, func(f *Frame) { f.RowID = "" }), map[string]string{"shape": "wrong shape"}},
		"more than the key":         {change(5, func(f *Frame) { f.Key["n"] = json.RawMessage("3") }), map[string]string{"shape": "wrong key"}},
		"key of another row":        {change(5, func(f *Frame) { f.Key["id"] = json.RawMessage(`"4"`) }), map[string]string{"completeness": "extra", "shape": "wrong key"}},
		"rowId of another row":      {change(5, func(f *Frame) { f.RowID = "notes 1" }), map[string]string{"shape": "wrong rowId"}},
		"another rowId":             {change(5, func(f *Frame) { f.RowID = "notes 3 again" }), map[string]string{"shape": "wrong rowId"}},
		"reason on a change":        {change(5, func(f *Frame) { f.Reason = "because" }), map[string]string{"shape": "wrong shape"}},
		"row in TRUNCATE":           {change(6, func(f *Frame) { f.Row = old }), map[string]string{"shape": "wrong shape", "visibility": "leaked"}},
		"RESET without a reason":    {func(_ *Stream, f []*Frame) []*Frame { f[0].Reason = ""; return f }, map[string]string{"shape": "wrong shape"}},
		"SNAPSHOT with a cursor":    {func(_ *Stream, f []*Frame) []*Frame { f[1].Cursor = "x"; return f }, map[string]string{"shape": "wrong shape"}},
		"SNAPSHOT after LIVE":       {func(_ *Stream, f []*Frame) []*Frame { f[1], f[2] = f[2], f[1]; return f }, map[string]string{"order": "out of order"}},
		"row twice in a snapshot":   {func(_ *Stream, f []*Frame) []*Frame { return slices.Insert(f, 2, f[1]) }, map[string]string{"order": "duplicate"}},
		"change inside a snapshot":  {func(_ *Stream, f []*Frame) []*Frame { return slices.Delete(f, 2, 3) }, map[string]string{"order": "out of order"}},
		"PROGRESS with a row":       {put(changesAt, &Frame{Kind: Progress, Cursor: "x", RowID: "notes 1", Row: old}), map[string]string{"shape": "wrong shape"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := goodStream()
			frames := tt.spoil(s, goodFrames(s))
			for validator, word := range tt.want {
				if got := judgeBy(validator, s, frames); !slices.ContainsFunc(got, func(f string) bool { return strings.HasPrefix(f, word) }) {
					t.Errorf("the %s validator says %q, want %q", validator, got, word)
				}
			}
			if len(Judge(s, frames)) == 0 {
				t.Error("Judge says nothing")
			}
		})
	}
}

func judgeBy(validator string, s *Stream, frames []*Frame) []string {
	v := map[string]Validator{
		"shape": NewShapeValidator(s.Subscription.Table), "order": NewOrderValidator(),
		"completeness": NewCompletenessValidator(s), "visibility": NewVisibilityValidator(s),
	}[validator]
	for _, f := range frames {
		v.Note(f)
	}
	return v.Failures()
}

func TestFailuresAreBounded(t *testing.T) {
	t.Parallel()
	v := NewShapeValidator(goodStream().Subscription.Table)
	for i := range 100 {
		v.Note(&Frame{Kind: fmt.Sprint("kind ", i)})
	}
	got := v.Failures()
	if len(got) != maxFailures+1 || got[maxFailures] != "… and 80 more" {
		t.Errorf("%d failures, the last %q", len(got), got[len(got)-1])
	}
}
