package schema_test

import (
	"testing"

	"github.com/rowtide/rowtide/schema"
)

// shape is a table whose column v has a type, and w another one.
func shape(t *testing.T, v, w *schema.Type, change ...func(*schema.ColumnDef)) *schema.Catalog {
	t.Helper()
	d := table(1, "things", column("id", typ("int4")), column("v", v), column("w", w))
	for _, f := range change {
		f(&d.Columns[1])
	}
	return catalog(t, d)
}

func mood(labels ...string) *schema.Type {
	return &schema.Type{OID: 30_000, Schema: "public", Name: "mood", Kind: 'e', Labels: labels}
}

func pairOf(fields ...schema.ColumnDef) *schema.Type {
	return &schema.Type{OID: 30_001, Schema: "public", Name: "pair", Kind: 'c', Fields: fields}
}

// Only what a document uses counts, and of it only what its clients were told.
//
// Covers C54, C99.
func TestARequestIsRetypedByWhatItUsesAlone(t *testing.T) {
	t.Parallel()
	const all = "subscription { things { row { v } } }"
	text, number := typ("text"), typ("int4")
	pair := pairOf(column("a", number), column("b", text))
	for name, x := range map[string]struct {
		query              string
		old, new           *schema.Catalog
		retyped, rewritten bool
	}{
		"another column":           {all, shape(t, text, text), shape(t, text, number), false, false},
		"an alias of its name":     {"subscription { things { row { w: v } } }", shape(t, text, text), shape(t, text, number), false, false},
		"another type":             {all, shape(t, text, text), shape(t, number, text), true, true},
		"the same type in GraphQL": {all, shape(t, text, text), shape(t, typ("varchar"), text), false, true},
		"another length":           {all, shape(t, text, text), shape(t, text, text, func(c *schema.ColumnDef) { c.Modifier = 7 }), false, true},
		"another collation":        {all, shape(t, text, text), shape(t, text, text, func(c *schema.ColumnDef) { c.Collation = "b" }), false, true},
		"not null":                 {all, shape(t, text, text), shape(t, text, text, func(c *schema.ColumnDef) { c.NotNull = true }), true, false},
		"not null, in a filter":    {"subscription { things(where: {v: {eq: \"x\"}}) { row { id } } }", shape(t, text, text), shape(t, text, text, func(c *schema.ColumnDef) { c.NotNull = true }), false, false},
		"a label more":             {all, shape(t, mood("a"), text), shape(t, mood("a", "b"), text), false, false},
		"a label less":             {all, shape(t, mood("a", "b"), text), shape(t, mood("a"), text), true, false},
		"a label renamed":          {all, shape(t, mood("a", "b"), text), shape(t, mood("a", "c"), text), true, false},
		"a label in a filter":      {"subscription { things(where: {v: {eq: a}}) { row { id } } }", shape(t, mood("a"), text), shape(t, mood("a", "b"), text), false, false},
		"an attribute more":        {"subscription { things { row { v { a b } } } }", shape(t, pair, text), shape(t, pairOf(column("a", number), column("b", text), column("c", text)), text), false, false},
		"an attribute it has not":  {"subscription { things { row { v { a } } } }", shape(t, pair, text), shape(t, pairOf(column("a", number), column("b", number)), text), false, false},
		"an attribute it has":      {"subscription { things { row { v { b } } } }", shape(t, pair, text), shape(t, pairOf(column("a", number), column("b", number)), text), true, false},
		"an attribute in a list":   {"subscription { things { row { v { b } } } }", shape(t, array(pair), text), shape(t, array(pairOf(column("a", number), column("b", number))), text), true, false},
	} {
		before, after := compile(t, x.old, x.query, ""), compile(t, x.new, x.query, "")
		if before.Retyped(after) != x.retyped || before.Rewritten(after) != x.rewritten {
			t.Errorf("%s: retyped %v, rewritten %v", name, before.Retyped(after), before.Rewritten(after))
		}
	}
}
