package schema_test

import (
	"encoding/json"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// FuzzValuesAreValidJSON has every kind of value written, and filtered, from any text at all: what
// is written is JSON, whatever the text, and nothing panics.
func FuzzValuesAreValidJSON(f *testing.F) {
	type written struct {
		name                string
		selection, contains *schema.Operation
	}
	var all []written
	for i, e := range referenceEntries() {
		c, problems := schema.New(database(table(1, "things", column("id", typ("int4")), column("v", e.typ))), schema.Options{})
		if len(problems) > 0 {
			f.Fatal(problems)
		}
		all = append(all, written{name: e.names, selection: compile(f, c, "subscription { things { row { v"+e.fields+" } } }", "")})
		switch e.names {
		case "arrays":
			all[i].contains = compile(f, c, "subscription { things(where: {v: {contains: [1]}}) { row { v } } }", "")
		case "`jsonb`":
			all[i].contains = compile(f, c, `subscription { things(where: {v: {contains: {a: [1]}, ne: 1}}) { row { v } } }`, "")
		case "`interval`":
			all[i].contains = compile(f, c, `subscription { things(where: {v: {gt: "P1D"}}) { row { v } } }`, "")
		}
		f.Add(uint8(i), e.text)
	}
	f.Fuzz(func(t *testing.T, which uint8, text string) {
		w := all[int(which)%len(all)]
		image := cdc.Row{cdc.TextValue("1"), cdc.TextValue(text)}
		if w.contains != nil {
			_, _ = w.contains.Where.Match(image, nil)
		}
		if w.name == "`json`" || w.name == "`jsonb`" {
			return // these are JSON already: Postgres has checked them
		}
		out, err := w.selection.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: image, New: image})
		if err == nil && !json.Valid(out) {
			t.Errorf("%s: %q gives %s", w.name, text, out)
		}
	})
}
