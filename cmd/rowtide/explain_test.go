package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

const explained = `
CREATE TABLE members (team int, who text, PRIMARY KEY (team, who)); GRANT SELECT ON members TO {0};
CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub' $$;
CREATE TABLE tasks (id int PRIMARY KEY, owner text, title text, done boolean NOT NULL DEFAULT false, due timestamptz, note text);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
GRANT SELECT (id, owner, title, done, due) ON tasks TO {0};
CREATE POLICY own ON tasks FOR SELECT USING (owner = me());
CREATE POLICY current ON tasks AS RESTRICTIVE FOR SELECT USING (due IS NULL OR due > now());
INSERT INTO tasks VALUES (1, 'ana', 'a', false, NULL, 'secret'), (2, 'ben', 'b', false, NULL, NULL), (3, 'ana', 'c', true, 'infinity', NULL), (4, 'ana', 'd', false, '-infinity', NULL);
COMMENT ON TABLE tasks IS '@subscribe';
CREATE TABLE notes (team int, who text, text text, PRIMARY KEY (team, who));
ALTER TABLE notes ENABLE ROW LEVEL SECURITY; GRANT SELECT ON notes TO {0};
CREATE POLICY own ON notes FOR SELECT USING (who = me()); CREATE POLICY "first team" ON notes FOR SELECT USING (team / nullif(team - 2, 0) = 1 OR team / (team - 3) = -1);
INSERT INTO notes VALUES (1, 'ana', 'x'), (3, 'ben', 'y'), (2, 'ben', 'z');
COMMENT ON TABLE notes IS '@subscribe';
CREATE TABLE open (id int PRIMARY KEY); GRANT SELECT ON open TO {0};
COMMENT ON TABLE open IS '@subscribe(rowSecurity: NOT_REQUIRED)';
CREATE TABLE shut (id int PRIMARY KEY); GRANT SELECT ON shut TO {0}; ALTER TABLE shut ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE shut IS '@subscribe';
CREATE TABLE keyless (id int PRIMARY KEY, text text); GRANT SELECT (text) ON keyless TO {0}; ALTER TABLE keyless ENABLE ROW LEVEL SECURITY; ALTER TABLE keyless REPLICA IDENTITY FULL;
COMMENT ON TABLE keyless IS '@subscribe';
ALTER TABLE tasks REPLICA IDENTITY FULL; ALTER TABLE notes REPLICA IDENTITY FULL; ALTER TABLE open REPLICA IDENTITY FULL; ALTER TABLE shut REPLICA IDENTITY FULL`

// TestExplainTellsWaysIndexAndRow compares what rowtide explain prints with a golden file;
// -update writes it.
func TestExplainTellsWaysIndexAndRow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, strings.ReplaceAll(explained, "{0}", role))
	login := db.URL(db.Login(t, "svc", role))
	const tasks, notes = `subscription { tasks { kind row { id } } }`, `subscription { notes { kind rowId } }`
	const ana, ben = `{"sub":"ana"}`, `{"sub":"ben"}`
	var out strings.Builder
	for _, args := range [][]string{
		{tasks, "--claims", ana},
		{`subscription { tasks(where: {done: {eq: false}}) { kind } }`, "--claims", ana, "--row", "1"},
		{tasks, "--claims", ana, "--row", "2"},
		{`subscription($d: Boolean) { tasks(where: {done: {eq: $d}}) { kind } }`, "--variables", `{"d":false}`, "--claims", ana, "--row", "3"},
		{tasks, "--claims", ana, "--row", "4"},
		{notes, "--claims", ben, "--row", `{"team":1,"who":"ana"}`},
		{notes, "--claims", ben, "--row", `{"team":3,"who":"ben"}`},
		{notes, "--claims", ben, "--row", `{"team":2,"who":"ben"}`},
		{`subscription { open { kind } }`},
		{`subscription { shut { kind } }`},
		{`subscription { tasks(where: {or: []}) { kind } }`, "--claims", ana},
		{tasks, "--claims", ana, "--row", "9"},
		{tasks, "--claims", ana, "--row", "x"},
		{notes, "--claims", ana, "--row", "1"},
		{notes, "--claims", ana, "--row", `{"team":1,"whom":"ana"}`},
		{`query { rowtide { version } }`},
		{`subscription { nothing { kind } }`},
		{`subscription { keyless { kind } }`},
		{tasks, "--claims", "{"},
	} {
		out.WriteString("$ rowtide explain '" + strings.Join(args, "' '") + "'\n")
		args = append([]string{"explain", "--database-url", login, "--admin-url", db.Admin, "--role", role}, args...)
		var w world
		text, err := w.command(t.Context(), t, args...).CombinedOutput()
		out.Write(text)
		if err != nil {
			out.WriteString(err.Error() + "\n")
		}
		out.WriteString("\n")
	}
	got := strings.ReplaceAll(out.String(), role, "web_user")
	const golden = "testdata/explain.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestExplainPrintsJSONAndNeedsRightsForRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, strings.ReplaceAll(explained, "{0}", role))
	login := db.URL(db.Login(t, "svc", role))
	args := []string{"explain", `subscription { tasks { kind } }`, "--role", role, "--claims", `{"sub":"ana"}`, "--row", "1"}
	out, err := ran(t, append(args, "--json", "--database-url", db.Admin)...)
	if err != nil {
		t.Fatal(err)
	}
	var report rowtide.Explanation
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Row == nil || !report.Row.Delivered || len(report.Policies) != 2 || report.Subject != "ana" || len(report.Unreadable) != 1 || len(report.Index.Terms) != 1 {
		t.Errorf("%s", out)
	}
	if _, err := ran(t, append(args, "--database-url", login)...); err == nil || !strings.Contains(err.Error(), "set --admin-url") {
		t.Errorf("%v", err)
	}
}
