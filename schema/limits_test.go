package schema_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/schema"
)

// wide is a catalog whose table has many columns: what rules cost grows with them.
func wide(t testing.TB) *schema.Catalog {
	t.Helper()
	columns := []schema.ColumnDef{column("id", typ("int4"))}
	for i := range 200 {
		columns = append(columns, column(fmt.Sprintf("some_column_%d", i), typ("text")))
	}
	c, problems := schema.New(database(table(1, "items", columns...)), schema.Options{Introspection: true})
	if len(problems) > 0 {
		t.Fatalf("problems: %+v", problems)
	}
	return c
}

func times(n int, f string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, strings.ReplaceAll(f, "#", "%[1]d"), i)
	}
	return b.String()
}

func fragments(n int, body string) string {
	var b strings.Builder
	b.WriteString("subscription { items { ...F0 } }")
	for i := range n {
		fmt.Fprintf(&b, strings.ReplaceAll(" fragment F%[1]d on ItemChange { "+body+" }", "next", "F%[2]d"), i, i+1)
	}
	fmt.Fprintf(&b, " fragment F%d on ItemChange { kind }", n)
	return b.String()
}

func hostileRequests() map[string]schema.Request {
	field := func(s string) string { return "subscription { items { " + s + " } }" }
	where := func(s string) string { return "subscription { items(where: " + s + ") { kind } }" }
	withVariables := func(v string) schema.Request {
		return schema.Request{Query: "subscription ($w: ItemFilter) { items(where: $w) { kind } }", Variables: []byte(v)}
	}
	out := map[string]schema.Request{
		"deep braces":         {Query: strings.Repeat("{a", 20_000)},
		"deep lists":          {Query: where(strings.Repeat("[", 30_000))},
		"deep filters":        {Query: where(strings.Repeat("{not:", 1000) + "{}" + strings.Repeat("}", 1000))},
		"aliases":             {Query: field(times(10_000, "a#:kind "))},
		"one alias":           {Query: field(strings.Repeat("kind ", 1900))},
		"one alias, nested":   {Query: field(strings.Repeat("row{id} ", 480))},
		"fragment cycle":      {Query: fragments(150, "...next ...F0")},
		"fragment fan-out":    {Query: fragments(120, "...next ...next ...next")},
		"fragments":           {Query: fragments(100, "row{id} ...next")},
		"fragments, doubled":  {Query: fragments(70, "...next ...next")}, // 2 to the 70 fields: more than an int holds
		"directives":          {Query: "subscription " + strings.Repeat("@a", 2000) + "{ items { kind } }"},
		"directives, known":   {Query: field("kind " + strings.Repeat("@skip(if: false)", 500))},
		"tokens":              {Query: field(strings.Repeat("a ", 1_000_000))},
		"tokens in the limit": {Query: field(strings.Repeat("a ", 1900))},
		"comments":            {Query: field("kind" + strings.Repeat("#\n", 30_000))},
		"unknown fields":      {Query: field("row {" + times(1900, "some_colunm_# ") + "}")},
		"unknown arguments":   {Query: "subscription { items(" + times(600, "arg#:1 ") + ") { kind } }"},
		"unknown filters":     {Query: where("{" + times(600, "someColunm#:1 ") + "}")},
		"long name":           {Query: field("row { " + strings.Repeat("a", 60_000) + " }")},
		"long string":         {Query: where(`{id: {eq: "` + strings.Repeat("a", 60_000) + `"}}`)},
		"list literal":        {Query: where("{id: {in: [" + strings.Repeat("1 ", 1900) + "]}}")},
		"operations":          {Query: times(200, "subscription S#{items{kind}} ")},
		"variables":           {Query: "subscription (" + times(480, "$v#: Int ") + ") { items { kind } }"},
		"wide introspection":  {Query: "{" + times(60, "a#: __schema { types { name fields { name args { name type { name } } } } } ") + "}"},
		"deep introspection":  {Query: "{ __schema { types { fields { type { fields { type { fields { type { fields { name } } } } } } } } } }"},
		"variables too long":  withVariables(`{"w": {"id": {"in": [` + strings.Repeat("1,", 50_000) + `1]}}}`),
		"variables too deep":  withVariables(`{"w": ` + strings.Repeat(`{"not":`, 5000) + `{}` + strings.Repeat("}", 5001)),
		"a long list":         withVariables(`{"w": {"id": {"in": [` + strings.Repeat("1,", 1000) + `1]}}}`),
		"many conditions":     withVariables(`{"w": {"or": [` + strings.Repeat(`{"id": {"eq": 1}},`, 200) + `{"id": {"eq": 1}}]}}`),
		"a long pattern":      {Query: where(`{someColumn1: {like: "` + strings.Repeat("%a", 600) + `"}}`)},
	}
	return out
}

// Every hostile request is refused, soon and without much memory. The limits overlap here:
// TestLimitsAreExact sees each go.
//
// Covers S15, S16, S39.
func TestHostileRequestsAreRefusedCheaply(t *testing.T) { //nolint:paralleltest // it measures
	role := wide(t).Role("reader")
	for name, req := range hostileRequests() {
		var list schema.ErrorList
		best, least := time.Hour, uint64(1<<60)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			_, err := role.Compile(req)
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			if !errors.As(err, &list) || len(list) == 0 {
				t.Fatalf("%s is not refused: %v", name, err)
			}
			best, least = min(best, took), min(least, after.TotalAlloc-before.TotalAlloc)
		}
		for _, e := range list {
			if len(e.Message) > 1000 {
				t.Errorf("%s: the message has %d bytes", name, len(e.Message))
			}
		}
		t.Logf("%-22s %8s %8d bytes: %s", name, best, least, list[0].Message[:min(60, len(list[0].Message))])
		checkCost(t, name, best, least)
	}
}

// checkCost holds what is measured to the limits of S15, with room for a busy machine and the
// race detector in the time.
func checkCost(t *testing.T, name string, took time.Duration, bytes uint64) {
	t.Helper()
	if took > 10*5*time.Millisecond || bytes > 1_000_000 {
		t.Errorf("%s costs %s and %d bytes", name, took, bytes)
	}
}

// Each limit takes what it allows and refuses the next.
//
// Covers S15, S39.
func TestLimitsAreExact(t *testing.T) {
	t.Parallel()
	c, _ := schema.New(database(table(1, "items", column("id", typ("int4")), column("t", typ("text")))), schema.Options{Introspection: true, Limits: schema.Limits{
		DocumentBytes: 500, VariableBytes: 300, Tokens: 60, Depth: 8, Fields: 10, Repeats: 4, Directives: 3,
		Operations: 2, NameBytes: 20, ListItems: 5, Conditions: 6, PatternBytes: 7,
	}})
	field := func(s string) func(int) string {
		return func(n int) string { return "subscription { items { kind " + times(n, s) + " } }" }
	}
	where := func(s string) func(int) string {
		return func(n int) string {
			return "subscription { items(where: {" + strings.Replace(s, "#", strings.Repeat("1 ", n), 1) + "}) { kind } }"
		}
	}
	const document = "subscription { items { kind } } "
	for name, x := range map[string]struct {
		query     func(int) string
		variables func(int) string
		most      int
	}{
		"document bytes": {query: func(n int) string { return document + "#" + strings.Repeat("x", n) }, most: 500 - len(document) - 1},
		"tokens":         {query: func(n int) string { return document + strings.Repeat("#\n", n) }, most: 60 - 7},
		"depth": {query: func(n int) string {
			return "subscription { items(where: " + strings.Repeat("{not: ", n) + "{}" + strings.Repeat("}", n) + ") { kind } }"
		}, most: 8 - 3},
		"depth, expanded": {query: func(n int) string {
			return "{ __schema { types { ...F } } } fragment F on __Type { " + times(n, "a#: ofType { ") + "name " + strings.Repeat("}", n) + "}"
		}, most: 8 - 3},
		"fields":  {query: field("a#: kind "), most: 10 - 2},
		"repeats": {query: func(n int) string { return "subscription { items { " + strings.Repeat("kind ", n) + "} }" }, most: 4},
		"directives": {query: func(n int) string {
			return "subscription { items { kind " + times(n, "a#: rowId @skip(if: false) ") + "} }"
		}, most: 3},
		"operations": {query: func(n int) string {
			return "subscription A { items { kind } } " + times(n, "subscription B# { items { kind } } ")
		}, most: 1},
		"name": {query: func(n int) string { return "subscription { items { " + strings.Repeat("a", n) + ": kind } }" }, most: 20},
		"list": {query: where("id: {in: [#]}"), most: 5},
		"pattern": {query: func(n int) string {
			return `subscription { items(where: {t: {like: "` + strings.Repeat("a", n) + `"}}) { kind } }`
		}, most: 7},
		"conditions": {query: func(n int) string {
			all := []string{"eq: 1 ", "ne: 2 ", "lt: 3 ", "lte: 4 ", "gt: 5 ", "gte: 6 ", "isNull: false "}
			return "subscription { items(where: {id: {" + strings.Join(all[:n], "") + "}}) { kind } }"
		}, most: 6},
		"variable bytes": {
			query:     func(int) string { return "subscription ($w: ItemFilter) { items(where: $w) { kind } }" },
			variables: func(n int) string { return `{"x": "` + strings.Repeat("x", n) + `"}` }, most: 300 - 9,
		},
		"variable depth": {
			query: func(int) string { return "subscription ($w: ItemFilter) { items(where: $w) { kind } }" },
			variables: func(n int) string {
				return `{"w": ` + strings.Repeat(`{"not":`, n) + "{}" + strings.Repeat("}", n) + "}"
			}, most: 8 - 2,
		},
	} {
		for n, want := range map[int]bool{x.most: true, x.most + 1: false} {
			req := schema.Request{Query: x.query(n), OperationName: ""}
			if name == "operations" {
				req.OperationName = "A"
			}
			if x.variables != nil {
				req.Variables = []byte(x.variables(n))
			}
			_, err := c.Role("reader").Compile(req)
			var list schema.ErrorList
			if limited := errors.As(err, &list) && list[0].Code == schema.LimitExceeded; limited == want || (err == nil) != want {
				t.Errorf("%s: %d of %d: %v", name, n, x.most, err)
			}
		}
	}
}

// What is just within the limits is not dear either: it is where the rules' squares are.
//
// Covers S15.
func TestTheDearestAcceptedDocumentsAreCheap(t *testing.T) { //nolint:paralleltest // it measures
	role := wide(t).Role("reader")
	for name, query := range map[string]string{
		"one field many times":      "subscription { items { " + strings.Repeat("kind ", 64) + "} }",
		"one object many times":     "subscription { items { " + strings.Repeat("row{id someColumn1 someColumn2} ", 64) + "} }",
		"fragments in a chain":      fragments(60, "row{id} ...next"),
		"fragments, each twice":     fragments(7, "row{id} old{id} ...next ...next"),
		"every column":              "subscription { items { row {" + times(200, "someColumn# ") + "} old {" + times(200, "a#: someColumn# ") + "} } }",
		"filters":                   "subscription { items(where: {" + times(100, "someColumn#: {eq: \"x\" like: \"%x\"} ") + "}) { kind } }",
		"fragments on every column": "subscription { items { row {" + times(60, "...F# ") + "} } }" + times(60, "fragment F# on Item { "+strings.Repeat("a#: someColumn# ", 8)+"} "),
	} {
		best, least := time.Hour, uint64(1<<60)
		for range 5 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			if _, err := role.Compile(schema.Request{Query: query}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			took := time.Since(start)
			runtime.ReadMemStats(&after)
			best, least = min(best, took), min(least, after.TotalAlloc-before.TotalAlloc)
		}
		t.Logf("%-26s %8s %8d bytes", name, best, least)
		checkCost(t, name, best, least)
	}
}
