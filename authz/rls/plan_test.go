package rls

import (
	"slices"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

func TestRecordText(t *testing.T) {
	t.Parallel()
	null := cdc.Value{}
	tests := map[string]cdc.Row{
		`()`:              {null},
		`(,)`:             {null, null},
		`("",)`:           {cdc.TextValue(""), null},
		`("a""b\\c,(d)")`: {cdc.TextValue(`a"b\c,(d)`)},
		"(\" \n\t\")":     {cdc.TextValue(" \n\t")},
		`("NULL",,"ü")`:   {cdc.TextValue("NULL"), null, cdc.TextValue("ü")},
	}
	for want, image := range tests {
		if got := string(appendRecord(nil, image)); got != want {
			t.Errorf("%v is %s, want %s", image, got, want)
		}
	}
	if got := string(appendElement(nil, `a"b\c`)); got != `{"a\"b\\c"}` {
		t.Errorf("element %s", got)
	}
}

func TestKeywordsAreFoundOutsideOfQuotesAlone(t *testing.T) {
	t.Parallel()
	tests := map[string]string{
		`(SESSION_USER = 'x'::name)`:                       "SESSION_USER",
		`(a = 'it''s SESSION_USER')`:                       "",
		`("SESSION_USER" = 1)`:                             "",
		`("a""SESSION_USER" = 'x') AND (SYSTEM_USER <> b)`: "SYSTEM_USER",
		`MY_SESSION_USER(1)`:                               "",
		`SESSION_USER`:                                     "SESSION_USER",
		`(x = '\'::text) OR (SESSION_USER = ''::name)`:     "SESSION_USER",
		`CURRENT_USER = "session_user"`:                    "",
		`'not closed`:                                      "",
		``:                                                 "",
	}
	for expression, want := range tests {
		if got := sessionWord(expression); got != want {
			t.Errorf("%s: %q, want %q", expression, got, want)
		}
	}
}

func FuzzKeywords(f *testing.F) {
	f.Add(`(a = 'it''s SESSION_USER') AND "b""" = SESSION_USER`)
	f.Add(`'`)
	f.Fuzz(func(t *testing.T, s string) {
		words := identifiers(s)
		if len(strings.Join(words, "")) > len(s) {
			t.Fatalf("%q in %q", words, s)
		}
		// Behind an expression with all quotes closed the keyword is always found.
		if strings.Count(s, "'")%2 == 0 && !strings.Contains(s, `"`) && !slices.Contains(identifiers(s+" SESSION_USER"), "SESSION_USER") {
			t.Fatalf("not found behind %q", s)
		}
	})
}

// Postgres evaluates permissive policies by name from the last, as bytes.
func TestPermissivePoliciesStandInPostgresOrder(t *testing.T) {
	t.Parallel()
	def := &schema.TableDef{Policies: []schema.Policy{
		{Name: "a", Permissive: true, Using: "1"},
		{Name: "B", Permissive: true, Using: "2"},
		{Name: "ä", Permissive: true, Using: "3"},
		{Name: "z", Using: "4"},
		{Name: "y", Using: "5"},
		{Name: "b", Permissive: true},
		{Name: "x"},
	}}
	if got, want := condition(def, []int{0, 1, 2, 3, 4, 5, 6}), "(5) AND (4) AND ((3) OR (1) OR (2))"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got := condition(def, []int{3, 4, 5, 6}); got != "" {
		t.Errorf("%s without a permissive policy", got)
	}
}

func TestGroupsShareTheConnections(t *testing.T) {
	t.Parallel()
	for n, want := range map[int][]int{0: nil, 1: {1}, 8: {8}, 9: {8, 1}, 40: {10, 10, 10, 10}, 130: {32, 32, 32, 32, 2}} {
		var got []int
		for _, g := range split(make([]*task, n), 4) {
			got = append(got, len(g))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d tasks: groups of %v, want %v", n, got, want)
		}
	}
}
