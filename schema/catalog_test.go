package schema_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// typ gives a built-in type by its name.
func typ(name string) *schema.Type {
	oids := map[string]uint32{
		"bool": 16, "bytea": 17, "name": 19, "int8": 20, "int2": 21, "int4": 23, "text": 25, "json": 114,
		"float4": 700, "float8": 701, "bpchar": 1042, "varchar": 1043, "date": 1082, "time": 1083,
		"timestamp": 1114, "timestamptz": 1184, "interval": 1186, "timetz": 1266, "numeric": 1700,
		"uuid": 2950, "jsonb": 3802, "inet": 869,
	}
	return &schema.Type{OID: oids[name], Schema: "pg_catalog", Name: name, Kind: 'b', Delimiter: ','}
}

func array(of *schema.Type) *schema.Type {
	return &schema.Type{OID: of.OID + 100_000, Schema: of.Schema, Name: "_" + of.Name, Kind: 'b', Elem: of, Delimiter: ','}
}

// column is a nullable one of a deterministic collation; notNull makes it another.
func column(name string, t *schema.Type) schema.ColumnDef {
	return schema.ColumnDef{Name: name, Type: t, Modifier: -1, Deterministic: true}
}

func notNull(c schema.ColumnDef) schema.ColumnDef {
	c.NotNull = true
	return c
}

// table is a served table whose first column is its key and that the role reader may read.
func table(oid uint32, name string, columns ...schema.ColumnDef) schema.TableDef {
	columns[0].NotNull = true
	all := make([]bool, len(columns))
	for i := range columns {
		columns[i].Number = int16(i + 1)
		all[i] = true
	}
	return schema.TableDef{
		OID: oid, Schema: "public", Name: name, Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull,
		RowSecurity: true, Columns: columns,
		Keys:       []schema.KeyDef{{Name: name + "_pkey", Columns: []string{columns[0].Name}, Primary: true, Usable: true}},
		Directives: schema.Directives{Subscribe: &schema.Subscribe{}},
		Access:     map[string]schema.Access{"reader": {Usage: true, Columns: all}},
	}
}

func database(tables ...schema.TableDef) schema.Database {
	return schema.Database{Version: 150018, Roles: []string{"reader"}, Schemas: []string{"public"}, Tables: tables}
}

// catalog makes a catalog that has no problem.
func catalog(t testing.TB, tables ...schema.TableDef) *schema.Catalog {
	t.Helper()
	c, problems := schema.New(database(tables...), schema.Options{
		Introspection: true, Server: schema.ServerInfo{Version: "test"},
		Limits: schema.Limits{VariableBytes: 1 << 20}, // room for the longest numerics
	})
	for _, p := range problems {
		t.Fatalf("problem: %+v", p)
	}
	return c
}

func todoItems() schema.TableDef {
	return table(1000, "todo_items",
		column("id", typ("int4")), notNull(column("title", typ("text"))), column("is_done", typ("bool")),
		column("due", typ("timestamptz")))
}

func compile(t testing.TB, c *schema.Catalog, query, variables string) *schema.Operation {
	t.Helper()
	op, err := c.Role("reader").Compile(schema.Request{Query: query, Variables: []byte(variables)})
	if err != nil {
		t.Fatalf("compile %s: %v", query, err)
	}
	return op
}

func row(values ...string) cdc.Row {
	r := make(cdc.Row, len(values))
	for i, v := range values {
		if v != "NULL" {
			r[i] = cdc.TextValue(v)
		}
	}
	return r
}

func TestAppendWritesTheSelectedFieldsOfAChange(t *testing.T) {
	t.Parallel()
	c := catalog(t, todoItems())
	op := compile(t, c, `subscription { items: todoItems {
		kind rowId key { id } row { id title done: isDone due __typename } old { title } changed cursor reason
		transaction { id commitTime last }
	} }`, "")
	newRow := row("7", "say \"hi\"", "t", "2026-01-02 03:04:05.6+00")
	change := &schema.Change{
		Kind: schema.KindUpdate, Key: newRow, New: newRow, Old: row("7", "say", "NULL", "NULL"), Cursor: "abc",
		Transaction: &schema.ChangeTransaction{ID: "x1", CommitTime: time.Unix(0, 0), Last: true},
	}
	got, err := op.Selection.Append(nil, change)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"data":{"items":{"kind":"UPDATE","rowId":"` + op.Table.RowID(newRow) + `","key":{"id":7},` +
		`"row":{"id":7,"title":"say \"hi\"","done":true,"due":"2026-01-02T03:04:05.6Z","__typename":"TodoItem"},` +
		`"old":{"title":"say"},"changed":["title","isDone","due"],"cursor":"abc","reason":null,` +
		`"transaction":{"id":"x1","commitTime":"1970-01-01T00:00:00Z","last":true}}},"extensions":{"cursor":"abc"}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if !op.Selection.UsesLast() {
		t.Error("UsesLast is false")
	}
}

func TestFilterMatchesBySQLsLogic(t *testing.T) {
	t.Parallel()
	c := catalog(t, todoItems())
	image := row("7", "abc", "NULL", "NULL")
	for where, want := range map[string]bool{
		`{}`: true, `{id: {eq: 7}}`: true, `{id: {ne: 7}}`: false, `{isDone: {eq: true}}`: false,
		`{not: {isDone: {eq: true}}}`: false, `{isDone: {isNull: true}}`: true, `{or: []}`: false,
		`{and: []}`: true, `{id: {in: []}}`: false, `{id: {notIn: []}}`: true, `{isDone: {in: []}}`: false,
		`{isDone: {notIn: []}}`: true, `{id: {in: [1, 7]}}`: true, `{id: {gt: 6, lt: 8}}`: true,
		`{or: [{id: {eq: 1}}, {title: {eq: "abc"}}]}`: true, `{title: {like: "a%"}}`: true,
		`{title: {startsWith: "ab"}}`: true, `{not: {}}`: false, `{title: {like: "_b_"}}`: true,
	} {
		op := compile(t, c, "subscription { todoItems(where: "+where+") { kind } }", "")
		got := true
		if op.Where != nil {
			var err error
			if got, err = op.Where.Match(image, nil); err != nil {
				t.Fatal(err)
			}
		}
		if got != want {
			t.Errorf("where %s: got %v, want %v", where, got, want)
		}
	}
}

func TestBindOrdersARowByTheTablesColumns(t *testing.T) {
	t.Parallel()
	total := column("total", typ("int4"))
	total.Generated = 's'
	d := todoItems()
	d.Columns = append([]schema.ColumnDef{total}, d.Columns...)
	c, _ := schema.New(database(d), schema.Options{})
	tab := c.Table(1000)
	rel := &cdc.Relation{OID: 1000, Schema: "public", Name: "todo_items", Columns: []cdc.Column{
		{Name: "id", Type: 23}, {Name: "title", Type: 25}, {Name: "is_done", Type: 16}, {Name: "due", Type: 1184},
	}}
	b, err := tab.Bind(rel)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Image(row("1", "x", "t", "NULL")); got[0] != cdc.AbsentValue() || !got[1:].Equal(row("1", "x", "t", "NULL")) {
		t.Errorf("image %v", got)
	}
	if b.Image(nil) != nil {
		t.Error("the image of no row is not nil")
	}
}

func TestBindRefusesARelationOfAnotherState(t *testing.T) {
	t.Parallel()
	total := column("total", typ("int4"))
	total.Generated = 's'
	d := todoItems()
	d.Columns = append(d.Columns, total)
	c, _ := schema.New(database(d), schema.Options{})
	for message, change := range map[string]func(rel *cdc.Relation){
		"":                  func(*cdc.Relation) {},
		`"title" has type`:  func(rel *cdc.Relation) { rel.Columns[1].Type = 1043 },
		"has OID 7":         func(rel *cdc.Relation) { rel.OID = 7 },
		`no column "title"`: func(rel *cdc.Relation) { rel.Columns[1].Name = "name" },
		`no column "due"`:   func(rel *cdc.Relation) { rel.Columns = rel.Columns[:3] },
		"at another place":  func(rel *cdc.Relation) { rel.Columns[0], rel.Columns[3] = rel.Columns[3], rel.Columns[0] },
		"knows 4 of them":   func(rel *cdc.Relation) { rel.Columns = append(rel.Columns, cdc.Column{Name: "new", Type: 25}) },
	} {
		rel := &cdc.Relation{OID: 1000, Schema: "public", Name: "todo_items", Columns: []cdc.Column{
			{Name: "id", Type: 23}, {Name: "title", Type: 25}, {Name: "is_done", Type: 16}, {Name: "due", Type: 1184},
		}}
		change(rel)
		b, err := c.Table(1000).Bind(rel)
		if message == "" {
			image := b.Image(row("1", "x", "t", "NULL"))
			if err != nil || len(image) != 5 || image[4] != cdc.AbsentValue() || image[1].Text() != "x" {
				t.Errorf("image %v, %v", image, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("want an error with %q, got %v", message, err)
		}
	}
}
