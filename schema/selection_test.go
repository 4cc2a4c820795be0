package schema_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

func mustBeJSON(t *testing.T, b []byte) {
	t.Helper()
	if !json.Valid(b) {
		t.Fatalf("not JSON: %s", b)
	}
}

// data compiles a selection on todoItems and gives what it writes between data and extensions.
func data(t *testing.T, c *schema.Catalog, query, variables string, change *schema.Change) string {
	t.Helper()
	op := compile(t, c, query, variables)
	out, err := op.Selection.Append(nil, change)
	if err != nil {
		t.Fatal(err)
	}
	mustBeJSON(t, out)
	var frame struct {
		Data json.RawMessage
	}
	if err := json.Unmarshal(out, &frame); err != nil {
		t.Fatal(err)
	}
	return string(frame.Data)
}

func TestFragmentsAliasesAndConditionsAreResolved(t *testing.T) {
	t.Parallel()
	c := catalog(t, todoItems())
	image := row("1", "x", "t", "NULL")
	change := &schema.Change{Kind: schema.KindInsert, Key: image, New: image}
	for _, x := range []struct{ query, variables, want string }{
		{"subscription { todoItems { __typename kind } }", "", `{"todoItems":{"__typename":"TodoItemChange","kind":"INSERT"}}`},
		{"subscription { t: todoItems { a: kind b: kind } }", "", `{"t":{"a":"INSERT","b":"INSERT"}}`},
		{
			"subscription { todoItems { row { id } kind row { title id } } }", "",
			`{"todoItems":{"row":{"id":1,"title":"x"},"kind":"INSERT"}}`,
		},
		{
			"subscription { ...S } fragment S on Subscription { todoItems { ...C row { ...R } } } " +
				"fragment C on TodoItemChange { row { id } } fragment R on TodoItem { ... on TodoItem { title } ... { done: isDone } }", "",
			`{"todoItems":{"row":{"id":1,"title":"x","done":true}}}`,
		},
		{
			"subscription ($a: Boolean!, $b: Boolean = true) { todoItems { kind @skip(if: $a) row @include(if: $b) { id title @include(if: $a) } } }",
			`{"a": true}`, `{"todoItems":{"row":{"id":1,"title":"x"}}}`,
		},
		{"subscription ($a: Boolean!) { todoItems { kind @skip(if: $a) @include(if: $a) } }", `{"a": true}`, `{"todoItems":{}}`},
		{"subscription { todoItems { ... @skip(if: true) { kind } ...F @include(if: false) cursor } } fragment F on TodoItemChange { rowId }", "", `{"todoItems":{"cursor":null}}`},
		{"subscription { todoItems { old { id } key { __typename id } transaction { id } changed reason } }", "", `{"todoItems":{"old":null,"key":{"__typename":"TodoItemKey","id":1},"transaction":null,"changed":null,"reason":null}}`},
	} {
		if got := data(t, c, x.query, x.variables, change); got != x.want {
			t.Errorf("%s\n got  %s\n want %s", x.query, got, x.want)
		}
	}
}

func TestFramesThatAreAboutNoRow(t *testing.T) {
	t.Parallel()
	c := catalog(t, todoItems())
	const all = "subscription { todoItems { kind rowId key { id } row { id } old { id } changed cursor reason transaction { id } } }"
	const none = `"rowId":null,"key":null,"row":null,"old":null,"changed":null,`
	for _, x := range []struct {
		change schema.Change
		want   string
	}{
		{schema.Change{Kind: schema.KindReset, Reason: "policy_changed"}, `{"todoItems":{"kind":"RESET",` + none + `"cursor":null,"reason":"policy_changed","transaction":null}}`},
		{schema.Change{Kind: schema.KindLive, Cursor: "c"}, `{"todoItems":{"kind":"LIVE",` + none + `"cursor":"c","reason":null,"transaction":null}}`},
		{
			schema.Change{Kind: schema.KindTruncate, Cursor: "c", Transaction: &schema.ChangeTransaction{ID: "t"}},
			`{"todoItems":{"kind":"TRUNCATE",` + none + `"cursor":"c","reason":null,"transaction":{"id":"t"}}}`,
		},
	} {
		if got := data(t, c, all, "", &x.change); got != x.want {
			t.Errorf("got  %s\nwant %s", got, x.want)
		}
	}
}

func TestPositionsAreShownOnRequest(t *testing.T) {
	t.Parallel()
	c, _ := schema.New(database(todoItems()), schema.Options{ExposePositions: true})
	change := &schema.Change{Kind: schema.KindTruncate, Transaction: &schema.ChangeTransaction{
		XID: 4294967295, CommitLSN: 0x1_0000_00AB, CommitTime: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600)),
	}}
	got := data(t, c, "subscription { todoItems { transaction { xid commitLsn commitTime } } }", "", change)
	if want := `{"todoItems":{"transaction":{"xid":"4294967295","commitLsn":"1/AB","commitTime":"2026-01-02T02:04:05.000006Z"}}}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Covers C45.
func TestWhatAnImageDoesNotHoldIsNeverWrittenAsNull(t *testing.T) {
	t.Parallel()
	c := catalog(t, todoItems())
	op := compile(t, c, "subscription { todoItems(where: {title: {eq: \"x\"}}) { row { id title due } } }", "")
	whole := row("1", "x", "t", "NULL")
	for name, v := range map[string]cdc.Value{
		"an unchanged value": cdc.UnchangedValue(), "an absent one": cdc.AbsentValue(), "a null that cannot be": {},
	} {
		image := append(cdc.Row(nil), whole...)
		image[1] = v
		dst := []byte("before")
		out, err := op.Selection.Append(dst, &schema.Change{Kind: schema.KindInsert, Key: image, New: image})
		var unknown *schema.UnknownValueError
		if !errors.As(err, &unknown) || unknown.Column != "title" || string(out) != "before" {
			t.Errorf("%s: wrote %s, %v", name, out, err)
		}
		if v.IsNull() {
			continue
		}
		if _, err := op.Where.Match(image, nil); !errors.As(err, &unknown) || unknown.Column != "title" {
			t.Errorf("%s: the filter answers, with the error %v", name, err)
		}
	}
	// Text that the type does not print is not passed on either.
	for i, text := range map[int]string{0: "1x", 3: `2026-01-01 00:00:00+00"`} {
		image := append(cdc.Row(nil), whole...)
		image[i] = cdc.TextValue(text)
		if out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: image, New: image}); err == nil {
			t.Errorf("%q is written: %s", text, out)
		}
	}
}

// A generated column is left out where the stream does not hold it, which a note tells; where it
// does, it is a column like others.
//
// Covers C82.
func TestGeneratedColumnsAreServedWhereTheyAreStreamed(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		version int
		kind    byte
		served  bool
	}{
		"15, stored": {150018, 's', false}, "17, stored": {170002, 's', false}, "18, stored": {180000, 's', true}, "18, virtual": {180000, 'v', false},
	} {
		total := notNull(column("total", typ("int4")))
		total.Generated = x.kind
		d := todoItems()
		d.Columns = append(d.Columns, total)
		d.Access["reader"] = schema.Access{Usage: true, Columns: []bool{true, true, true, true, true}}
		db := database(d)
		db.Version = x.version
		c, problems := schema.New(db, schema.Options{})
		if c.Table(d.OID) == nil {
			t.Fatalf("%s: the table is not served: %v", name, problems)
		}
		if got := strings.Contains(c.Role("reader").SDL(), "total: Int!"); got != x.served || (len(problems) == 0) != x.served {
			t.Errorf("%s: served %v, %v", name, got, problems)
		}
		if !x.served {
			if problems[0].Table != 0 || !strings.Contains(problems[0].Message, "left out") || !strings.Contains(problems[0].Hint, "todo_items") {
				t.Errorf("%s: %+v", name, problems)
			}
			continue
		}
		op := compile(t, c, "subscription { todoItems { row { total } } }", "")
		whole := append(row("1", "x", "t", "NULL"), cdc.TextValue("7"))
		if out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: whole, New: whole}); err != nil || !strings.Contains(string(out), `"total":7`) {
			t.Errorf("%s: %s, %v", name, out, err)
		}
		whole[4] = cdc.AbsentValue()
		if out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: whole, New: whole}); err == nil {
			t.Errorf("%s: an absent value is written: %s", name, out)
		}
	}
}

// A column that is not known matters only where it decides.
func TestUnknownColumnsMatterOnlyWhereTheyDecide(t *testing.T) {
	t.Parallel()
	c := catalog(t, todoItems())
	image := row("1", "x", "t", "NULL")
	image[1] = cdc.UnchangedValue()
	for where, want := range map[string]string{
		`{id: {eq: 2}, title: {eq: "x"}}`:                   "false",
		`{or: [{title: {eq: "x"}}, {id: {eq: 1}}]}`:         "true",
		`{or: [{title: {eq: "x"}}, {id: {eq: 2}}]}`:         "error",
		`{not: {title: {eq: "x"}}}`:                         "error",
		`{due: {eq: "infinity"}, title: {eq: "x"}}`:         "error",
		`{not: {and: [{title: {eq: "x"}}, {id: {eq: 2}}]}}`: "true",
		`{title: {in: []}}`:                                 "error",
		`{title: {isNull: true}}`:                           "error",
	} {
		op := compile(t, c, "subscription { todoItems(where: "+where+") { kind } }", "")
		ok, err := op.Where.Match(image, nil)
		got := map[bool]string{true: "true", false: "false"}[ok]
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: got %s, want %s", where, got, want)
		}
	}
}

// Covers C99.
func TestALabelThatIsNewIsNotWritten(t *testing.T) {
	t.Parallel()
	enum := &schema.Type{OID: 20000, Schema: "public", Name: "state", Kind: 'e', Labels: []string{"a", "b"}}
	c := catalog(t, table(1, "things", column("id", typ("int4")), column("state", enum), column("states", array(enum))))
	for _, image := range []cdc.Row{row("1", "new", "NULL"), row("1", "NULL", "{a,new}")} {
		op := compile(t, c, "subscription { things(where: {state: {gt: a}}) { row { state states } } }", "")
		var unknown *schema.UnknownValueError
		if out, err := op.Selection.Append(nil, &schema.Change{New: image, Key: image}); !errors.As(err, &unknown) {
			t.Errorf("wrote %s, %v", out, err)
		}
		if _, err := op.Where.Match(row("1", "new", "NULL"), nil); !errors.As(err, &unknown) {
			t.Errorf("compared: %v", err)
		}
	}
}

func TestChangedTellsWhatTheRoleMayRead(t *testing.T) {
	t.Parallel()
	d := todoItems()
	d.Columns[2].Directives.Omit = true
	d.Access["reader"] = schema.Access{Usage: true, Columns: []bool{true, true, true, false}}
	c := catalog(t, d)
	op := compile(t, c, "subscription { todoItems { changed } }", "")
	old := row("1", "x", "t", "NULL")
	for want, image := range map[string]cdc.Row{
		`[]`:        row("1", "x", "f", "2026-01-01 00:00:00+00"), // omitted and unreadable ones
		`["title"]`: row("1", "y", "t", "NULL"),
	} {
		if got := op.Selection.Changed(old, image); got != (want != "[]") {
			t.Errorf("%v: changed is %v", image, got)
		}
		got := data(t, c, "subscription { todoItems { changed } }", "", &schema.Change{Kind: schema.KindUpdate, Key: image, Old: old, New: image})
		if got != `{"todoItems":{"changed":`+want+`}}` {
			t.Errorf("%v: %s", image, got)
		}
	}
	same := append(cdc.Row(nil), old...)
	same[1] = cdc.UnchangedValue()
	if op.Selection.Changed(old, same) {
		t.Error("an unchanged value counts for a change")
	}
	null := append(cdc.Row(nil), old...)
	null[1] = cdc.Value{}
	if !op.Selection.Changed(old, null) || !op.Selection.Changed(null, old) {
		t.Error("NULL equals a value")
	}
}

func TestSignaturesAreOfTheBytesWritten(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	signature := func(role, query, variables string) string {
		op, err := c.Role(role).Compile(schema.Request{Query: query, Variables: []byte(variables)})
		if err != nil {
			t.Fatal(err)
		}
		return op.Selection.Signature()
	}
	base := signature("reader", "subscription { todoItems { kind row { id title } } }", "")
	for _, same := range []string{
		"subscription X { todoItems(where: {id: {eq: 1}}, snapshot: true) { kind row { id title } } }",
		"subscription { ...F } fragment F on Subscription { todoItems { kind row { id } row { title } } }",
		"subscription { todoItems { kind row { id title done @skip(if: true) } } }",
	} {
		if signature("reader", same, "") != base {
			t.Errorf("%s has another signature", same)
		}
	}
	if signature("clerk", "subscription { todoItems { kind row { id title } } }", "") != base {
		t.Error("the role matters where nothing depends on it")
	}
	for _, other := range []string{
		"subscription { t: todoItems { kind row { id title } } }",
		"subscription { todoItems { kind row { title id } } }",
		"subscription { todoItems { kind old { id title } } }",
		"subscription { todoItems { kind row { id title: code } } }",
	} {
		if signature("reader", other, "") == base {
			t.Errorf("%s has the same signature", other)
		}
	}
	const changed = "subscription { todoItems { changed } }"
	if signature("reader", changed, "") == signature("clerk", changed, "") {
		t.Error("two roles that read different columns share what changed")
	}
}

// Covers S71.
func TestStringsAreSafeInAPage(t *testing.T) {
	t.Parallel()
	d := todoItems()
	d.Columns[3].Type = typ("json")
	c := catalog(t, d)
	op := compile(t, c, "subscription { todoItems { row { title due } } }", "")
	image := row("1", "</script><!-- \u2028 \u2029 \x00\x1f\x7f \" \\ \b", "t", `{"<\u2028": "</script>`+"\u2029"+`"}`)
	out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: image, New: image})
	if err != nil {
		t.Fatal(err)
	}
	mustBeJSON(t, out)
	want := `{"data":{"todoItems":{"row":{"title":"\u003c/script>\u003c!-- \u2028 \u2029 \u0000\u001f` + "\x7f" + ` \" \\ \u0008",` +
		`"due":{"\u003c\u2028": "\u003c/script>\u2029"}}}},"extensions":{"cursor":null}}`
	if string(out) != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
}

func benchmarkChange() *schema.Change {
	return &schema.Change{
		Kind: schema.KindUpdate, Cursor: "AbCdEfGhIjKlMnOpQrStUvWxYz012345",
		Key: row("42", "Write the report", "t", "2026-01-02 03:04:05.678901+00"),
		New: row("42", "Write the report", "t", "2026-01-02 03:04:05.678901+00"),
		Old: row("42", "Write a report", "f", "2026-01-02 03:04:05.678901+00"),
		Transaction: &schema.ChangeTransaction{
			ID: "AbCdEfGhIjKlMnOp", CommitTime: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Last: true,
		},
	}
}

const typical = `subscription Items($id: Int!) { todoItems(where: {id: {gt: $id}, isDone: {eq: true}}) {
	kind rowId key { id } row { id title isDone due } old { title isDone } changed cursor transaction { id commitTime last } } }`

func TestAppendDoesNotAllocate(t *testing.T) { //nolint:paralleltest // it counts allocations
	op := compile(t, catalog(t, todoItems()), typical, `{"id": 1}`)
	change, dst := benchmarkChange(), make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() { dst, _ = op.Selection.Append(dst[:0], change) }); n > 0 {
		t.Errorf("Append allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = op.Where.Match(change.New, nil) }); n > 0 {
		t.Errorf("Match allocates %v times", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	op := compile(b, catalog(b, todoItems()), typical, `{"id": 1}`)
	change, dst := benchmarkChange(), make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = op.Selection.Append(dst[:0], change)
	}
	b.SetBytes(int64(len(dst)))
}

func BenchmarkMatch(b *testing.B) {
	op := compile(b, catalog(b, todoItems()), typical, `{"id": 1}`)
	change := benchmarkChange()
	b.ReportAllocs()
	for b.Loop() {
		_, _ = op.Where.Match(change.New, nil)
	}
}

func BenchmarkCompile(b *testing.B) {
	role := catalog(b, todoItems()).Role("reader")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := role.Compile(schema.Request{Query: typical, Variables: []byte(`{"id": 1}`)}); err != nil {
			b.Fatal(err)
		}
	}
}
