package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

const lintTables = `
CREATE TYPE mood AS ENUM ('ok');
CREATE TABLE tasks (id int PRIMARY KEY, title text, mood mood);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE TABLE notes (id int PRIMARY KEY, body text);
CREATE TABLE tags (id int PRIMARY KEY);
ALTER TABLE tags ENABLE ROW LEVEL SECURITY;
`

const lintComments = `COMMENT ON TABLE public.notes IS '@subscribe';
COMMENT ON COLUMN public.notes.body IS '@graphql is another tool''s';
COMMENT ON TABLE public.tags IS '@subscribe';
COMMENT ON TABLE public.tasks IS $$
@subscribe(feild: "todo")
Things: 100%, to do.$$;
COMMENT ON COLUMN public.tasks.title IS '@omti';
COMMENT ON TYPE public.mood IS '@name(as: "no name")';
`

// ran runs the program and gives its standard output and its error.
func ran(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out, errOut bytes.Buffer
	err := run(t.Context(), args, &out, &errOut)
	if errOut.Len() > 0 {
		t.Errorf("standard error: %s", &errOut)
	}
	return out.String(), err
}

func file(t *testing.T, text string) string {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("notes.sql", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return "notes.sql"
}

func TestLintTellsEachMistakeWithItsPlaceAndWhatToWrite(t *testing.T) {
	db := pgtest.New(t, lintTables, lintComments)
	golden, err := filepath.Abs(filepath.Join("testdata", "lint.golden"))
	if err != nil {
		t.Fatal(err)
	}
	notes := file(t, lintComments)
	var b strings.Builder
	for _, args := range [][]string{{}, {"--json"}, {"--format", "github"}, {"--annotations", notes}, {"--format", "github", "--annotations", notes}} {
		out, err := ran(t, append([]string{"lint", "--database-url", db.Admin}, args...)...)
		if err == nil || exitCode(err) != 1 {
			t.Errorf("%v ended with %v", args, err)
			continue
		}
		b.WriteString("\n$ rowtide lint " + strings.Join(args, " ") + "\n" + out + "rowtide: " + err.Error() + "\n")
	}
	if f := flag.Lookup("update"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestLintIsContentWithNotes(t *testing.T) {
	db := pgtest.New(t, lintTables, `COMMENT ON TABLE tasks IS '@subscribe
@behavior -insert'`)
	out, err := ran(t, "lint", "--database-url", db.Admin, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var lines []lintLine
	if err := json.Unmarshal([]byte(out), &lines); err != nil || len(lines) != 1 || lines[0].Severity != "note" {
		t.Errorf("%v in %s", err, out)
	}
	db.Exec(t, `COMMENT ON TABLE tasks IS '@subscribe'`)
	if out, err = ran(t, "lint", "--database-url", db.Admin); err != nil || out != "The annotations are good.\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestADumpMakesTheSameSchemaAgain(t *testing.T) {
	db := pgtest.New(t, lintTables, `
COMMENT ON TABLE tasks IS '@subscribe(field: "todo")
What''s to do.';
COMMENT ON COLUMN tasks.title IS E'@name(as: "what")\nWith \\ and $$.';
COMMENT ON COLUMN tasks.id IS 'The number.';
COMMENT ON TABLE tags IS '@subscribe(kinds: [INSERT])';
COMMENT ON TYPE mood IS '@name(as: "Temper")';
ALTER TABLE tasks REPLICA IDENTITY FULL`)
	role := db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO "+role)
	schemaOf := func(args ...string) string {
		out, err := ran(t, append([]string{"schema", "--database-url", db.Admin, "--role", role}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	dump, err := ran(t, "lint", "--database-url", db.Admin, "--dump")
	if err != nil {
		t.Fatal(err)
	}
	before := schemaOf()
	for _, part := range []string{"todo(", "Temper", "what:", "tags("} {
		if !strings.Contains(before, part) {
			t.Errorf("the schema has no %s", part)
		}
	}
	db.Exec(t, `COMMENT ON TABLE tasks IS NULL; COMMENT ON COLUMN tasks.title IS NULL; COMMENT ON COLUMN tasks.id IS NULL;
COMMENT ON TABLE tags IS NULL; COMMENT ON TYPE mood IS NULL`)
	if diff := cmp.Diff(before, schemaOf("--annotations", file(t, dump))); diff != "" {
		t.Errorf("with the dump as the file (-want +got):\n%s", diff)
	}
	db.Exec(t, dump)
	if diff := cmp.Diff(before, schemaOf()); diff != "" {
		t.Errorf("with the dump applied (-want +got):\n%s", diff)
	}
	if again, err := ran(t, "lint", "--database-url", db.Admin, "--dump"); err != nil || again != dump {
		t.Errorf("the second dump is another (%v):\n%s\n%s", err, dump, again)
	}
}
