package schema_test

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

func insertOnly(d *schema.TableDef) {
	d.Directives.Subscribe.Kinds = []schema.ChangeKind{schema.KindInsert}
}

// Each table that cannot be exact is refused, with the SQL that makes it so, and no other with it.
//
// Covers C49, C82, C84, S58, S59.
func TestTablesThatCannotBeExactAreRefused(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		change        func(d *schema.TableDef)
		message, hint string
		wanted        bool
	}{
		"a view":              {func(d *schema.TableDef) { d.Kind = 'v' }, "not streamable: it is a view", "on the table", false},
		"a materialized view": {func(d *schema.TableDef) { d.Kind = 'm' }, "not streamable", "", false},
		"a foreign table":     {func(d *schema.TableDef) { d.Kind = 'f' }, "not streamable", "", false},
		"an unlogged table":   {func(d *schema.TableDef) { d.Persistence = 'u' }, "not streamable: it is unlogged", "ALTER TABLE public.bad SET LOGGED", false},
		"a temporary table":   {func(d *schema.TableDef) { d.Persistence = 't' }, "not streamable: it is temporary", "", false},
		"an inherited table":  {func(d *schema.TableDef) { d.Inherited = true }, "inherit from it", "partitioned", false},
		"a partition":         {func(d *schema.TableDef) { d.Partition = true }, "is a partition", "partitioned table", false},
		"no row-level security": {
			func(d *schema.TableDef) { d.RowSecurity = false }, "no row-level security",
			"ALTER TABLE public.bad ENABLE ROW LEVEL SECURITY", false,
		},
		"no key": {func(d *schema.TableDef) { d.Keys = nil }, "no primary key", "ADD PRIMARY KEY", false},
		"another usable key": {
			func(d *schema.TableDef) {
				d.Keys = []schema.KeyDef{{Name: "u", Columns: []string{"id", "x"}, Usable: true}}
			},
			"no primary key", `@key(columns: ["id", "x"])`, false,
		},
		"a deferrable primary key": {
			func(d *schema.TableDef) { d.Keys[0].Usable, d.Keys[0].Problem = false, "it is deferrable" },
			"it is deferrable", `CREATE UNIQUE INDEX ON public.bad (id); annotate the table with @key(columns: ["id"])`, false,
		},
		"@key without an index": {
			func(d *schema.TableDef) { d.Directives.Key = []string{"x"} },
			"no unique index over the columns of @key", "CREATE UNIQUE INDEX ON public.bad (x)", false,
		},
		"@key over a nullable column": {
			func(d *schema.TableDef) {
				d.Directives.Key = []string{"x"}
				d.Keys = append(d.Keys, schema.KeyDef{Name: "u", Columns: []string{"x"}, Problem: "x may be null"})
			},
			"x may be null", "ALTER TABLE public.bad ALTER x SET NOT NULL", false,
		},
		"@key over a column that is not there": {
			func(d *schema.TableDef) {
				d.Directives.Key = []string{"nope"}
				d.Keys = append(d.Keys, schema.KeyDef{Name: "u", Columns: []string{"nope"}, Usable: true})
			},
			`"nope"`, "", false,
		},
		"@omit on the key": {func(d *schema.TableDef) { d.Columns[0].Directives.Omit = true }, "belongs to the key", "take @omit out", false},
		"a generated key":  {func(d *schema.TableDef) { d.Columns[0].Generated = 's' }, "generated column of the key", "@key", false},
		"no full identity": {
			func(d *schema.TableDef) { d.Identity = cdc.IdentityDefault },
			"no full replica identity", "ALTER TABLE public.bad REPLICA IDENTITY FULL", true,
		},
		"no full identity of a partition": {
			func(d *schema.TableDef) { d.Kind, d.Identity = 'p', cdc.IdentityIndex },
			"no full replica identity", "each of its partitions", true,
		},
		"insert-only without any identity": {
			func(d *schema.TableDef) { insertOnly(d); d.Identity = cdc.IdentityNothing },
			"UPDATE and DELETE would fail", "REPLICA IDENTITY FULL", true,
		},
		"insert-only without a primary key": {
			func(d *schema.TableDef) {
				insertOnly(d)
				d.Identity, d.Keys[0].Primary, d.Directives.Key = cdc.IdentityDefault, false, []string{"id"}
			},
			"UPDATE and DELETE would fail", "", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bad := table(1, "bad", column("id", typ("int4")), column("x", typ("text")))
			x.change(&bad)
			c, problems := schema.New(database(bad, table(2, "good", column("id", typ("int4")))), schema.Options{})
			if len(problems) != 1 {
				t.Fatalf("problems: %+v", problems)
			}
			p := problems[0]
			if p.Table != 1 || !strings.Contains(p.Object, "public.bad") || !strings.Contains(p.Message, x.message) || !strings.Contains(p.Hint, x.hint) {
				t.Errorf("problem: %+v", p)
			}
			if c.Table(1) != nil || c.Table(2) == nil {
				t.Errorf("served: %v", names(c))
			}
			if got := len(c.Wanted()) == 2; got != x.wanted {
				t.Errorf("wanted: %v, want %v", got, x.wanted)
			}
			if sdl := c.Role("reader").SDL(); strings.Contains(sdl, "bad") || !strings.Contains(sdl, "good(") {
				t.Errorf("SDL:\n%s", sdl)
			}
		})
	}
}

func TestTablesThatAreExactAreServed(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(d *schema.TableDef){
		"an ordinary table": func(*schema.TableDef) {},
		"a partitioned one": func(d *schema.TableDef) { d.Kind = 'p' },
		"without row-level security, by annotation": func(d *schema.TableDef) {
			d.RowSecurity, d.Directives.Subscribe.NoRowSecurity = false, true
		},
		"insert-only by its primary key": func(d *schema.TableDef) { insertOnly(d); d.Identity = cdc.IdentityDefault },
		"insert-only by an index":        func(d *schema.TableDef) { insertOnly(d); d.Identity = cdc.IdentityIndex },
		"by @key": func(d *schema.TableDef) {
			d.Directives.Key = []string{"x", "id"}
			d.Keys = append(d.Keys, schema.KeyDef{Name: "u", Columns: []string{"id", "x"}, Usable: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := table(1, "good", column("id", typ("int4")), notNull(column("x", typ("text"))))
			change(&d)
			if got := names(catalog(t, d))[1]; got != "good Good" {
				t.Errorf("served as %q", got)
			}
		})
	}
}

func TestTablesWithoutSubscribeAreLeftAlone(t *testing.T) {
	t.Parallel()
	d := table(1, "t", column("id", typ("int4")))
	d.Directives.Subscribe = nil
	invalid := table(2, "u", column("id", typ("int4")))
	invalid.Invalid = true
	useless := table(3, "v", column("id", typ("int4")))
	useless.Directives = schema.Directives{Key: []string{"id"}}
	useless.Columns[0].Directives.Omit = true
	c, problems := schema.New(database(d, invalid, useless), schema.Options{})
	if len(c.Tables()) != 0 || len(c.Wanted()) != 0 {
		t.Errorf("served %v, wanted %d", names(c), len(c.Wanted()))
	}
	if len(problems) != 2 || problems[0].Table != 0 || !strings.Contains(problems[0].Message, "@key has no effect") ||
		problems[1].Object != "column public.v.id" || !strings.Contains(problems[1].Message, "@omit has no effect") {
		t.Errorf("problems: %+v", problems)
	}
}

func TestKindsFollowTheOperationsThatAreServed(t *testing.T) {
	t.Parallel()
	kinds := func(operations ...schema.ChangeKind) schema.KindSet {
		d := table(1, "t", column("id", typ("int4")))
		d.Directives.Subscribe.Kinds = operations
		return catalog(t, d).Table(1).Kinds
	}
	if got := kinds(); got != schema.AllKinds {
		t.Errorf("all: %b", got)
	}
	none := schema.KindSet(0).With(schema.KindReset).With(schema.KindLive).With(schema.KindProgress).With(schema.KindSnapshot)
	if got := kinds(schema.KindInsert); got != none.With(schema.KindInsert) {
		t.Errorf("insert: %b", got)
	}
	if got := kinds(schema.KindUpdate); got != none.With(schema.KindUpdate).With(schema.KindEnter).With(schema.KindLeave) {
		t.Errorf("update: %b", got)
	}
	if got := kinds(schema.KindDelete); got != none.With(schema.KindDelete).With(schema.KindTruncate) {
		t.Errorf("delete: %b", got)
	}
}
