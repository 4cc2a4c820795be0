package schema_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/schema"
)

func compileError(t *testing.T, c *schema.Catalog, req schema.Request) schema.ErrorList {
	t.Helper()
	op, err := c.Role("reader").Compile(req)
	var list schema.ErrorList
	if !errors.As(err, &list) || len(list) == 0 || op != nil {
		t.Fatalf("compile %s: no error list, but %v", req.Query, err)
	}
	return list
}

// Covers S16.
func TestDocumentsThatAreNotValidAreRefused(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{Introspection: true})
	const v, p = schema.ValidationFailed, schema.ParseFailed
	for _, x := range []struct {
		query   string
		code    schema.Code
		message string
	}{
		{"", p, "no operation"},
		{"fragment F on TodoItem { id }", p, "no operation"},
		{"subscription { todoItems { kind }", p, "Expected"},
		{"subscription { todoItems(where: {id: {eq: 'x'}}) { kind } }", p, "single quote"},
		{"mutation { todoItems { kind } }", v, `Schema does not support operation type "mutation"`},
		{"{ todoItems { kind } }", v, `Cannot query field "todoItems" on type "Query"`},
		{"subscription { todoItem { kind } }", v, `Did you mean "todoItems"?`},
		{"subscription { todoItems }", v, "must have a selection of subfields"},
		{"subscription { todoItems { kind { x } } }", v, `Cannot query field "x"`},
		// One field at the root, whatever it hides behind.
		{"subscription { todoItems { kind } billingMembers { kind } }", v, "exactly one field"},
		{"subscription { a: todoItems { kind } b: todoItems { kind } }", v, "exactly one field"},
		{"subscription { todoItems { kind } ... on Subscription { b: todoItems { kind } } }", v, "exactly one field"},
		{"subscription { ...F ...G } fragment F on Subscription { a: todoItems { kind } } fragment G on Subscription { b: todoItems { kind } }", v, "exactly one field"},
		{"subscription { ...F } fragment F on Subscription { ... { ...G } c: todoItems { kind } } fragment G on Subscription { b: todoItems { kind } }", v, "exactly one field"},
		{"subscription { __typename }", v, "introspection field"},
		{"subscription { todoItems { kind } __typename }", v, "introspection field"},
		{"subscription { ...F } fragment F on Subscription { __typename }", v, "introspection field"},
		// No condition at the root.
		{"subscription ($b: Boolean!) { todoItems @skip(if: $b) { kind } }", v, "must not have @skip at its root"},
		{"subscription { todoItems @include(if: true) { kind } }", v, "must not have @include at its root"},
		{"subscription { ... @include(if: true) { todoItems { kind } } }", v, "must not have @include at its root"},
		{"subscription { ...F @skip(if: false) } fragment F on Subscription { todoItems { kind } }", v, "must not have @skip at its root"},
		{"subscription { ...F } fragment F on Subscription { todoItems @skip(if: false) { kind } }", v, "must not have @skip at its root"},
		{"subscription A { todoItems { kind } } subscription B { a: todoItems { kind } b: todoItems { kind } }", schema.BadUserInput, "operationName"},
		// What the specification does not have.
		{"subscription { todoItems { ... @defer { kind } } }", v, `Unknown directive "@defer"`},
		{"subscription { todoItems { row { tags @stream } } }", v, `Unknown directive "@stream"`},
		{"subscription { todoItems { ...F } } fragment F($x: Int) on TodoItemChange { kind }", v, "must not define variables"},
		// The rest of chapter 5, by samples.
		{"subscription { todoItems { a: kind a: rowId } }", v, "conflict"},
		{"subscription { todoItems { row { x: id } row { x: title } } }", v, "conflict"},
		{"subscription { todoItems { ...F } } fragment F on TodoItemChange { ...F }", v, "within itself"},
		{"subscription { todoItems { ...F } }", v, "Unknown fragment"},
		{"subscription { todoItems { kind } } fragment F on TodoItem { id }", v, "never used"},
		{"subscription { todoItems { ... on TodoItem { id } } }", v, "can never be of type"},
		{"subscription ($x: Int) { todoItems { kind } }", v, "never used"},
		{"subscription { todoItems(after: $x) { kind } }", v, "not defined"},
		{"subscription ($x: Int) { todoItems(after: $x) { kind } }", v, "used in position expecting type"},
		{"subscription { todoItems(first: 1) { kind } }", v, `Unknown argument "first"`},
		{"subscription { todoItems(kinds: [NOPE]) { kind } }", v, "does not exist in"},
		{"subscription { todoItems(kinds: [\"INSERT\"]) { kind } }", v, "cannot represent non-enum"},
		{"subscription { todoItems(snapshot: 1) { kind } }", v, "Boolean cannot represent"},
		{"subscription { todoItems(where: {id: {eq: [1]}, ids: 1}) { kind } }", v, `"ids" is not defined`},
		{"subscription { todoItems(where: {data: {lt: 1}}) { kind } }", v, `"lt" is not defined`},
		{"subscription { todoItems(where: {total: {eq: 1}}) { kind } }", v, `"total" is not defined`},
		{"subscription { todoItems(where: {id: {eq: 1, eq: 2}}) { kind } }", v, "only one input field named"},
		{"subscription @skip(if: true) { todoItems { kind } }", v, "may not be used on SUBSCRIPTION"},
	} {
		list := compileError(t, c, schema.Request{Query: x.query})
		if list[0].Code != x.code || !strings.Contains(list[0].Message, x.message) {
			t.Errorf("%s\n got  %s %s\n want %s %s", x.query, list[0].Code, list[0].Message, x.code, x.message)
		}
	}
}

// The rules hold for every operation of a document, not only for the one that is asked for.
func TestOperationsThatAreNotAskedForMustBeValidToo(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	query := "subscription A { todoItems { kind } } subscription B { a: todoItems { kind } b: todoItems { kind } }"
	list := compileError(t, c, schema.Request{Query: query, OperationName: "A"})
	if list[0].Code != schema.ValidationFailed || !strings.Contains(list[0].Message, "exactly one field at its root; this one has 2") {
		t.Errorf("errors: %v", list)
	}
}

func TestErrorsHaveTheirPlace(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	list := compileError(t, c, schema.Request{Query: "subscription {\n  todoItems {\n    row { nope }\n    nope\n  }\n}"})
	if len(list) != 2 {
		t.Fatalf("errors: %v", list)
	}
	for i, want := range []schema.Location{{Line: 3, Column: 11}, {Line: 4, Column: 5}} {
		if d := cmp.Diff([]schema.Location{want}, list[i].Locations); d != "" {
			t.Error(d)
		}
	}
	var first *schema.Error
	if !errors.As(error(list), &first) || first != list[0] {
		t.Error("the list does not unwrap to its errors")
	}
	if got := list.Error(); !strings.Contains(got, "; ") || !strings.Contains(got, "GRAPHQL_VALIDATION_FAILED") {
		t.Errorf("the list says %q", got)
	}
}

func TestArgumentsAndVariablesThatAreNotFitAreBadInput(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	where := func(w string) schema.Request {
		return schema.Request{
			Query:     "subscription ($w: TodoItemFilter) { todoItems(where: $w) { kind } }",
			Variables: []byte(`{"w": ` + w + `}`),
		}
	}
	literal := func(arguments string) schema.Request {
		return schema.Request{Query: "subscription { todoItems(" + arguments + ") { kind } }"}
	}
	for _, x := range []struct {
		req     schema.Request
		message string
	}{
		{schema.Request{Query: "subscription A { todoItems { kind } } subscription B { todoItems { kind } }"}, "say which with operationName"},
		{schema.Request{Query: "subscription A { todoItems { kind } }", OperationName: "B"}, `no operation "B"`},
		{schema.Request{Query: "subscription { todoItems { kind } }", Variables: []byte(`[1]`)}, "not a JSON object"},
		{schema.Request{Query: "subscription { todoItems { kind } }", Variables: []byte(`{}}`)}, "not a JSON object"},
		{schema.Request{Query: "subscription { todoItems { kind } }", Variables: []byte(`{"a": nope}`)}, "not a JSON object"},
		{schema.Request{Query: "subscription ($b: Boolean!) { todoItems { row @skip(if: $b) { id } } }"}, "variable $b: must be given"},
		{schema.Request{Query: "subscription ($b: Boolean!) { todoItems { row @skip(if: $b) { id } } }", Variables: []byte(`{"b": "yes"}`)}, "variable $b: want a value of type Boolean"},
		{where(`{"nope": 1}`), `variable $w: type TodoItemFilter has no field "nope"`},
		{where(`{"id": {"eq": null}}`), "where.id.eq: null is no operand; use isNull"},
		{literal("where: {id: {eq: null}}"), "where.id.eq: null is no operand; use isNull"},
		{literal("where: {id: null}"), "where.id: null is no condition; use isNull"},
		{literal("where: {id: {isNull: null}}"), "where.id.isNull: null is no operand"},
		{literal("where: {id: {in: null}}"), "null is no operand"},
		{literal("where: {not: null}"), "where.not: null is no condition"},
		{literal("where: {and: null}"), "where.and: null is no list"},
		{where(`{"id": {"in": [null]}}`), "variable $w.id.in[0]: must not be null"},
		{where(`{"id": {"eq": true}}`), "where.id.eq: want a whole number"},
		{where(`{"id": {"eq": "9223372036854775808"}}`), "where.id.eq: want a whole number"},
		{where(`{"id": {"eq": "+1"}}`), "where.id.eq: want a whole number"},
		{where(`{"id": {"eq": 1.5}}`), "where.id.eq: want a whole number"},
		{where(`{"title": {"eq": 5}}`), "variable $w.title.eq: want a value of type String"},
		{where(`{"title": {"like": 5}}`), "variable $w.title.like: want a value of type String"},
		{where(`{"title": {"eq": "a\u0000"}}`), "U+0000"},
		{where(`{"title": {"like": "a\\"}}`), `must not end with \`},
		{where(`{"done": {"eq": "true"}}`), "variable $w.done.eq: want a value of type Boolean"},
		{where(`{"id": 5}`), "variable $w.id: want an object of type BigIntFilter"},
		{where(`[]`), "variable $w: want an object"},
		{where(`{"id": {"in": [[1]]}}`), "where.id.in[0]: want a whole number"},
		{where(`{"due": {"eq": "2026-01-02 03:04:05"}}`), "where.due.eq: want a time such as"},
		{where(`{"due": {"eq": "2026-02-30T00:00:00Z"}}`), "want a time such as"},
		{where(`{"due": {"eq": "2026-01-02T03:04:05.0000001Z"}}`), "want a time such as"},
		{where(`{"due": {"eq": "2026-01-02T24:00:00Z"}}`), "want a time such as"},
		{where(`{"due": {"eq": "+294277-01-01T00:00:00Z"}}`), "want a time such as"},
		{where(`{"due": {"eq": "+9999999-01-01T00:00:00Z"}}`), "want a time such as"},
		{where(`{"day": {"eq": "2026-13-01"}}`), "want a date such as"},
		{where(`{"day": {"eq": 5}}`), "want a date such as"},
		{where(`{"price": {"eq": "1e200000"}}`), "out of range"},
		{where(`{"price": {"eq": "0x10"}}`), "want a number"},
		{where(`{"price": {"eq": "--1"}}`), "want a number"},
		{where(`{"price": {"eq": ""}}`), "want a number"},
		{where(`{"weight": {"eq": "1"}}`), `want a number, "NaN"`},
		{where(`{"weight": {"eq": 1e400}}`), "out of range"},
		{where(`{"status": {"eq": "OPEN"}}`), "variable $w.status.eq: want a value of type ItemStatus"},
		{where(`{"status": {"eq": "in progress"}}`), "variable $w.status.eq: want a value of type ItemStatus"},
		{literal("kinds: [INSERT], snapshot: true"), "add SNAPSHOT to the kinds"},
		{literal(`after: ""`), "after: want a cursor"},
		{literal("after: 5"), "after: want a cursor"},
	} {
		list := compileError(t, c, x.req)
		if list[0].Code != schema.BadUserInput || !strings.Contains(list[0].Message, x.message) {
			t.Errorf("%s %s\n got  %s %s\n want %s", x.req.Query, x.req.Variables, list[0].Code, list[0].Message, x.message)
		}
	}
}

func TestArgumentsMakeTheOperation(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	control := schema.KindSet(0).With(schema.KindReset).With(schema.KindLive).With(schema.KindProgress)
	for _, x := range []struct {
		arguments, variables string
		kinds                schema.KindSet
		snapshot, progress   bool
		after                string
		filtered             bool
	}{
		{"(snapshot: true, progress: true, after: \"abc\")", "", schema.AllKinds, true, true, "abc", false},
		{"(snapshot: null, progress: null, after: null, kinds: null, where: null)", "", schema.AllKinds, false, false, "", false},
		{"(kinds: [])", "", control, false, false, "", false},
		{"(kinds: INSERT)", "", control.With(schema.KindInsert), false, false, "", false},
		{"(kinds: [ENTER, LEAVE, RESET])", "", control.With(schema.KindEnter).With(schema.KindLeave), false, false, "", false},
		{"(kinds: [INSERT, SNAPSHOT], snapshot: true)", "", control.With(schema.KindInsert).With(schema.KindSnapshot), true, false, "", false},
		{"(where: {})", "", schema.AllKinds, false, false, "", false},
		{"(where: {and: []})", "", schema.AllKinds, false, false, "", false},
		{"(where: {and: [{}, {and: {}}]})", "", schema.AllKinds, false, false, "", false},
		{"(where: {id: {}})", "", schema.AllKinds, false, false, "", false},
		{"(where: {or: [{id: {eq: 1}}, {}]})", "", schema.AllKinds, false, false, "", false},
		{"(where: {or: []})", "", schema.AllKinds, false, false, "", true},
		{"(where: {id: {eq: 5}})", "", schema.AllKinds, false, false, "", true},
		// A variable that is not given is as if the argument were not there.
		{"(after: $after, snapshot: $snapshot, where: {id: {eq: $id}})", "", schema.AllKinds, true, false, "", false},
		{"(after: $after, snapshot: $snapshot, where: {id: {eq: $id}})", `{"after": null, "snapshot": false, "id": 3}`, schema.AllKinds, false, false, "", true},
		{"(after: $after, snapshot: $snapshot, where: {id: {eq: $id}})", `{"after": "x"}`, schema.AllKinds, true, false, "x", false},
	} {
		query := "subscription { todoItems" + x.arguments + " { kind } }"
		if strings.Contains(query, "$") {
			query = "subscription ($after: Cursor, $snapshot: Boolean = true, $id: BigInt) { todoItems" + x.arguments + " { kind } }"
		}
		op := compile(t, c, query, x.variables)
		if op.Kinds != x.kinds || op.Snapshot != x.snapshot || op.Progress != x.progress || op.After != x.after || (op.Where != nil) != x.filtered {
			t.Errorf("%s %s gives %+v", x.arguments, x.variables, op)
		}
		if op.Table != c.Table(1000) || op.Result != nil {
			t.Errorf("%s: table %v, result %s", x.arguments, op.Table, op.Result)
		}
	}
	d := table(1, "log", column("id", typ("int4")))
	insertOnly(&d)
	list := compileError(t, catalog(t, d), schema.Request{Query: "subscription { log(kinds: [UPDATE]) { kind } }"})
	if list[0].Code != schema.BadUserInput || !strings.Contains(list[0].Message, "log gives no UPDATE") {
		t.Errorf("kinds that the table does not give: %v", list)
	}
}

// Numbers keep their digits on the way into a filter, in documents, variables and defaults.
//
// Covers C90, C92.
func TestOperandsKeepTheirDigits(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	image := make([]string, 16)
	for i := range image {
		image[i] = "NULL"
	}
	image[0], image[10] = "9007199254740993", "12345678901234567.890123456789"
	for _, x := range []struct{ query, variables string }{
		{"subscription { todoItems(where: {id: {eq: 9007199254740993}, price: {eq: 12345678901234567.890123456789}}) { kind } }", ""},
		{`subscription { todoItems(where: {id: {eq: "9007199254740993"}, price: {eq: "12345678901234567.8901234567890"}}) { kind } }`, ""},
		{"subscription ($i: BigInt = 9007199254740993, $p: Decimal = 12345678901234567.890123456789) { todoItems(where: {id: {eq: $i}, price: {eq: $p}}) { kind } }", ""},
		{"subscription ($w: TodoItemFilter) { todoItems(where: $w) { kind } }", `{"w": {"id": {"eq": 9007199254740993}, "price": {"in": [12345678901234567.890123456789]}}}`},
		{"subscription ($w: TodoItemFilter) { todoItems(where: $w) { kind } }", `{"w": {"id": {"eq": 9007199254740993}, "price": {"in": 1234567890123456789.0123456789e-2}}}`},
	} {
		op := compile(t, c, x.query, x.variables)
		if ok, err := op.Where.Match(row(image...), nil); !ok || err != nil {
			t.Errorf("%s %s: %v, %v", x.query, x.variables, ok, err)
		}
		near := append([]string(nil), image...)
		near[10] = "12345678901234567.890123456788"
		if ok, err := op.Where.Match(row(near...), nil); ok || err != nil {
			t.Errorf("%s %s takes its neighbour: %v, %v", x.query, x.variables, ok, err)
		}
	}
}

// A catalog is shared by all connections: the race detector looks on.
func TestRequestsCompileSideBySide(t *testing.T) {
	t.Parallel()
	role := officeCatalog(t, schema.Options{Introspection: true}).Role("reader")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				for _, query := range []string{
					"subscription ($w: TodoItemFilter, $k: [ChangeKind!] = [INSERT]) { todoItems(where: $w, kinds: $k) { kind row { id } } }",
					fullIntrospection, "subscription { nope { kind } }",
				} {
					op, err := role.Compile(schema.Request{Query: query, Variables: []byte(`{"w": {"id": {"gt": 1}}}`)})
					if (op == nil) == (err == nil) {
						t.Errorf("%s: %v, %v", query, op, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

// FuzzCompile holds that no request makes the compiler panic, that it gives an operation or
// errors for the client and not both, and that what it compiled can be written.
func FuzzCompile(f *testing.F) {
	for _, s := range []struct{ query, variables string }{
		{"subscription { todoItems { kind rowId key { id } row { title data } old { id } changed cursor transaction { id last } } }", ""},
		{"subscription S($w: TodoItemFilter, $b: Boolean! = true) { todoItems(where: $w) { row @skip(if: $b) { id } } }", `{"w": {"or": [{"id": {"in": [1]}}]}}`},
		{"{ rowtide { version role schemaHash } __type(name: \"TodoItem\") { fields { name type { kind name } } } }", "{}"},
		{"subscription { ...F } fragment F on Subscription { a: todoItems(kinds: [INSERT]) { ... on TodoItemChange { kind } } }", "null"},
		{"subscription { todoItems(where: {title: {like: \"%_a\"}, due: {gt: \"infinity\"}, price: {lt: \"-1e5\"}}) { kind } }", ""},
		{"query A { __schema { types { name } } } query B { __typename }", "{}"},
	} {
		f.Add(s.query, s.variables, "")
	}
	c := officeCatalog(f, schema.Options{Introspection: true, ExposePositions: true})
	image := row("1", "t", "t", "n", "c", "l", "infinity", "2026-01-01", "{a}", "{}", "1", "open", "{done}", "10.0.0.1", "1.5", "NULL")
	f.Fuzz(func(t *testing.T, query, variables, name string) {
		op, err := c.Role("reader").Compile(schema.Request{Query: query, Variables: []byte(variables), OperationName: name})
		var list schema.ErrorList
		if err != nil && (!errors.As(err, &list) || len(list) == 0 || op != nil) {
			t.Fatalf("%q: an error that is not for the client: %v", query, err)
		}
		if err != nil {
			for _, e := range list {
				if e.Code == "" || e.Message == "" || len(e.Message) > 1000 {
					t.Errorf("%q: error %+v", query, e)
				}
			}
			return
		}
		if op.Result != nil {
			mustBeJSON(t, op.Result)
			return
		}
		if op.Where != nil {
			if _, err := op.Where.Match(image, nil); err != nil {
				t.Errorf("%q: match: %v", query, err)
			}
		}
		for k := schema.KindInsert; k <= schema.KindProgress; k++ {
			out, err := op.Selection.Append(nil, &schema.Change{Kind: k, Key: image, New: image, Transaction: &schema.ChangeTransaction{}})
			if err != nil {
				t.Fatalf("%q: write: %v", query, err)
			}
			mustBeJSON(t, out)
		}
	})
}
