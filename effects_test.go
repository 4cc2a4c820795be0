package rowtide_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestACascadeIsToldToWhoSawTheRows deletes teams, and with them, by foreign keys, their labels, their members, and
// their tasks, which members see: each subscription is told of its rows, in order, and members are told that their tasks
// were deleted, though nobody is a member any more when these go. Who was none is told nothing.
//
// Covers C59.
func TestACascadeIsToldToWhoSawTheRows(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, strings.ReplaceAll(`CREATE TABLE teams (id int PRIMARY KEY); CREATE TABLE members (team int REFERENCES teams ON DELETE CASCADE, who text, PRIMARY KEY (team, who));
		CREATE TABLE tasks (id int PRIMARY KEY, team int REFERENCES teams ON DELETE CASCADE, owner text);
		CREATE TABLE labels (id int PRIMARY KEY, team int REFERENCES teams ON DELETE CASCADE);
		ALTER TABLE tasks ENABLE ROW LEVEL SECURITY; GRANT SELECT ON teams, members, tasks, labels TO {role}; COMMENT ON TABLE labels IS '@subscribe(rowSecurity: NOT_REQUIRED)';
		CREATE POLICY own ON tasks FOR SELECT TO {role} USING (team IN (SELECT m.team FROM members m WHERE m.who = current_setting('request.jwt.claims', true)::json ->> 'sub'));
		COMMENT ON TABLE teams IS '@subscribe(rowSecurity: NOT_REQUIRED)'; COMMENT ON TABLE tasks IS '@subscribe';
		INSERT INTO teams VALUES (1), (2), (3); INSERT INTO members VALUES (1, 'ana'), (2, 'ana'), (1, 'ben'); INSERT INTO tasks VALUES (10, 1), (30, 3), (20, 2); INSERT INTO labels VALUES (15, 1), (16, 1), (25, 2)`, "{role}", role))
	s := start(t, settings(t, db, role))
	c := s.dial(t, role, map[string]any{"sub": "ana"})
	fields := map[string]string{"1": "teams", "2": "tasks", "3": "labels"}
	for id, field := range fields {
		if err := c.Subscribe(t.Context(), id, "subscription { "+field+" { kind old { id } cursor } }", nil); err != nil {
			t.Fatal(err)
		}
	}
	told := func() (string, string) {
		field, f := nextOf(t, c, func(id string) string { return fields[id] })
		return field, field + " " + f.Kind + " " + string(f.Old["id"])
	}
	for range fields {
		told() // LIVE
	}
	db.Exec(t, "DELETE FROM teams WHERE id = 1")
	db.Exec(t, "DELETE FROM teams WHERE id = 3")
	db.Exec(t, "DELETE FROM teams WHERE id = 2")
	got := map[string][]string{}
	for range 8 {
		field, f := told()
		got[field] = append(got[field], f)
	}
	want := map[string][]string{
		"teams":  {"teams DELETE 1", "teams DELETE 3", "teams DELETE 2"},
		"labels": {"labels DELETE 15", "labels DELETE 16", "labels DELETE 25"},
		"tasks":  {"tasks DELETE 10", "tasks DELETE 20"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestOnlyFinalEffectsAreTold has triggers change what is written and write more, constraints that are deferred, MERGE, and
// sessions that insert the same keys at the same time, of which one finds that it has to update: each transaction tells
// of each row once, from what it was to what it is.
//
// Covers C86.
func TestOnlyFinalEffectsAreTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, `CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, parent int REFERENCES counters DEFERRABLE INITIALLY DEFERRED);
		CREATE FUNCTION before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := NEW.n + 100; RETURN NEW; END $$;
		CREATE FUNCTION behind() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE counters SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END $$;
		CREATE TRIGGER before BEFORE INSERT ON counters FOR EACH ROW EXECUTE FUNCTION before();
		CREATE CONSTRAINT TRIGGER behind AFTER INSERT ON counters DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id < 100) EXECUTE FUNCTION behind();
		GRANT SELECT ON counters TO `+role+`; COMMENT ON TABLE counters IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	s := start(t, settings(t, db, role))
	c := s.dial(t, role, map[string]any{"sub": "ana"})
	if err := c.Subscribe(t.Context(), "1", "subscription { counters { kind row { id n } old { n } transaction { xid } cursor } }", nil); err != nil {
		t.Fatal(err)
	}
	frame := func() *feedtest.Frame {
		_, f := nextOf(t, c, func(string) string { return "counters" })
		return f
	}
	frame() // LIVE
	for _, sql := range []string{
		"BEGIN; INSERT INTO counters VALUES (2, 0, 1); INSERT INTO counters VALUES (1, 0, NULL); DELETE FROM counters WHERE id = 2; COMMIT",
		"MERGE INTO counters c USING (VALUES (1, 7), (3, 8), (4, 9)) v (id, n) ON c.id = v.id WHEN MATCHED THEN UPDATE SET n = v.n WHEN NOT MATCHED AND v.id = 3 THEN INSERT VALUES (v.id, v.n, NULL)",
		"BEGIN; INSERT INTO counters VALUES (1, 5, NULL) ON CONFLICT (id) DO UPDATE SET n = -1; INSERT INTO counters VALUES (1, 5, NULL) ON CONFLICT DO NOTHING; UPDATE counters SET n = n - 1 WHERE id = 1; COMMIT",
	} {
		db.Exec(t, sql)
	}
	for _, want := range []string{"INSERT 1  101", "UPDATE 1 101 7", "INSERT 3  109", "UPDATE 1 7 -2"} {
		f := frame()
		if got := fmt.Sprintf("%s %s %s %s", f.Kind, f.Row["id"], f.Old["n"], f.Row["n"]); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}

	const sessions, upserts, keys = 4, 150, 3
	var g errgroup.Group
	for n := range sessions {
		g.Go(func() error {
			conn, err := pgx.Connect(t.Context(), db.Admin)
			if err != nil {
				return err
			}
			defer conn.Close(t.Context())
			for i := range upserts {
				if _, err := conn.Exec(t.Context(), "INSERT INTO counters VALUES ($1, -99, NULL) ON CONFLICT (id) DO UPDATE SET n = counters.n + 1", 100+(i+n)/50%keys); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	have, seen := map[string]int{}, map[string]bool{}
	for range sessions * upserts {
		f := frame()
		id := string(f.Row["id"])
		have[id]++
		if want := fmt.Sprint(have[id]); string(f.Row["n"]) != want || (f.Kind == feedtest.Insert) != (have[id] == 1) {
			t.Fatalf("change %s of %s gives %s of %s", want, id, f, f.Row["n"])
		}
		if seen[string(f.Transaction.XID)] {
			t.Errorf("transaction %s is told twice", f.Transaction.XID)
		}
		seen[string(f.Transaction.XID)] = true
	}
}
