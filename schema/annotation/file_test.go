package annotation_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
)

// shop is a database whose comments belong to another tool.
func shop() *schema.Database {
	enum := &schema.Type{OID: 7, Schema: "public", Name: "mood", Kind: 'e', Labels: []string{"ok"}, Comment: "Theirs."}
	text := &schema.Type{OID: 25, Schema: "pg_catalog", Name: "text", Kind: 'b'}
	point := &schema.Type{OID: 8, Schema: "public", Name: "spot", Kind: 'c', Fields: []schema.ColumnDef{{Name: "x", Type: text}}}
	return &schema.Database{
		Schemas: []string{"public", "billing"},
		Tables: []schema.TableDef{
			{
				OID: 1, Schema: "public", Name: "tasks", Kind: 'r', Comment: "@subscribe by another tool",
				Columns: []schema.ColumnDef{{Name: "id", Type: text}, {Name: "Note", Type: enum, Comment: "@omit"}, {Name: "at", Type: point}},
			},
			{OID: 2, Schema: "billing", Name: "tasks", Kind: 'p', Columns: []schema.ColumnDef{{Name: "id", Type: text}}},
		},
	}
}

func applied(t *testing.T, db *schema.Database, sql string) []string {
	t.Helper()
	f, err := annotation.ParseFile("notes.sql", sql)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range annotation.ApplyFile(db, f) {
		out = append(out, p.String())
	}
	return out
}

func TestAFilesCommentsStandForTheDatabases(t *testing.T) {
	t.Parallel()
	db := shop()
	problems := applied(t, db, `
/* tasks, /* in two schemas */ */
comment on table Tasks is '@subscribe(field: '
   '"todo")'; -- continued
COMMENT ON COLUMN public."tasks"."Note" IS NULL;
COMMENT ON TABLE billing.tasks IS $x$@subscribe
What is $$ owed.$x$;
COMMENT ON COLUMN billing.tasks.id IS E'@name(as: "nr")\nIt\'s \u00e9.';
COMMENT ON TYPE mood IS '@name(as: "Temper")';
COMMENT ON COLUMN spot.x IS 'Plain.';
COMMENT ON SCHEMA billing IS 'Plain.'`)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	tasks, bills := db.Tables[0], db.Tables[1]
	for what, c := range map[string]struct{ got, want any }{
		"field":       {tasks.Directives.Subscribe.Field, "todo"},
		"NULL":        {tasks.Columns[1].Directives.Omit, false},
		"enum":        {tasks.Columns[1].Type.Directives.Name, "Temper"},
		"composite":   {tasks.Columns[2].Type.Fields[0].Comment, "Plain."},
		"dollars":     {bills.Directives.Description, "What is $$ owed."},
		"escapes":     {bills.Columns[0].Directives.Description, "It's é."},
		"column name": {bills.Columns[0].Directives.Name, "nr"},
	} {
		if diff := cmp.Diff(c.want, c.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
}

func TestMistakesInAFileHaveTheirPlaceInIt(t *testing.T) {
	t.Parallel()
	db := shop()
	got := applied(t, db, "COMMENT ON TABLE tasks IS '\n@subscribe\n  @omit';\n"+
		"COMMENT ON COLUMN tasks.\"Note\" IS E'It''s old.\\n@omti';\r\n"+
		"COMMENT ON COLUMN billing.tasks.id IS $$one\r\ntwo\r\n@name(is: \"x\")$$;\n"+
		"COMMENT ON TABLE taks IS '@subscribe';\nCOMMENT ON COLUMN tasks.titel IS '@omit';\n"+
		"COMMENT ON TYPE tempers IS 'x';\nCOMMENT ON SCHEMA public IS '@omit';\nCOMMENT ON SCHEMA other IS '';\n"+
		"COMMENT ON COLUMN taks.x IS '@omit';\nCOMMENT ON COLUMN spot.y IS '@omit';\n")
	want := []string{
		"table taks, notes.sql, line 8, column 18: there is none of that name in the served schemas (correct the name, or take the comment out)",
		"column tasks.titel, notes.sql, line 9, column 19: table public.tasks has no such column (correct the name, or take the comment out)",
		"type tempers, notes.sql, line 10, column 17: no column of a table in the served schemas has it (correct the name, or take the comment out)",
		"schema public, notes.sql, line 11, column 19: comments on schemas bear no annotations (correct the name, or take the comment out)",
		"schema other, notes.sql, line 12, column 19: it is not served (correct the name, or take the comment out)",
		"column taks.x, notes.sql, line 13, column 19: there is no table taks in the served schemas (correct the name, or take the comment out)",
		"column spot.y, notes.sql, line 14, column 19: type public.spot has no such column (correct the name, or take the comment out)",
		"table public.tasks, notes.sql, line 3, column 3: @omit is for columns, not for a table (take it out)",
		`column public.tasks."Note", notes.sql, line 4, column 49: @omti is no directive (did you mean @omit?)`,
		`column billing.tasks.id, notes.sql, line 7, column 7: @name has no argument is (did you mean as?)`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !db.Tables[0].Invalid || !db.Tables[1].Invalid {
		t.Error("a table with a mistake in the file is in force")
	}
	if p := annotation.ApplyFile(shop(), mustParse(t, "COMMENT ON TABLE taks IS ''"))[0]; p.Note() {
		t.Errorf("%v is a note", p)
	}
}

func mustParse(t *testing.T, sql string) *annotation.File {
	t.Helper()
	f, err := annotation.ParseFile("notes.sql", sql)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestAFileHoldsCommentsAlone(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"\n DROP TABLE tasks;":                               "line 2, column 2: only COMMENT ON … IS … may stand here",
		"COMMENT TABLE x IS 'a'":                             "line 1, column 9: only COMMENT ON … IS … may stand here",
		"COMMENT ON FUNCTION f() IS 'a'":                     "line 1, column 12: comments on a FUNCTION bear no annotations: only those on TABLE, COLUMN, TYPE, DOMAIN, SCHEMA, VIEW, MATERIALIZED VIEW, FOREIGN TABLE do",
		"COMMENT ON \"table\" x IS 'a'":                      "line 1, column 12: the kind of the object must follow COMMENT ON, such as TABLE or COLUMN",
		"COMMENT ON TABLE 'x' IS 'a'":                        "line 1, column 18: a name must follow",
		"COMMENT ON TABLE a.b.c IS 'a'":                      "line 1, column 18: a.b.c is no name of a table: write name or schema.name",
		"COMMENT ON COLUMN c IS 'a'":                         "line 1, column 19: c is no name of a column: write table.column or schema.table.column",
		"COMMENT ON TABLE x AS 'a'":                          "line 1, column 20: IS '…' must follow the name",
		"COMMENT ON TABLE x IS now()":                        "line 1, column 23: a string or NULL must follow IS",
		"COMMENT ON TABLE x IS 'a' || 'b'":                   "line 1, column 27: a semicolon must follow the comment",
		"COMMENT ON TABLE x IS 'a' 'b'":                      "line 1, column 27: a semicolon must follow the comment",
		"COMMENT ON TABLE x IS 'a":                           "line 1, column 23: the string has no end: close it with '",
		"COMMENT ON TABLE x IS $a$ $b$":                      "line 1, column 23: the string has no end: close it with $a$",
		"COMMENT ON TABLE x IS $1":                           "line 1, column 23: unexpected $",
		"COMMENT ON TABLE \"x IS 'a'":                        `line 1, column 18: the name has no end: close it with "`,
		"COMMENT ON TABLE \"\" IS 'a'":                       `line 1, column 18: the name "" is empty`,
		"COMMENT ON TABLE U&\"x\" IS 'a'":                    `line 1, column 18: U&"…" is not understood here: write the characters themselves`,
		"/* /* */ COMMENT":                                   "line 1, column 1: the comment has no end: close it with */",
		`COMMENT ON TABLE x IS E'é\x41'`:                     `line 1, column 26: \x… gives bytes: write the character itself or \u…`,
		`COMMENT ON TABLE x IS E'\u12'`:                      `line 1, column 25: \u wants 4 hexadecimal digits of a character`,
		`COMMENT ON TABLE x IS E'\ud800'`:                    `line 1, column 25: \u wants 4 hexadecimal digits of a character`,
		"COMMENT ON TABLE x IS 'a';COMMENT ON TABLE X IS ''": "line 1, column 44: the comment on table x is there twice, first in line 1: take one out",
		"\xff": "line 1, column 1: the file is not text in UTF-8",
	} {
		_, err := annotation.ParseFile("notes.sql", sql)
		var e *annotation.FileError
		if !errors.As(err, &e) || e.Error() != "notes.sql, "+want {
			t.Errorf("%s\ngot:  %v\nwant: notes.sql, %s", sql, err, want)
		}
	}
}

func TestADumpAsAFileMakesTheSameDirectives(t *testing.T) {
	t.Parallel()
	db := shop()
	db.Tables[0].Comment = "@subscribe\nIt's \\ $$ here,\r\nand there."
	db.Tables[1].Comment = "@subscribe\nWith lines."
	db.Tables[0].Columns[2].Type.Fields[0].Comment = `\d`
	first := annotation.Dump(db)
	bare := shop()
	bare.Tables[0].Columns[1].Comment, bare.Tables[0].Columns[1].Type.Comment = "", ""
	if got := applied(t, bare, first); len(got) > 0 {
		t.Fatal(got)
	}
	annotation.Apply(db)
	for i := range db.Tables {
		if diff := cmp.Diff(db.Tables[i].Directives, bare.Tables[i].Directives); diff != "" {
			t.Errorf("%s (-want +got):\n%s", db.Tables[i].Name, diff)
		}
	}
	const want = `COMMENT ON TABLE public.tasks IS E'@subscribe
It''s \\ $$ here,\r
and there.';
COMMENT ON COLUMN public.tasks."Note" IS '@omit';
COMMENT ON TABLE billing.tasks IS $$@subscribe
With lines.$$;
COMMENT ON TYPE public.mood IS 'Theirs.';
COMMENT ON COLUMN public.spot.x IS E'\\d';
`
	if diff := cmp.Diff(want, first); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// FuzzFile: no text makes the parser panic or loop, its places are within the text, and what was
// parsed is dumped and parsed to the same.
func FuzzFile(f *testing.F) {
	for _, s := range []string{
		"COMMENT ON TABLE tasks IS '@subscribe';", "COMMENT ON COLUMN public.tasks.\"Note\" IS $a$@omit$a$",
		"comment on type mood is E'\\u00e9\\n''' -- x\n;/* /* */ */", "COMMENT ON TABLE tasks IS 'a'\n'b';", "COMMENT ON TABLE tasks IS NULL",
		"COMMENT ON TABLE tasks IS '\r\n\r@omti'",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		lines := strings.Count(sql, "\n") + 1
		file, err := annotation.ParseFile("f", sql)
		if err != nil {
			var e *annotation.FileError
			if !errors.As(err, &e) || e.Line < 1 || e.Line > lines || e.Column < 1 || e.Column > len(sql)+1 {
				t.Fatalf("place of %v", err)
			}
			return
		}
		db := shop()
		for _, p := range annotation.ApplyFile(db, file) {
			if p.File != "" && (p.Line < 1 || p.Line > lines || p.Column < 1 || p.Column > len(sql)+1) {
				t.Fatalf("place of %v", p)
			}
		}
		text := annotation.Dump(db)
		again, err := annotation.ParseFile("f", text)
		if err != nil {
			t.Fatalf("the dump: %v\n%s", err, text)
		}
		bare := shop()
		bare.Tables[0].Comment, bare.Tables[0].Columns[1].Comment = "", ""
		bare.Tables[0].Columns[1].Type.Comment = ""
		annotation.ApplyFile(bare, again)
		for i := range db.Tables {
			want, got := db.Tables[i].Comment, bare.Tables[i].Comment
			if got != want && strings.Contains(want, "@") {
				t.Fatalf("%q became %q", want, got)
			}
		}
	})
}
