package introspect_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/introspect"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// connect opens a connection as a user.
func connect(t *testing.T, db *pgtest.DB, user string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.URL(user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// load reads as the service login, member of the roles and of nothing else.
func load(t *testing.T, db *pgtest.DB, roles ...string) schema.Database {
	t.Helper()
	conn := connect(t, db, db.Login(t, "svc", roles...))
	out, err := introspect.Load(t.Context(), conn, introspect.Config{Schemas: []string{"public"}, Roles: roles})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// table finds a table by name.
func table(t *testing.T, db schema.Database, name string) *schema.TableDef {
	t.Helper()
	for i := range db.Tables {
		if db.Tables[i].Name == name {
			return &db.Tables[i]
		}
	}
	t.Fatalf("table %s was not read", name)
	return nil
}

func columnOf(t *testing.T, tab *schema.TableDef, name string) *schema.ColumnDef {
	t.Helper()
	for i := range tab.Columns {
		if tab.Columns[i].Name == name {
			return &tab.Columns[i]
		}
	}
	t.Fatalf("column %s.%s was not read", tab.Name, name)
	return nil
}

func TestOnlyAnnotatedTablesOfServedSchemasAreRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE SCHEMA other;
		CREATE TABLE plain (id int); COMMENT ON TABLE plain IS 'no directive';
		CREATE TABLE by_table (id int); COMMENT ON TABLE by_table IS '@subscribe';
		CREATE TABLE by_column (id int); COMMENT ON COLUMN by_column.id IS '@omit';
		CREATE TABLE other.elsewhere (id int); COMMENT ON TABLE other.elsewhere IS '@subscribe';
		CREATE VIEW look AS SELECT 1 AS id; COMMENT ON VIEW look IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	names := func(cfg introspect.Config) (out []string) {
		d, err := introspect.Load(t.Context(), conn, cfg)
		if err != nil {
			t.Fatal(err)
		}
		for _, tab := range d.Tables {
			out = append(out, tab.Schema+"."+tab.Name)
		}
		return out
	}
	equal(t, names(introspect.Config{Schemas: []string{"public"}}), []string{"public.by_column", "public.by_table", "public.look"})
	equal(t, names(introspect.Config{Schemas: []string{"other", "nowhere", "public"}}),
		[]string{"other.elsewhere", "public.by_column", "public.by_table", "public.look"})
	equal(t, names(introspect.Config{Schemas: []string{"public"}, All: true}),
		[]string{"public.by_column", "public.by_table", "public.look", "public.plain"})
}

func TestRolesKeepTheOrderOfTheAllowList(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	b, a := db.Role(t, "b"), db.Role(t, "a")
	conn := connect(t, db, db.Login(t, "svc", a, b))
	d, err := introspect.Load(t.Context(), conn, introspect.Config{Schemas: []string{"public"}, Roles: []string{b, "no_such_role", a, b}})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, d.Roles, []string{b, a})
}

// Covers C83.
func TestColumnsAreTheLiveOnesWithTheirFacts(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE COLLATION nd (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE a (
			gone int, id int PRIMARY KEY, c text COLLATE "C", d text, n text COLLATE nd, v varchar(7) NOT NULL,
			doubled int GENERATED ALWAYS AS (id * 2) STORED);
		ALTER TABLE a DROP COLUMN gone;
		COMMENT ON TABLE a IS '@subscribe'; COMMENT ON COLUMN a.d IS '@omit'`)
	a := table(t, load(t, db), "a")
	var names []string
	for _, c := range a.Columns {
		names = append(names, c.Name)
	}
	equal(t, names, []string{"id", "c", "d", "n", "v", "doubled"})
	if a.Comment != "@subscribe" || columnOf(t, a, "d").Comment != "@omit" {
		t.Error("comments are missing")
	}
	if id := columnOf(t, a, "id"); id.Number != 2 || !id.NotNull || id.Toastable || id.Type.Name != "int4" || id.Modifier != -1 {
		t.Errorf("id: %+v", id)
	}
	if v := columnOf(t, a, "v"); v.Modifier != 11 || !v.NotNull || !v.Toastable {
		t.Errorf("v: %+v", v)
	}
	if g := columnOf(t, a, "doubled"); g.Generated != 's' || g.Expression != "(id * 2)" {
		t.Errorf("doubled: %+v", g)
	}
	if c := columnOf(t, a, "c"); !c.CollationC || !c.Deterministic {
		t.Errorf("c: %+v", c)
	}
	if n := columnOf(t, a, "n"); n.CollationC || n.Deterministic {
		t.Errorf("n: %+v", n)
	}
}

func TestTheDefaultCollationIsLookedUpInTheDatabase(t *testing.T) {
	t.Parallel()
	for locale, want := range map[string]bool{"C": true, "POSIX": true, "C.UTF-8": false} {
		c := pgtest.New(t)
		name := c.Name + "_l"
		c.Exec(t, `CREATE DATABASE `+name+` TEMPLATE template0 ENCODING 'UTF8' LOCALE '`+locale+`'`)
		cfg := c.Pool(t).Config().ConnConfig.Copy()
		cfg.Database = name
		conn, err := pgx.ConnectConfig(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), `CREATE TABLE a (x text, e text COLLATE "default"); COMMENT ON TABLE a IS '@subscribe'`); err != nil {
			t.Fatal(err)
		}
		d, err := introspect.Load(t.Context(), conn, introspect.Config{Schemas: []string{"public"}})
		if err != nil {
			t.Fatal(err)
		}
		for _, col := range table(t, d, "a").Columns {
			if col.CollationC != want || !col.Deterministic {
				t.Errorf("locale %s: column %s has CollationC %v", locale, col.Name, col.CollationC)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		c.Exec(t, `DROP DATABASE `+name)
	}
}

func TestTypesAreReadWithAllTheyAreMadeOf(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TYPE mood ADD VALUE 'meh' BEFORE 'ok';
		COMMENT ON TYPE mood IS 'how it goes';
		CREATE DOMAIN moods AS mood[];
		CREATE TYPE pair AS (gone int, l moods, r text COLLATE "C"); ALTER TYPE pair DROP ATTRIBUTE gone;
		COMMENT ON COLUMN pair.r IS 'right';
		CREATE TABLE a (p pair[], r int8range, m datemultirange, b box[], pt point, v int2vector);
		COMMENT ON TABLE a IS '@subscribe'`)
	a := table(t, load(t, db), "a")
	typ := func(name string) *schema.Type { return columnOf(t, a, name).Type }

	pair := typ("p").Elem
	if pair == nil || pair.Kind != 'c' || pair.Name != "pair" || pair.Schema != "public" || len(pair.Fields) != 2 {
		t.Fatalf("pair: %+v", pair)
	}
	if r := pair.Fields[1]; r.Name != "r" || r.Comment != "right" || !r.CollationC || r.Type.Name != "text" {
		t.Errorf("pair.r: %+v", r)
	}
	moods := pair.Fields[0].Type
	if moods.Kind != 'd' || moods.Base == nil || moods.Base.Elem == nil {
		t.Fatalf("moods: %+v", moods)
	}
	mood := moods.Base.Elem
	if mood.Kind != 'e' || mood.Comment != "how it goes" {
		t.Errorf("mood: %+v", mood)
	}
	equal(t, mood.Labels, []string{"sad", "meh", "ok"})
	if r := typ("r"); r.Kind != 'r' || r.Base == nil || r.Base.Name != "int8" {
		t.Errorf("int8range: %+v", r)
	}
	if m := typ("m"); m.Kind != 'm' || m.Base == nil || m.Base.Name != "date" {
		t.Errorf("datemultirange: %+v", m)
	}
	if b := typ("b"); b.Elem == nil || b.Elem.Delimiter != ';' {
		t.Errorf("box[]: %+v", b)
	}
	if typ("pt").Elem != nil || typ("v").Elem != nil {
		t.Error("point and int2vector are no arrays in text")
	}
}

func TestKeysSayWhatTheyLack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE a (id int, b int NOT NULL, c int NOT NULL, n int,
			CONSTRAINT late UNIQUE (b) DEFERRABLE INITIALLY IMMEDIATE, CONSTRAINT pk PRIMARY KEY (id));
		CREATE UNIQUE INDEX pair ON a (c, b) INCLUDE (n);
		CREATE UNIQUE INDEX part ON a (b) WHERE c > 0;
		CREATE UNIQUE INDEX expr ON a (c, (b + 1));
		CREATE UNIQUE INDEX holes ON a (c, n);
		CREATE INDEX plain ON a (c);
		COMMENT ON TABLE a IS '@subscribe'`)
	keys := map[string]schema.KeyDef{}
	a := table(t, load(t, db), "a")
	for _, k := range a.Keys {
		keys[k.Name] = k
	}
	if len(keys) != 6 || a.Keys[0].Name != "pk" {
		t.Fatalf("keys: %+v", a.Keys)
	}
	if k := keys["pk"]; !k.Primary || !k.Usable || k.Problem != "" {
		t.Errorf("pk: %+v", k)
	}
	if k := keys["pair"]; !k.Usable || k.Primary {
		t.Errorf("pair: %+v", k)
	}
	equal(t, keys["pair"].Columns, []string{"c", "b"})
	for name, problem := range map[string]string{
		"late":  "it is DEFERRABLE, so two rows can have one key for a moment",
		"part":  "it is partial (WHERE), so it says nothing about other rows",
		"expr":  "it is over an expression, not plain columns",
		"holes": `column n may be null: ALTER TABLE … ALTER COLUMN "n" SET NOT NULL`,
	} {
		if k := keys[name]; k.Usable || k.Problem != problem {
			t.Errorf("%s: %+v", name, k)
		}
	}
	if keys["expr"].Columns != nil {
		t.Error("an index over an expression has no columns to name")
	}
}

// A unique index whose CREATE INDEX CONCURRENTLY met duplicates stays behind, unique of nothing.
func TestAnInvalidIndexIsNoKey(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int NOT NULL); INSERT INTO a VALUES (1), (1); COMMENT ON TABLE a IS '@subscribe'`)
	if _, err := db.Pool(t).Exec(t.Context(), `CREATE UNIQUE INDEX CONCURRENTLY broken ON a (id)`); err == nil {
		t.Fatal("the index was built over duplicates")
	}
	a := table(t, load(t, db), "a")
	if len(a.Keys) != 1 || a.Keys[0].Usable {
		t.Errorf("keys: %+v", a.Keys)
	}
}

func TestTableFactsAreThoseOfPgClass(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE ix (id int NOT NULL); CREATE UNIQUE INDEX ix_id ON ix (id); ALTER TABLE ix REPLICA IDENTITY USING INDEX ix_id;
		CREATE TABLE no (id int); ALTER TABLE no REPLICA IDENTITY NOTHING; ALTER TABLE no ENABLE ROW LEVEL SECURITY;
		CREATE TABLE fu (id int); ALTER TABLE fu REPLICA IDENTITY FULL; ALTER TABLE fu FORCE ROW LEVEL SECURITY;
		CREATE UNLOGGED TABLE un (id int);
		CREATE TABLE root (id int) PARTITION BY RANGE (id);
		CREATE TABLE leaf PARTITION OF root DEFAULT;
		COMMENT ON TABLE ix IS '@'; COMMENT ON TABLE no IS '@'; COMMENT ON TABLE fu IS '@'; COMMENT ON TABLE un IS '@';
		COMMENT ON TABLE root IS '@'; COMMENT ON TABLE leaf IS '@'`)
	d := load(t, db)
	if d.Version < 150000 {
		t.Errorf("version %d", d.Version)
	}
	ix, no, fu, un := table(t, d, "ix"), table(t, d, "no"), table(t, d, "fu"), table(t, d, "un")
	if ix.Identity != 'i' || ix.Owner != "postgres" || ix.Kind != 'r' || ix.Persistence != 'p' {
		t.Errorf("ix: %+v", ix)
	}
	if no.Identity != 'n' || !no.RowSecurity || no.ForceRowSecurity {
		t.Errorf("no: %+v", no)
	}
	if fu.Identity != 'f' || fu.RowSecurity || !fu.ForceRowSecurity {
		t.Errorf("fu: %+v", fu)
	}
	if un.Persistence != 'u' {
		t.Errorf("un: %+v", un)
	}
	if root, leaf := table(t, d, "root"), table(t, d, "leaf"); root.Kind != 'p' || root.Partition || leaf.Kind != 'r' || !leaf.Partition {
		t.Errorf("root: %+v leaf: %+v", root, leaf)
	}
}

// With the root full and a partition not, pgoutput sends old images flagged as whole whose columns
// outside the key are NULL.
func TestAPartitionedTableIsOnlyAsFullAsItsPartitions(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (9) PARTITION BY RANGE (id);
		CREATE TABLE lowest PARTITION OF low DEFAULT;
		COMMENT ON TABLE root IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}}
	last := update(t, conn, cfg, nil)
	for _, step := range []struct {
		sql  string
		want byte
	}{
		{`ALTER TABLE root REPLICA IDENTITY FULL; ALTER TABLE low REPLICA IDENTITY FULL`, 'd'},
		{`ALTER TABLE lowest REPLICA IDENTITY FULL`, 'f'},
		{`CREATE TABLE high PARTITION OF root FOR VALUES FROM (9) TO (99)`, 'd'},
		{`ALTER TABLE high REPLICA IDENTITY NOTHING`, 'n'},
	} {
		db.Exec(t, step.sql)
		last = update(t, conn, cfg, last)
		d := last.Database
		if got := table(t, d, "root").Identity; byte(got) != step.want {
			t.Errorf("identity %c after: %s", got, step.sql)
		}
	}
}

func equal(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %q, want %q", got, want)
		return
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %q, want %q", got, want)
			return
		}
	}
}

// A SELECT of a table returns the rows of those that inherit from it, whose changes the stream has
// under names of their own.
func TestATableThatOthersInheritFromIsTold(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE parent (id int PRIMARY KEY); COMMENT ON TABLE parent IS '@subscribe'`)
	conn := connect(t, db, db.Login(t, "svc"))
	cfg := introspect.Config{Schemas: []string{"public"}}
	last := update(t, conn, cfg, nil)
	for _, step := range []struct {
		sql  string
		want bool
	}{
		{`CREATE TABLE child () INHERITS (parent)`, true},
		{`DROP TABLE child`, false},
	} {
		db.Exec(t, step.sql)
		last = update(t, conn, cfg, last)
		d := last.Database
		if got := table(t, d, "parent").Inherited; got != step.want {
			t.Errorf("inherited is %v after: %s", got, step.sql)
		}
	}
}
