package fanout

import (
	"testing"

	"github.com/rowtide/rowtide/schema"
)

// Covers S57.
func TestRulesAreTheSameOnlyWhereTheSameRowsAreSeen(t *testing.T) {
	t.Parallel()
	own := schema.Policy{Name: "own", Permissive: true, Using: "owner"}
	def := func(rowSecurity bool, policies ...schema.Policy) *schema.TableDef {
		d := &schema.TableDef{Policies: policies}
		a := schema.Access{Usage: true, RowSecurity: rowSecurity}
		for i := range policies {
			a.Policies = append(a.Policies, i)
		}
		d.Access = map[string]schema.Access{"r": a}
		return d
	}
	other := own
	other.Name = "another"
	for name, tt := range map[string]struct {
		old, new *schema.TableDef
		same     bool
	}{
		"nothing":                  {def(true, own), def(true, own), true},
		"their order":              {def(true, own, other), def(true, other, own), true},
		"a policy that binds none": {def(false), def(false, own), true},
		"switched on, no policy":   {def(false), def(true), false},
		"switched off, no policy":  {def(true), def(false), false},
		"a policy more":            {def(true, own), def(true, own, other), false},
		"a function replaced":      {def(true, own), def(true, schema.Policy{Name: "own", Permissive: true, Using: "owner", Calls: "x"}), false},
		"restrictive":              {def(true, own), def(true, schema.Policy{Name: "own", Using: "owner"}), false},
	} {
		if got := sameRules(tt.old, tt.new, "r"); got != tt.same {
			t.Errorf("%s: same is %v", name, got)
		}
	}
}
