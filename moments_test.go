package rowtide_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// minded explains notes to ana, and gives what there is to mind of its policy.
func minded(t *testing.T, db *pgtest.DB, role string) string {
	t.Helper()
	report, problems, err := rowtide.Explain(t.Context(), rowtide.ExplainConfig{
		ReadConfig: rowtide.ReadConfig{URL: db.Admin}, Role: role, Claims: json.RawMessage(`{"sub":"ana"}`), Query: `subscription { notes { kind } }`,
	})
	if err != nil {
		t.Fatal(err, problems)
	}
	return strings.Join(report.Policies[0].Moments, "\n")
}

// TestTheClockIsReadWhenAChangeIsJudged has a policy that shows rows until their time is over. A change is judged
// by the clock at its own time, also that of the old image: a row whose time is over goes without a word, and comes back
// as one that enters. Explain says so.
//
// Covers R22.
func TestTheClockIsReadWhenAChangeIsJudged(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t, "ALTER TABLE notes ADD until timestamptz; ALTER POLICY own ON notes USING (owner = 'ana' AND until > now())")
	if got := minded(t, db, role); !strings.Contains(got, "reads the clock (now())") {
		t.Errorf("explain says %q", got)
	}
	c := liveNotes(t, s, role, "")
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'short', now() + '10 s'), (2, 'ana', 'long', 'infinity'), (3, 'ana', 'over', now() - interval '1 s')")
	for _, id := range []string{"1", "2"} {
		if f := next(t, c); f.Kind != feedtest.Insert || string(f.Row["id"]) != id {
			t.Fatalf("want the insert of %s, got %s %s", id, f, f.Row)
		}
	}
	eventually(t, "its time is over", func() bool {
		return pgtest.One[bool](t, db, "SELECT until < clock_timestamp() FROM notes WHERE id = 1")
	})
	db.Exec(t, "UPDATE notes SET text = 'not sent' WHERE id = 1; UPDATE notes SET text = 'sent' WHERE id = 2")
	if f := next(t, c); string(f.Row["id"]) != "2" {
		t.Errorf("want the update of the other alone, got %s %s", f, f.Row)
	}
	db.Exec(t, "UPDATE notes SET until = 'infinity' WHERE id = 1")
	if f := next(t, c); f.Kind != feedtest.Enter || f.Old != nil {
		t.Errorf("want it to enter, got %s, old %v", f, f.Old)
	}
}

// TestALookAtTheTableItselfFindsWhatIsThere has a policy whose function looks the row up by its key. It finds the row
// as it is: a deleted one not at all, so its DELETE is not sent. Explain says so, and of a function that takes the row's
// columns it does not: then the DELETE comes.
//
// Covers R30.
func TestALookAtTheTableItselfFindsWhatIsThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		function, call string
		found          bool
	}{
		"by its key in SQL":   {`(note int) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public AS $$ SELECT n.owner = me() FROM notes n WHERE n.id = note $$`, "sees(id)", true},
		"by its key":          {`(note int) RETURNS bool LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $$ BEGIN RETURN EXISTS (SELECT FROM notes n WHERE n.id = note AND n.owner = me()); END $$`, "sees(id)", true},
		"by its own column":   {`(owner text) RETURNS bool LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $$ BEGIN RETURN owner = me(); END $$`, "sees(owner)", false},
		"by another function": {`(note int) RETURNS bool LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public AS $$ BEGIN RETURN public.owner_of(note) = me(); END $$`, "sees(id)", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			role := db.Role(t, "web_user")
			db.Exec(t, notes(role)+`CREATE FUNCTION me() RETURNS text LANGUAGE sql STABLE AS $$ SELECT `+whoIAm+` $$;
				CREATE FUNCTION owner_of(note int) RETURNS text LANGUAGE sql STABLE AS $$ SELECT n.owner FROM public.notes n WHERE n.id = note $$;
				CREATE FUNCTION sees`+c.function+`; ALTER POLICY own ON notes USING (`+c.call+`)`)
			s := start(t, settings(t, db, role))
			if got := minded(t, db, role); strings.Contains(got, "looks the row up in the table itself") != c.found {
				t.Errorf("explain says %q", got)
			}
			sub := liveNotes(t, s, role, "")
			db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', ''), (2, 'ana', '')")
			until(t, sub, isKind(feedtest.Insert))
			until(t, sub, isKind(feedtest.Insert))
			db.Exec(t, "DELETE FROM notes WHERE id = 1")
			db.Exec(t, "UPDATE notes SET text = 'behind it' WHERE id = 2")
			f := next(t, sub)
			if !c.found {
				if f.Kind != feedtest.Delete {
					t.Errorf("want the delete, got %s", f)
				}
				f = next(t, sub)
			}
			if f.Kind != feedtest.Update {
				t.Errorf("want the update, and no delete before it, got %s", f)
			}
		})
	}
}
