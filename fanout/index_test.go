package fanout

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// ownRows shows rows to the owner whom the principal's subject names, in column 1, and says so.
type ownRows struct{ allVisible }

func (ownRows) Narrow(_ *schema.Table, p *authz.Principal) []authz.Equality {
	switch p.Subject {
	case "nobody":
		return []authz.Equality{{Column: 1}}
	case "everybody":
		return nil
	case "both":
		return []authz.Equality{{Column: 1, Values: []string{"ann", "bob"}}}
	}
	return []authz.Equality{{Column: 1, Values: []string{p.Subject}}}
}

func (ownRows) sees(p *authz.Principal, image cdc.Row) bool {
	if image == nil || p.Subject == "nobody" {
		return false
	}
	owner := image[1]
	return p.Subject == "everybody" ||
		owner.Text() == p.Subject || p.Subject == "both" && (owner.Text() == "ann" || owner.Text() == "bob")
}

// indexCatalog has a table with columns of several types, and policies on it.
func indexCatalog(tb testing.TB) *schema.Catalog {
	tb.Helper()
	column := func(n int16, name, typ string, oid uint32, notNull bool) schema.ColumnDef {
		return schema.ColumnDef{
			Name: name, Number: n, Modifier: -1, NotNull: notNull, Deterministic: true, CollationC: true,
			Type: &schema.Type{OID: oid, Schema: "pg_catalog", Name: typ, Kind: 'b', Delimiter: ','},
		}
	}
	c, problems := schema.New(schema.Database{
		Version: 150018, Roles: []string{"web_user"}, Schemas: []string{"public"},
		Tables: []schema.TableDef{{
			OID: 1, Schema: "public", Name: "rows", Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull, RowSecurity: true,
			Columns: []schema.ColumnDef{
				column(1, "id", "int4", 23, true), column(2, "owner", "text", 25, false), column(3, "size", "float8", 701, false), column(4, "code", "bpchar", 1042, false),
			},
			Keys:       []schema.KeyDef{{Columns: []string{"id"}, Primary: true, Usable: true}},
			Directives: schema.Directives{Subscribe: &schema.Subscribe{}},
			Access:     map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true, true, true}, RowSecurity: true}},
		}},
	}, schema.Options{})
	for _, p := range problems {
		tb.Fatalf("catalog: %+v", p)
	}
	return c
}

var indexRelation = &cdc.Relation{OID: 1, Schema: "public", Name: "rows", Identity: cdc.IdentityFull, Columns: []cdc.Column{
	{Name: "id", Type: 23}, {Name: "owner", Type: 25}, {Name: "size", Type: 701}, {Name: "code", Type: 1042},
}}

// randomWhere draws a filter of a few levels.
func randomWhere(t *rapid.T, depth int) map[string]any {
	operands := map[string][]any{
		"id": {1, 2, 3}, "owner": {"ann", "bob"}, "size": {0, 1.5, "NaN"}, "code": {"a", "a  ", "b"},
	}
	out := map[string]any{}
	for range rapid.IntRange(0, 2).Draw(t, "members") {
		if depth > 0 && rapid.Bool().Draw(t, "nested") {
			switch op := rapid.SampledFrom([]string{"and", "or", "not"}).Draw(t, "op"); op {
			case "not":
				out[op] = randomWhere(t, depth-1)
			default:
				var list []any
				for range rapid.IntRange(0, 3).Draw(t, "parts") {
					list = append(list, randomWhere(t, depth-1))
				}
				if list == nil {
					list = []any{}
				}
				out[op] = list
			}
			continue
		}
		column := rapid.SampledFrom([]string{"id", "owner", "size", "code"}).Draw(t, "column")
		operand := rapid.SampledFrom(operands[column])
		switch op := rapid.SampledFrom([]string{"eq", "in", "ne", "notIn", "isNull"}).Draw(t, "operator"); op {
		case "in", "notIn":
			out[column] = map[string]any{op: rapid.SliceOfN(operand, 0, 3).Draw(t, "operands")}
		case "isNull":
			out[column] = map[string]any{op: rapid.Bool().Draw(t, "null")}
		default:
			out[column] = map[string]any{op: operand.Draw(t, "operand")}
		}
	}
	return out
}

// randomImage draws a row, or none. Zeros have two signs and codes are padded; some values are not
// in the stream, and some are no values of their type.
func randomImage(t *rapid.T) cdc.Row {
	pick := func(texts ...string) cdc.Value {
		switch n := rapid.IntRange(0, len(texts)+1).Draw(t, "value"); n {
		case 0:
			return cdc.Value{}
		case 1:
			return cdc.UnchangedValue()
		default:
			return cdc.TextValue(texts[n-2])
		}
	}
	return cdc.Row{pick("1", "2", "3", "x"), pick("ann", "bob", "cyd"), pick("0", "-0", "1.5", "NaN", "?"), pick("a", "a   ", "b")}
}

// A subscription that sees an image, or may see it where the image does not tell, is found.
func TestIndexLeavesNobodyOut(t *testing.T) {
	t.Parallel()
	catalog := indexCatalog(t)
	rapid.Check(t, func(rt *rapid.T) {
		r := newRegistry(catalog, ownRows{})
		d := &Dispatcher{registry: r, roster: newRoster(), tally: newTally()}
		var subs []*Subscription
		for range rapid.IntRange(1, 12).Draw(rt, "subscriptions") {
			where, err := json.Marshal(randomWhere(rt, 2))
			if err != nil {
				rt.Fatal(err)
			}
			p := authz.NewPrincipal("web_user", rapid.SampledFrom([]string{"ann", "bob", "both", "nobody", "everybody"}).Draw(rt, "user"), nil, time.Time{})
			p = authz.NewPrincipal(p.Role, p.Subject, []authz.Setting{{Name: "user", Value: p.Subject}}, time.Time{})
			req := schema.Request{
				Query:     "subscription($w: RowFilter) { rows(where: $w) { kind } }",
				Variables: fmt.Appendf(nil, `{"w":%s}`, where),
			}
			v, err := compile(catalog, p, req)
			if err != nil {
				rt.Fatalf("compile %s: %v", where, err)
			}
			s := newSubscription(d, d.Open(p), req, v, nil)
			s.phase = live
			if added, err := r.add(s, 1, catalog); !added || err != nil {
				rt.Fatalf("add: %v, %v", added, err)
			}
			subs = append(subs, s)
		}
		for _, i := range rapid.SliceOfDistinct(rapid.IntRange(0, len(subs)-1), rapid.ID).Draw(rt, "gone") {
			r.remove(subs[i])
			subs[i] = nil
		}
		e := &cdc.Event{Op: cdc.Update, Relation: indexRelation, Old: randomImage(rt), New: randomImage(rt)}
		found := findAll(r, e)
		for _, s := range subs {
			if s == nil {
				continue
			}
			if mayConcern(s.view, e) && !slices.Contains(found, s.class) {
				rt.Fatalf("%s with %s is not found by %v -> %v", s.view.principal.Subject, s.request.Variables, e.Old, e.New)
			}
		}
		for _, s := range subs {
			if s != nil {
				r.remove(s)
			}
		}
		if len(r.tables) != 0 || r.count != 0 {
			rt.Fatalf("%d tables and %d subscriptions are left", len(r.tables), r.count)
		}
	})
}

func findAll(r *registry, e *cdc.Event) []*class {
	t, _, ok := r.table(1)
	if !ok {
		return nil
	}
	var out []*class
	for _, l := range r.find(t, nil, &cdc.Transaction{Commit: 1}, []subject{{event: e, old: e.Old, new: e.New}}) {
		out = append(out, l.class)
		l.end()
	}
	return out
}

// mayConcern tells by the policies and where themselves: whether any row that the image may be of
// is seen.
func mayConcern(v view, e *cdc.Event) bool {
	for _, image := range []cdc.Row{e.Old, e.New} {
		for _, row := range possible(image, 0) {
			if !(ownRows{}).sees(v.principal, row) {
				continue
			}
			if v.op.Where == nil {
				return true
			}
			if match, err := v.op.Where.Match(row, nil); match || err != nil {
				return true
			}
		}
	}
	return false
}

// possible gives the rows that an image may be of: what it does not tell, or not in a form that its
// type has, may be anything.
func possible(image cdc.Row, from int) []cdc.Row {
	texts := [][]string{{"1", "2", "3"}, {"ann", "bob"}, {"0", "1.5", "NaN"}, {"a", "b"}}
	for i := from; i < len(image); i++ {
		if v := image[i]; v.Known() && v.Text() != "x" && v.Text() != "?" {
			continue
		}
		var out []cdc.Row
		for _, text := range texts[i] {
			row := slices.Clone(image)
			row[i] = cdc.TextValue(text)
			out = append(out, possible(row, i+1)...)
		}
		row := slices.Clone(image)
		row[i] = cdc.Value{}
		return append(out, possible(row, i+1)...)
	}
	return []cdc.Row{image}
}

// A change costs in proportion to what it reaches.
func TestIndexFindsNobodyElse(t *testing.T) {
	t.Parallel()
	catalog := indexCatalog(t)
	r := newRegistry(catalog, ownRows{})
	d := &Dispatcher{registry: r, roster: newRoster(), tally: newTally()}
	const users, each = 20, 50
	for i := range users * each {
		user := fmt.Sprintf("user%d", i%users)
		p := authz.NewPrincipal("web_user", user, []authz.Setting{{Name: "user", Value: user}}, time.Time{})
		req := schema.Request{Query: fmt.Sprintf("subscription { rows(where: {id: {in: [%d, -1]}, code: {ne: \"z\"}}) { kind } }", i/users)}
		v, err := compile(catalog, p, req)
		if err != nil {
			t.Fatal(err)
		}
		s := newSubscription(d, d.Open(p), req, v, nil)
		s.phase = live
		if added, err := r.add(s, 1, catalog); !added || err != nil {
			t.Fatalf("add: %v, %v", added, err)
		}
	}
	image := func(id, owner string) cdc.Row {
		return cdc.Row{cdc.TextValue(id), cdc.TextValue(owner), cdc.TextValue("1"), cdc.TextValue("a")}
	}
	for name, c := range map[string]struct {
		old, new cdc.Row
		want     int
	}{
		"one row":       {image("7", "user3"), image("7", "user3"), 1},
		"another owner": {image("7", "user3"), image("7", "user4"), 2},
		"an insert":     {nil, image("49", "user19"), 1},
		"everything":    {nil, image("-1", "user3"), each},
		"nobody's":      {image("50", "user3"), image("1", "user20"), 0},
	} {
		if got := len(findAll(r, &cdc.Event{Op: cdc.Update, Old: c.old, New: c.new})); got != c.want {
			t.Errorf("%s: found %d classes, want %d", name, got, c.want)
		}
	}
}
