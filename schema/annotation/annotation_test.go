package annotation_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
)

func reason(s string) *string { return &s }

func TestCommentsGiveDirectivesAndTheDescription(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		on      annotation.Target
		comment string
		want    schema.Directives
	}{
		"nothing":     {annotation.OnTable, "", schema.Directives{}},
		"description": {annotation.OnTable, "One thing to do.\n\nMore.", schema.Directives{Description: "One thing to do.\n\nMore."}},
		"as in the design": {
			annotation.OnTable, "\n@subscribe\nOne thing to do.\n",
			schema.Directives{Subscribe: &schema.Subscribe{}, Description: "One thing to do."},
		},
		"all arguments": {
			annotation.OnTable, `@subscribe(field: "auditTrail", type: "AuditEntry", kinds: [INSERT], rowSecurity: NOT_REQUIRED)`,
			schema.Directives{Subscribe: &schema.Subscribe{
				Field: "auditTrail", Type: "AuditEntry",
				Kinds: []schema.ChangeKind{schema.KindInsert}, NoRowSecurity: true,
			}},
		},
		"over lines": {
			annotation.OnTable, "First.\n  @subscribe(\n    kinds: [INSERT,\n UPDATE] # but no (DELETE\n  )  \nLast.",
			schema.Directives{
				Subscribe:   &schema.Subscribe{Kinds: []schema.ChangeKind{schema.KindInsert, schema.KindUpdate}},
				Description: "First.\nLast.",
			},
		},
		"a parenthesis in a string": {
			annotation.OnColumn, `@deprecated(reason: "use (b) \") instead")` + "\nOld.",
			schema.Directives{Deprecated: reason(`use (b) ") instead`), Description: "Old."},
		},
		"two on a line": {
			annotation.OnTable, `@subscribe @key(columns: ["a", "b"]) @deprecated`,
			schema.Directives{Subscribe: &schema.Subscribe{}, Key: []string{"a", "b"}, Deprecated: reason("No longer supported")},
		},
		"a space before the parenthesis": {annotation.OnColumn, `@name (as: "done")`, schema.Directives{Name: "done"}},
		"a list of one":                  {annotation.OnTable, `@key(columns: "a")`, schema.Directives{Key: []string{"a"}}},
		"null is not given": {
			annotation.OnTable, `@subscribe(field: null, kinds: null)`,
			schema.Directives{Subscribe: &schema.Subscribe{}},
		},
		"carriage returns": {
			annotation.OnColumn, "@omit\r\nA note.\r\n", schema.Directives{Omit: true, Description: "A note."},
		},
		"names in prose": {
			annotation.OnColumn, "Ask @name or write to me@omit(at)example.com.",
			schema.Directives{Description: "Ask @name or write to me@omit(at)example.com."},
		},
		"an enum": {annotation.OnType, "@name(as: \"State\")\nWhat it is.", schema.Directives{Name: "State", Description: "What it is."}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, mistakes := annotation.Parse(c.on, c.comment)
			if len(mistakes) > 0 {
				t.Fatalf("mistakes: %v", mistakes)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestWhatBelongsToOtherToolsIsNotedAndKeptOut(t *testing.T) {
	t.Parallel()
	comment := "@graphql({\"name\": \"x)\",\n \"@name(\": 1})\n@behavior -insert\nText.\n@subscribe"
	got, mistakes := annotation.Parse(annotation.OnTable, comment)
	want := schema.Directives{Subscribe: &schema.Subscribe{}, Description: "Text."}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if len(mistakes) != 2 || !mistakes[0].Note || !mistakes[1].Note || mistakes[1].Line != 3 {
		t.Errorf("notes: %+v", mistakes)
	}
}

func TestMistakesHaveAPlaceAndASuggestion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		on           annotation.Target
		comment      string
		line, column int
		message      string
		hint         string
	}{
		{annotation.OnTable, "@subscribe A thing.", 1, 12, "text follows @subscribe", "on its own line"},
		{annotation.OnTable, "@subscribe(\n)", 2, 1, "syntax", "@subscribe(field: String"},
		{annotation.OnTable, "@subscribe(\n) A thing.", 2, 3, "text follows @subscribe", "on its own line"},
		{annotation.OnTable, "@subscribe(kinds: [\nINSERT\n]) A thing.", 3, 4, "text follows @subscribe", "on its own line"},
		{annotation.OnTable, "A thing. @subscribe(kinds: [INSERT])", 1, 10, "middle of a line", "own line"},
		{annotation.OnTable, "Ein Ding ü. @key (columns: [])", 1, 13, "middle of a line", "own line"},
		{annotation.OnTable, "x\n @subscrbe", 2, 2, "@subscrbe is no directive", "did you mean @subscribe?"},
		{annotation.OnTable, "@susbcribe", 1, 1, "no directive", "did you mean @subscribe?"},
		{annotation.OnTable, "@SUBSCRIBE", 1, 1, "no directive", "did you mean @subscribe?"},
		{annotation.OnColumn, "@names(as: \"x\")", 1, 1, "no directive", "did you mean @name?"},
		{annotation.OnColumn, "@name foo", 1, 7, "text follows @name", `write @name(as: "foo")`},
		{annotation.OnColumn, "@deprecated use b", 1, 13, "text follows", `@deprecated(reason: "use b")`},
		{annotation.OnColumn, "@omit create,update", 1, 7, "text follows", "takes no words"},
		{annotation.OnColumn, "@omit, please", 1, 6, "text follows", "own line"},
		{annotation.OnColumn, "@omit @graphql({})", 1, 7, "@graphql of another tool", "own line"},
		{annotation.OnColumn, "@omit @nmae(as: \"x\")", 1, 7, "@nmae is no directive", "did you mean @name?"},
		{annotation.OnColumn, "@omit\n@omit", 2, 1, "there twice", "take one out"},
		{annotation.OnColumn, "@name", 1, 1, "needs the argument as", "@name(as: String!)"},
		{annotation.OnColumn, "@name(as: \"a b\")", 1, 11, "no GraphQL name", "letters"},
		{annotation.OnColumn, "@name(as: \"__a\")", 1, 11, "no GraphQL name", "letters"},
		{annotation.OnColumn, "@name(as: foo)", 1, 11, "must be a string", `as: "foo"`},
		{annotation.OnColumn, "@name(as: $x)", 1, 11, "syntax", "@name(as: String!)"},
		{annotation.OnColumn, "@name(ass: \"x\")", 1, 7, "no argument ass", "did you mean as?"},
		{annotation.OnColumn, "@name(as: \"x\", as: \"y\")", 1, 16, "argument as is there twice", ""},
		{annotation.OnColumn, "@name(as: \"x\"", 1, 1, "no closing parenthesis", "close it"},
		{annotation.OnColumn, "@name(as: \"\"\"a\n\nb\"\"\")", 1, 11, "no GraphQL name", ""},
		{annotation.OnColumn, "@name(as: \"x)", 1, 1, "no closing parenthesis", "close it"},
		{annotation.OnColumn, "@subscribe", 1, 1, "is for tables, not for a column", "take it out"},
		{annotation.OnTable, "@name(as: \"x\")", 1, 1, "is for columns and types", "@subscribe(field:"},
		{annotation.OnTable, "@omit", 1, 1, "is for columns", ""},
		{annotation.OnType, "@deprecated", 1, 1, "is for tables and columns", ""},
		{annotation.OnTable, "@subscribe(kinds: [insert])", 1, 20, "kinds cannot be insert", "did you mean INSERT?"},
		{annotation.OnTable, "@subscribe(kinds: [\"INSERT\"])", 1, 20, "kinds cannot be", "without quotation marks"},
		{annotation.OnTable, "@subscribe(kinds: [TRUNCATE])", 1, 20, "kinds cannot be TRUNCATE", "one of INSERT, UPDATE, DELETE"},
		{annotation.OnTable, "@subscribe(kinds: [])", 1, 19, "empty list", ""},
		{annotation.OnTable, "@subscribe(kinds: [INSERT, INSERT])", 1, 28, "twice", ""},
		{annotation.OnTable, "@subscribe(\n  rowSecurity: NOT_REQUIERD)", 2, 16, "cannot be NOT_REQUIERD", "did you mean NOT_REQUIRED?"},
		{annotation.OnTable, "@subscribe(field: \"\")", 1, 19, "empty", ""},
		{annotation.OnTable, "@key(columns: [])", 1, 15, "empty list", ""},
		{annotation.OnTable, "@key(columns: [null])", 1, 16, "must not be null", ""},
		{annotation.OnTable, "@key", 1, 1, "needs the argument columns", ""},
	} {
		t.Run(c.comment, func(t *testing.T) {
			t.Parallel()
			_, mistakes := annotation.Parse(c.on, c.comment)
			if len(mistakes) == 0 {
				t.Fatal("no mistake is told")
			}
			m := mistakes[0]
			if m.Line != c.line || m.Column != c.column || !strings.Contains(m.Message, c.message) || !strings.Contains(m.Hint, c.hint) || m.Note {
				t.Errorf("got %d:%d %s (%s); want %d:%d %s (%s)", m.Line, m.Column, m.Message, m.Hint, c.line, c.column, c.message, c.hint)
			}
		})
	}
}

func TestDirectivesBesideOmitAreNoted(t *testing.T) {
	t.Parallel()
	got, mistakes := annotation.Parse(annotation.OnColumn, "@omit\n@name(as: \"x\")")
	if !got.Omit || len(mistakes) != 1 || !mistakes[0].Note || !strings.Contains(mistakes[0].Message, "no effect") {
		t.Errorf("got %+v, %+v", got, mistakes)
	}
}

func TestAMistakeDisablesItsTableAlone(t *testing.T) {
	t.Parallel()
	status := &schema.Type{OID: 20000, Schema: "public", Name: "status", Kind: 'e', Labels: []string{"a"}, Comment: "@nmae"}
	list := &schema.Type{OID: 20001, Schema: "public", Name: "_status", Kind: 'b', Elem: status}
	db := &schema.Database{Tables: []schema.TableDef{
		{OID: 1, Schema: "public", Name: "good", Comment: "@subscribe\n@behavior x", Columns: []schema.ColumnDef{
			{Name: "id", Type: &schema.Type{OID: 23}, Comment: "@name(as: \"key\")\nThe id."},
		}},
		{OID: 2, Schema: "public", Name: "bad column", Comment: "@subscribe", Columns: []schema.ColumnDef{
			{Name: "id", Type: &schema.Type{OID: 23}, Comment: "@name x"},
		}},
		{OID: 3, Schema: "public", Name: "bad_enum", Comment: "@subscribe", Columns: []schema.ColumnDef{
			{Name: "s", Type: status}, {Name: "l", Type: list},
		}},
	}}
	problems := annotation.Apply(db)
	if db.Tables[0].Invalid || !db.Tables[1].Invalid || !db.Tables[2].Invalid {
		t.Errorf("invalid: %v %v %v", db.Tables[0].Invalid, db.Tables[1].Invalid, db.Tables[2].Invalid)
	}
	if d := db.Tables[0].Columns[0].Directives; d.Name != "key" || d.Description != "The id." {
		t.Errorf("column directives: %+v", d)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Object)
	}
	want := []string{"table public.good", `column public."bad column".id`, "type public.status"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if problems[0].Table != 0 || problems[1].Table != 2 || problems[2].Table != 3 {
		t.Errorf("tables of the problems: %+v", problems)
	}
}

func TestTheReferenceDocumentsEveryDirective(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"subscribe", "omit", "name", "key", "deprecated"} {
		at := strings.Index(annotation.Definitions(), "directive @"+name)
		if at < 0 {
			t.Fatalf("@%s is not defined", name)
		}
		if before := strings.TrimSpace(annotation.Definitions()[:at]); !strings.HasSuffix(before, `"""`) {
			t.Errorf("@%s has no description", name)
		}
	}
}

// FuzzParse holds that no comment makes the parser panic, that every mistake has a place inside
// the comment, and that nothing is ignored in silence: a line that starts with a directive's name
// either gives that directive or a mistake.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"@subscribe\nText", "@subscribe(kinds: [INSERT]) @key(columns: \"a\")", "@name foo", "@graphql({\n})x",
		"@omit(", "@deprecated(reason: \"\"\"a)\"\"\")", "@name(as: \"\\u00e4\")", "ü @key(", "@subscribe # x (",
		"@key(columns: [\"a\"\n\n])", "@\x80name", "@omit\r\n@omit", "@key(\r)",
	} {
		f.Add(uint8(1), s)
	}
	f.Fuzz(func(t *testing.T, on uint8, comment string) {
		target := annotation.Target(on%3 + 1)
		got, mistakes := annotation.Parse(target, comment)
		lines := strings.Split(strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(comment), "\n")
		for _, m := range mistakes {
			if m.Line < 1 || m.Line > len(lines) || m.Column < 1 || m.Column > utf8.RuneCountInString(lines[m.Line-1])+1 {
				t.Errorf("%q: mistake outside the comment: %+v", comment, m)
			}
			if m.Message == "" {
				t.Errorf("%q: mistake without a message", comment)
			}
		}
		if len(mistakes) == 0 && strings.HasPrefix(comment, "@omit") && !got.Omit && !strings.HasPrefix(comment, "@omit_") {
			t.Errorf("%q: @omit is ignored in silence", comment)
		}
		if strings.Contains(" "+got.Description, " @subscribe(") && len(mistakes) == 0 {
			t.Errorf("%q: a directive ended in the description", comment)
		}
	})
}
