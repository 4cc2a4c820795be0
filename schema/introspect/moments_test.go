package introspect

import "testing"

func TestClocksAndLookupsAreToldFromWhatLooksLikeThem(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]struct {
		clock  string
		lookup bool
	}{
		`(until > now())`:                                {"now()", false},
		`(until > Pg_Catalog.NOW ( ))`:                   {"NOW ( )", false},
		`(day = CURRENT_DATE)`:                           {"CURRENT_DATE", false},
		`age(born) > '18 years'`:                         {"age(born)", false},
		`age(a, b) > '1 day'`:                            {"", false},
		`title = 'now()' -- CURRENT_DATE`:                {"", false},
		`known() AND snow()`:                             {"", false},
		`SELECT owner FROM notes WHERE id = $1`:          {"", true},
		"select 1\nfrom public.notes":                    {"", true},
		`SELECT FROM members m JOIN ONLY "notes" n ON x`: {"", true},
		`SELECT FROM members m, notes WHERE true`:        {"", true},
		`FOR n IN SELECT * FROM notes; LOOP`:             {"", true},
		`SELECT FROM my_notes, notes_of`:                 {"", false},
		`SELECT FROM notes.members`:                      {"", false},
		`SELECT FROM notes(1)`:                           {"", false},
		`SELECT notes FROM members /* from notes */`:     {"", false},
		`EXECUTE 'SELECT FROM notes'`:                    {"", false},
	} {
		code := silent.ReplaceAllString(body, " ")
		if clock := clocks.FindString(code); clock != want.clock {
			t.Errorf("%s: clock %q, want %q", body, clock, want.clock)
		}
		if got := lookup("public", "notes").MatchString(code); got != want.lookup {
			t.Errorf("%s: lookup %t", body, got)
		}
	}
}
