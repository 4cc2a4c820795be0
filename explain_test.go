package rowtide_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/explain"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// explainedSets is a table whose policy asks another.
const explainedSets = `
	CREATE TABLE members (team int, who text, since date, PRIMARY KEY (team, who)); GRANT SELECT ON members TO {role};
	INSERT INTO members VALUES (1, 'ana', NULL), (2, 'ana', NULL), (2, 'ben', NULL);
	CREATE TABLE tasks (id int PRIMARY KEY, team int); GRANT SELECT ON tasks TO {role}; ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
	CREATE POLICY team ON tasks USING (team IN (SELECT m.team FROM members m WHERE m.who = current_setting('request.jwt.claims', true)::json ->> 'sub'));
	INSERT INTO tasks VALUES (1, 1), (2, 3);
	COMMENT ON TABLE tasks IS '@subscribe'`

// TestExplainTellsWhatIsKeptOrWhyNot explains a policy that asks another table, before setup, behind it,
// and where that table has lost what it takes.
func TestExplainTellsWhatIsKeptOrWhyNot(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, strings.ReplaceAll(explainedSets, "{role}", role))
	look := func(row string) explain.Policy {
		t.Helper()
		r, problems, err := rowtide.Explain(t.Context(), rowtide.ExplainConfig{
			ReadConfig: rowtide.ReadConfig{URL: db.Admin}, Role: role, Claims: json.RawMessage(`{"sub":"ana"}`),
			Query: `subscription { tasks { kind } }`, Row: row,
		})
		if err != nil {
			t.Fatal(err, problems)
		}
		if want := row == "1"; r.Row.Delivered != want || !r.Row.Visible && r.Row.Policies[0].Verdict != "not true" {
			t.Errorf("row %s: %+v", row, r.Row)
		}
		if p := r.Policies[0]; p.Way == "set" {
			if len(r.Index.Terms) != 1 || r.Index.Terms[0].Column != "team" || strings.Join(r.Index.Terms[0].Of, " ") != "1 2" && strings.Join(r.Index.Terms[0].Of, " ") != "2 1" {
				t.Errorf("the index goes by %+v", r.Index)
			}
			if text := r.String(); !strings.Contains(text, "kept in process: public.members (team, who), 3 distinct rows in ") {
				t.Error(text)
			}
		}
		return r.Policies[0]
	}
	const unfit = "the table public.members is not published with full replica identity: run rowtide sync"
	setup := rowtide.SetupConfig{AdminURL: db.Admin, Roles: []string{role}, Login: db.Login(t, "svc"), Publication: "rowtide", Yes: true}
	for _, step := range []struct {
		change   func()
		way, why string
	}{
		{func() { db.Exec(t, "ALTER TABLE tasks REPLICA IDENTITY FULL") }, "postgres", unfit},
		{func() {
			if _, err := rowtide.Setup(t.Context(), setup); err != nil {
				t.Fatal(err)
			}
		}, "set", ""},
		{func() { db.Exec(t, "ALTER TABLE members REPLICA IDENTITY DEFAULT") }, "postgres", unfit},
		{func() {
			if _, err := rowtide.Sync(t.Context(), setup); err != nil {
				t.Fatal(err)
			}
		}, "set", ""},
		{func() { db.Exec(t, "DROP FUNCTION rowtide.rows_of(oid, text[])") }, "postgres", "may not read public.members: run rowtide setup"},
	} {
		step.change()
		for _, row := range []string{"1", "2"} {
			if p := look(row); p.Way != step.way || !strings.Contains(p.Why, step.why) {
				t.Errorf("got %+v, want %s %s", p, step.way, step.why)
			}
		}
	}
}
