package schema_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// office is a database with two tables that three roles see in different parts.
func office() schema.Database {
	status := &schema.Type{
		OID: 20000, Schema: "public", Name: "item_status", Kind: 'e', Labels: []string{"open", "in progress", "done"},
		Directives: schema.Directives{Description: "How far it is."},
	}
	positive := &schema.Type{OID: 20001, Schema: "public", Name: "positive", Kind: 'd', Base: typ("numeric")}
	cText := column("code", typ("text"))
	cText.CollationC = true
	old := "use code"
	legacy := column("legacy_code", typ("varchar"))
	legacy.Directives.Deprecated = &old
	total := notNull(column("total", typ("int4")))
	total.Generated, total.Expression = 's', "(1 + 1)"
	done := column("is_done", typ("bool"))
	done.Directives = schema.Directives{Name: "done", Description: `Whether it is "finished"`}
	note := column("internal_note", typ("text"))
	note.Directives.Omit = true
	items := table(1000, "todo_items",
		column("id", typ("int8")), notNull(column("title", typ("text"))), done, note, cText, legacy,
		column("due", typ("timestamptz")), column("day", typ("date")), column("tags", array(typ("text"))),
		notNull(column("data", typ("jsonb"))), column("price", positive), column("status", status),
		column("history", array(status)), column("area", typ("inet")), column("weight", typ("float8")), total)
	items.Directives.Description = "One thing to do.\n\n  Indented \"\"\"text\"\"\"\twith a tab\x01."
	items.Access["clerk"] = schema.Access{Usage: true, Columns: append([]bool{true, true}, make([]bool, 14)...)}
	items.Access["visitor"] = schema.Access{Usage: true, Columns: append([]bool{false}, make([]bool, 15)...)}
	members := table(1001, "members", column("team_id", typ("uuid")), notNull(column("user_id", typ("int2"))), column("photo", typ("bytea")))
	members.Schema = "billing"
	members.Directives.Key = []string{"user_id", "team_id"}
	members.Keys = append(members.Keys, schema.KeyDef{Name: "k", Columns: []string{"team_id", "user_id"}, Usable: true})
	gone := "gone soon"
	members.Directives.Deprecated = &gone
	members.Access["clerk"] = schema.Access{Usage: false, Columns: []bool{true, true, true}}
	return schema.Database{
		Version: 150018, Roles: []string{"reader", "clerk", "visitor"}, Schemas: []string{"public", "billing"},
		Tables: []schema.TableDef{items, members},
	}
}

func officeCatalog(t testing.TB, o schema.Options) *schema.Catalog {
	t.Helper()
	c, problems := schema.New(office(), o)
	if len(problems) != 1 || problems[0].Table != 0 || !strings.Contains(problems[0].Message, "is generated") {
		t.Fatalf("problems: %+v", problems)
	}
	return c
}

func TestEachRoleHasTheSchemaOfItsRights(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	for _, role := range []string{"reader", "clerk", "visitor"} {
		golden(t, role+".graphql", c.Role(role).SDL())
		if again := officeCatalog(t, schema.Options{}).Role(role); again.SDL() != c.Role(role).SDL() || again.Hash() != c.Role(role).Hash() {
			t.Errorf("role %s: the SDL differs from run to run", role)
		}
	}
	if c.Role("nobody") != nil {
		t.Error("a role that is not on the list has a schema")
	}
	if c.Role("reader").Hash() == c.Role("clerk").Hash() {
		t.Error("the hashes of two schemas are equal")
	}
	with := officeCatalog(t, schema.Options{ExposePositions: true}).Role("clerk").SDL()
	if strings.Contains(c.Role("clerk").SDL(), "xid") || !strings.Contains(with, "  xid: BigInt!\n  commitLsn: String!\n") {
		t.Error("positions are shown where they should not be, or the reverse")
	}
}

func TestReadableTellsPrivileges(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{})
	items, members := c.Table(1000), c.Table(1001)
	if got := c.Role("clerk").Readable(items); len(got) != 16 || !got[1] || got[2] {
		t.Errorf("clerk reads %v", got)
	}
	if got := c.Role("reader").Readable(items); !got[3] {
		t.Error("@omit takes the privilege away")
	}
	// Without the schema, or a column of the key, the table is not there.
	if c.Role("clerk").Readable(members) != nil || c.Role("visitor").Readable(items) != nil {
		t.Error("a role sees a table that it may not")
	}
	if got := c.Role("reader").Tables(); len(got) != 2 || got[0] != members || got[1] != items {
		t.Errorf("reader sees %v", got)
	}
}

// What a role may not see and what does not exist give the same errors, in documents, variables
// and suggestions.
//
// Covers S17, S40, S43.
func TestWhatARoleMayNotSeeDoesNotExist(t *testing.T) {
	t.Parallel()
	c := officeCatalog(t, schema.Options{Introspection: true})
	message := func(role, query, variables string) string {
		_, err := c.Role(role).Compile(schema.Request{Query: query, Variables: []byte(variables)})
		var list schema.ErrorList
		if !errors.As(err, &list) {
			t.Fatalf("%s: %s: %v", role, query, err)
		}
		return string(list[0].Code) + " " + list[0].Message
	}
	for _, x := range []struct{ role, query, variables, hidden, missing string }{
		{"clerk", "subscription { %s { kind } }", "", "billingMembers", "billingNumbers"},
		{"clerk", "subscription { todoItems { row { %s } } }", "", "day", "xyz"},
		{"clerk", "subscription { todoItems { old { %s } } }", "", "internalNote", "internetNote"},
		{"clerk", "subscription { todoItems(where: {%s: {isNull: true}}) { kind } }", "", "day", "xyz"},
		{"clerk", "subscription ($w: TodoItemFilter) { todoItems(where: $w) { kind } }", `{"w": {"%s": {"isNull": true}}}`, "day", "xyz"},
		{"clerk", "subscription ($w: %s) { todoItems { kind } }", "", "BillingMemberFilter", "BillingNumberFilter"},
		{"clerk", "subscription { todoItems { ... on %s { kind } } }", "", "BillingMember", "BillingNumber"},
		{"clerk", "subscription ($w: %s) { todoItems { kind } }", "", "ItemStatus", "ItemStates"},
		{"visitor", "subscription { %s { kind } }", "", "todoItems", "toolItems"},
		{"reader", "subscription { todoItems { row { %s } } }", "", "internalNote", "internetNote"},
	} {
		hidden := message(x.role, strings.ReplaceAll(x.query, "%s", x.hidden), strings.ReplaceAll(x.variables, "%s", x.hidden))
		missing := message(x.role, strings.ReplaceAll(x.query, "%s", x.missing), strings.ReplaceAll(x.variables, "%s", x.missing))
		if hidden != strings.ReplaceAll(missing, x.missing, x.hidden) {
			t.Errorf("%s tells what is hidden from what is not there:\n%s\n%s", x.role, hidden, missing)
		}
	}
	for _, role := range []string{"clerk", "visitor"} {
		op, err := c.Role(role).Compile(schema.Request{Query: "{ __schema { types { name fields { name } } } }"})
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"Member", "photo", "internal", "Status", "legacy", "UUID"} {
			if strings.Contains(string(op.Result), word) {
				t.Errorf("introspection tells %s of %q", role, word)
			}
		}
	}
}

func TestRowIDsDifferByTypeAndKey(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "as", column("a", typ("text")), notNull(column("b", typ("text"))), column("c", typ("text"))),
		table(2, "bs", column("a", typ("text")), notNull(column("b", typ("text"))), column("c", typ("text"))))
	seen := map[string]cdc.Row{}
	for _, image := range []cdc.Row{row("a", "b", "c"), row("", "ab", "c"), row("ab", "", "c")} {
		id := c.Table(1).RowID(image)
		if other, ok := seen[id]; ok {
			t.Errorf("%v and %v have one id", other, image)
		}
		seen[id] = image
	}
	if c.Table(1).RowID(row("a", "b", "c")) != c.Table(1).RowID(row("a", "x", "y")) {
		t.Error("the id depends on more than the key")
	}
	if c.Table(1).RowID(row("a", "b", "c")) == c.Table(2).RowID(row("a", "b", "c")) {
		t.Error("rows of two types have one id")
	}
	pair := table(3, "pairs", column("a", typ("text")), notNull(column("b", typ("text"))))
	pair.Keys[0].Columns = []string{"a", "b"}
	p := catalog(t, pair).Table(3)
	if p.RowID(row("ab", "c")) == p.RowID(row("a", "bc")) {
		t.Error("two keys of the same letters have one id")
	}
}
