package schema_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/schema"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update writes it anew. Got:\n%s", file, got)
	}
}

// The names are part of the API: what changes here changes every client.
func TestDerivedNamesAreFrozen(t *testing.T) {
	t.Parallel()
	words, err := os.ReadFile("testdata/tables.txt")
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, name := range strings.Fields(string(words)) {
		at := strings.IndexByte(name, '.')
		def := table(1, name[at+1:], column("id", typ("int4")))
		def.Schema = "public"
		if at >= 0 {
			def.Schema = name[:at]
		}
		db := database(def)
		db.Schemas = []string{"public", "billing"}
		c, problems := schema.New(db, schema.Options{})
		if len(problems) > 0 {
			fmt.Fprintf(&b, "%-24s %s (%s)\n", name, problems[0].Message, problems[0].Hint)
			continue
		}
		fmt.Fprintf(&b, "%-24s %-24s %s\n", name, c.Tables()[0].Field, c.Tables()[0].Type)
	}
	golden(t, "names.golden", b.String())
}

// names gives field and type of the served tables, by OID.
func names(c *schema.Catalog) map[uint32]string {
	out := map[uint32]string{}
	for _, t := range c.Tables() {
		out[t.Def.OID] = t.Field + " " + t.Type
	}
	return out
}

func TestClashesAreJudgedOverTheWholeCatalog(t *testing.T) {
	t.Parallel()
	named := func(oid uint32, name, field, typeName string) schema.TableDef {
		d := table(oid, name, column("id", typ("int4")))
		d.Directives.Subscribe = &schema.Subscribe{Field: field, Type: typeName}
		return d
	}
	for name, x := range map[string]struct {
		tables []schema.TableDef
		want   map[uint32]string
		lost   uint32
	}{
		"the older derived name stays": {
			[]schema.TableDef{named(2, "todoItems", "", ""), named(1, "todo_items", "", "")},
			map[uint32]string{1: "todoItems TodoItem"},
			2,
		},
		"an explicit name beats an older derived one": {
			[]schema.TableDef{named(1, "todo_items", "", ""), named(2, "things", "todoItems", "")},
			map[uint32]string{2: "todoItems Thing"},
			1,
		},
		"of two explicit names the older stays": {
			[]schema.TableDef{named(1, "a", "", "Thing"), named(2, "b", "", "Thing")},
			map[uint32]string{1: "a Thing"},
			2,
		},
		"a type clashes with the types that belong to another": {
			[]schema.TableDef{named(1, "foos", "", ""), named(2, "foo_filters", "", "")},
			map[uint32]string{1: "foos Foo"},
			2,
		},
		"singular and plural": {
			[]schema.TableDef{named(1, "item", "", ""), named(2, "items", "", "")},
			map[uint32]string{1: "item Item"},
			2,
		},
		"a loser holds no name": {
			[]schema.TableDef{named(1, "a", "x", ""), named(2, "b", "x", "Bee"), named(3, "bees", "", "")},
			map[uint32]string{1: "x A", 3: "bees Bee"},
			2,
		},
		"an explicit type may not hide the system's": {
			[]schema.TableDef{named(1, "a", "", "Query"), named(2, "b", "", "")},
			map[uint32]string{2: "b B"},
			1,
		},
		"nor may the types that belong to it": {
			[]schema.TableDef{named(1, "a", "", "Int"), named(2, "b", "", "")},
			map[uint32]string{2: "b B"},
			1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, problems := schema.New(database(x.tables...), schema.Options{})
			if len(problems) != 1 || problems[0].Table != x.lost || problems[0].Hint == "" {
				t.Errorf("problems: %+v", problems)
			}
			got := names(c)
			if fmt.Sprint(got) != fmt.Sprint(x.want) {
				t.Errorf("got %v, want %v", got, x.want)
			}
		})
	}
}

func TestColumnsWithoutAGraphQLNameDisableTheirTable(t *testing.T) {
	t.Parallel()
	for name, hint := range map[string]string{
		"größe": `@name(as: "grE")`, "2fa": `@name(as: "n2fa")`, "__typename": `@name(as: "typename")`, "a b": `@name(as: "aB")`,
		"and": "@name", "日本": `@name(as: "field")`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := table(1, "bad", column("id", typ("int4")), column(name, typ("text")))
			c, problems := schema.New(database(bad, table(2, "good", column("id", typ("int4")))), schema.Options{})
			if len(problems) != 1 || problems[0].Table != 1 || !strings.HasPrefix(problems[0].Object, "column public.bad.") || !strings.Contains(problems[0].Hint, hint) {
				t.Errorf("problems: %+v", problems)
			}
			if len(c.Tables()) != 1 || c.Table(1) != nil {
				t.Errorf("served: %v", names(c))
			}
			bad.Columns[1].Directives.Name = "fine"
			if _, problems := schema.New(database(bad), schema.Options{}); len(problems) > 0 {
				t.Errorf("with @name: %+v", problems)
			}
			bad.Columns[1].Directives = schema.Directives{Omit: true}
			if _, problems := schema.New(database(bad), schema.Options{}); len(problems) > 0 {
				t.Errorf("with @omit: %+v", problems)
			}
		})
	}
}

func TestColumnNamesDoNotClash(t *testing.T) {
	t.Parallel()
	d := table(1, "t", column("id", typ("int4")), column("a_b", typ("text")), column("aB", typ("text")))
	c, problems := schema.New(database(d), schema.Options{})
	if len(problems) != 1 || problems[0].Object != `column public.t."aB"` || len(c.Tables()) != 0 {
		t.Errorf("problems: %+v", problems)
	}
	d.Columns[2].Directives.Name = "aB" // explicit: the other has to go
	if _, problems = schema.New(database(d), schema.Options{}); len(problems) != 1 || problems[0].Object != `column public.t.a_b` {
		t.Errorf("problems: %+v", problems)
	}
}

// Covers C99.
func TestEnumsGiveWayToTables(t *testing.T) {
	t.Parallel()
	enum := func(oid uint32, name, explicit string, labels ...string) *schema.Type {
		return &schema.Type{OID: oid, Schema: "public", Name: name, Kind: 'e', Labels: labels, Directives: schema.Directives{Name: explicit}}
	}
	def := table(1, "todo_items", column("id", typ("int4")), column("a", enum(20001, "todo_item", "", "x")),
		column("b", array(enum(20002, "priority", "Urgency", "ok, fine", "ok; fine", "fine"))), column("c", enum(20003, "empty", "")))
	c := catalog(t, def)
	sdl := c.Role("reader").SDL()
	for _, want := range []string{"a: TodoItemEnum\n", "b: [Urgency]\n", "c: PgText\n", "enum TodoItemEnum {\n  x\n}", "In the database: \"ok, fine\""} {
		if !strings.Contains(sdl, want) {
			t.Errorf("the SDL lacks %q:\n%s", want, sdl)
		}
	}
	def.Columns[1].Type = enum(20001, "todo_item", "Query", "x")
	_, problems := schema.New(database(def), schema.Options{})
	if len(problems) != 1 || problems[0].Table != 1 || !strings.Contains(problems[0].Hint, "COMMENT ON TYPE public.todo_item") {
		t.Errorf("problems: %+v", problems)
	}
}

// Whatever names a database has, the schema of each role is valid.
func TestAnyNamesGiveAValidSchema(t *testing.T) {
	t.Parallel()
	name := rapid.OneOf(
		rapid.SampledFrom([]string{
			"query", "Query", "strings", "int", "cursor", "change_kind", "foo", "foo_old", "foo_key", "foo_change", "foo_filter", "foos",
			"id", "boolean_filters", "presence", "presence_filter", "_", "__a", "a_", "subscription", "json", "ordered_strings",
		}),
		rapid.StringN(1, 8, 30),
	)
	rapid.Check(t, func(r *rapid.T) {
		var tables []schema.TableDef
		for i := range rapid.IntRange(1, 6).Draw(r, "tables") {
			columns := []schema.ColumnDef{column("id", typ("int4"))}
			for j := range rapid.IntRange(0, 4).Draw(r, "columns") {
				c := column(name.Draw(r, "column"), typ(rapid.SampledFrom([]string{"text", "int8", "jsonb", "inet"}).Draw(r, "type")))
				if rapid.Bool().Draw(r, "enum") {
					c.Type = &schema.Type{
						OID: uint32(20_000 + 10*i + j), Schema: "public", Name: name.Draw(r, "enum"), Kind: 'e',
						Labels: rapid.SliceOfNDistinct(name, 0, 4, rapid.ID).Draw(r, "labels"),
					}
				}
				c.Directives.Description = rapid.String().Draw(r, "description")
				columns = append(columns, c)
			}
			d := table(uint32(i+1), name.Draw(r, "table"), columns...)
			d.Directives.Description = rapid.String().Draw(r, "description")
			reason := rapid.String().Draw(r, "reason")
			d.Directives.Deprecated = &reason
			tables = append(tables, d)
		}
		c, problems := schema.New(database(tables...), schema.Options{})
		if c.Role("reader") == nil {
			r.Fatalf("no schema: %+v", problems)
		}
		for _, p := range problems {
			if p.Table == 0 {
				r.Fatalf("problem: %+v", p)
			}
		}
	})
}
