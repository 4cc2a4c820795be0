package client

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"
)

func TestADocumentTakesTheCursorAsAVariable(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ query, want, after, from string }{
		{"subscription{a{kind}}", "subscription($rowtideAfter: Cursor){a(after: $rowtideAfter){kind}}", afterVariable, ""},
		{"subscription S { x : a { kind } }", "subscription S($rowtideAfter: Cursor) { x : a(after: $rowtideAfter) { kind } }", afterVariable, ""},
		{"subscription { a(snapshot: true) { kind } }", "subscription($rowtideAfter: Cursor) { a(after: $rowtideAfter, snapshot: true) { kind } }", afterVariable, ""},
		{"subscription($w: F = {a: 1}) { a(where: $w) { kind } }", "subscription($rowtideAfter: Cursor, $w: F = {a: 1}) { a(after: $rowtideAfter, where: $w) { kind } }", afterVariable, ""},
		{"subscription($c: Cursor) { a(after: $c) { kind } }", "subscription($c: Cursor) { a(after: $c) { kind } }", "c", ""},
		{`subscription { a(after: "xyz", snapshot: true) { kind } }`, "subscription($rowtideAfter: Cursor) { a(after: $rowtideAfter, snapshot: true) { kind } }", afterVariable, "xyz"},
		{`subscription { a(where: {and: [{t: {eq: "ä{(😀"}}]}, after: null) { kind } }`, `subscription($rowtideAfter: Cursor) { a(where: {and: [{t: {eq: "ä{(😀"}}]}, after: $rowtideAfter) { kind } }`, afterVariable, ""},
		{"# über\nsubscription # of { all\n{ a # (x: y)\n@d { kind } }", "# über\nsubscription($rowtideAfter: Cursor) # of { all\n{ a(after: $rowtideAfter) # (x: y)\n@d { kind } }", afterVariable, ""},
		{"fragment f on A { kind } subscription { a { ...f } }", "fragment f on A { kind } subscription($rowtideAfter: Cursor) { a(after: $rowtideAfter) { ...f } }", afterVariable, ""},
		// These are the service's to judge.
		{"query { rowtide { version } }", "", "", ""},
		{"subscription { a { kind } b { kind } }", "", "", ""},
		{"subscription { ...f } fragment f on Subscription { a { kind } }", "", "", ""},
		{"subscription {", "", "", ""},
		{"", "", "", ""},
	} {
		want := Document{Query: c.want, After: c.after, From: c.from}
		if c.want == "" {
			want.Query = c.query
		}
		if diff := cmp.Diff(want, ParseDocument(c.query, false)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.query, diff)
		}
	}
}

func TestADocumentKnowsItsRow(t *testing.T) {
	t.Parallel()
	d := ParseDocument("subscription { a { kind ...f now: row { id } } } fragment f on C { row { id called: title ...g } } fragment g on A { done }", true)
	want := Document{
		Query: "subscription($rowtideAfter: Cursor) { a(after: $rowtideAfter) { rowtideKind: kind rowtideRowId: rowId kind ...f now: row { id } } } " +
			"fragment f on C { row { id called: title ...g } } fragment g on A { done }",
		After: afterVariable, Kind: kindAlias, RowID: rowIDAlias, Row: "row", Columns: []string{"id", "called", "done"},
	}
	if diff := cmp.Diff(want, d); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzDocument holds what ParseDocument makes to the parser: what was a document still is one.
func FuzzDocument(f *testing.F) {
	f.Add("subscription S($a: [Int!] = [1] @d) @e { x: a(after: \"\"\"q\"\"\") @f { k } }")
	f.Add("subscription { a(b: {c: [$d]}) { k ... on T { row { a: b } } } }")
	f.Add("fragment f on A { ...f } subscription{a{...f}}")
	f.Fuzz(func(t *testing.T, query string) {
		d := ParseDocument(query, true)
		if d.After == "" {
			if d.Query != query {
				t.Errorf("%q was changed to %q", query, d.Query)
			}
			return
		}
		doc, err := parser.ParseQuery(&ast.Source{Input: d.Query})
		if err != nil {
			t.Fatalf("%q became %q: %v", query, d.Query, err)
		}
		after := doc.Operations[0].SelectionSet[0].(*ast.Field).Arguments.ForName("after")
		if after == nil || after.Value.Kind != ast.Variable || after.Value.Raw != d.After || !strings.Contains(d.Query, "$"+d.After) {
			t.Errorf("%q became %q, which does not take %s", query, d.Query, d.After)
		}
	})
}
