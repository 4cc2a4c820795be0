package rowtide_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/schema/introspect"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A fuzzColumn is a column that the schema-change fuzz made, as it is now.
type fuzzColumn struct {
	name, sql string
	omitted   bool
	hidden    bool // not granted
}

// json is how SQL says what the API says.
func (c *fuzzColumn) json() string {
	switch c.sql {
	case "bigint", "numeric(9,2)", "mood":
		return c.name + "::text"
	case "pair":
		return "CASE WHEN " + c.name + " IS DISTINCT FROM NULL THEN json_build_object('x', (" + c.name + ").x) END"
	}
	return c.name
}

// A fuzzTable is a table under the schema-change fuzz.
type fuzzTable struct {
	name    string
	columns []*fuzzColumn
	next    int // of column names
	// hit are the columns whose type or presence changed since subscriptions were looked at,
	// reread tells that rows may have changed by DDL, and ddl counts schema changes.
	hit    map[string]bool
	reread bool
	ddl    int
	// moved tells that the table had another file at some time. Nothing announces that, so it may be found
	// beside a later change of a column, and looks like a rewritten one. versions are those of the columns at
	// the start of the round.
	moved    bool
	versions map[string]string
}

// A ddlFuzz makes random schema changes and writes on one connection.
type ddlFuzz struct {
	t      *testing.T
	r      *rand.Rand
	conn   *pgx.Conn
	role   string
	tables []*fuzzTable
	labels []string
	ids    int
	log    []string
	read   catalogRead
}

// A catalogRead is the catalog as reading on has it.
type catalogRead struct {
	cfg     introspect.Config
	reading *introspect.Reading
	catalog *schema.Catalog
}

// readOn compares reading on, from where the last change left it, with reading everything.
func (z *ddlFuzz) readOn() {
	z.t.Helper()
	anew, err := introspect.Load(z.t.Context(), z.conn, z.read.cfg)
	if err != nil {
		z.t.Fatal(err)
	}
	on, err := introspect.Update(z.t.Context(), z.conn, z.read.cfg, z.read.reading)
	if err != nil {
		z.t.Fatal(err)
	}
	annotation.Apply(&anew)
	annotation.Apply(&on.Database)
	if d := cmp.Diff(anew, on.Database); d != "" {
		z.t.Fatalf("reading on is another than reading anew (-anew +on):\n%s\n%s", d, z.history())
	}
	whole, wrong := schema.New(anew, schema.Options{})
	parts, also := schema.New(on.Database, schema.Options{Previous: z.read.catalog})
	if a, b := whole.Role(z.role).SDL(), parts.Role(z.role).SDL(); a != b {
		z.t.Fatalf("reading on makes another schema (-anew +on):\n%s\n%s", cmp.Diff(a, b), z.history())
	}
	if d := cmp.Diff(wrong, also); d != "" {
		z.t.Fatalf("reading on finds other problems (-anew +on):\n%s\n%s", d, z.history())
	}
	z.read.reading, z.read.catalog = on, parts
}

func (z *ddlFuzz) exec(sql string) {
	z.t.Helper()
	z.log = append(z.log, sql)
	if _, err := z.conn.Exec(z.t.Context(), sql); err != nil {
		z.t.Fatalf("%s: %v", sql, err)
	}
}

var fuzzTypes = []string{"int", "bigint", "text", "varchar(20)", "numeric(9,2)", "mood", "pair"}

func (z *ddlFuzz) table(name string) *fuzzTable {
	x := &fuzzTable{name: name, hit: map[string]bool{}}
	z.exec(fmt.Sprintf(`CREATE TABLE %[1]s (id int PRIMARY KEY, owner text NOT NULL DEFAULT 'ana'); ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY;
		ALTER TABLE %[1]s REPLICA IDENTITY FULL; GRANT SELECT (id, owner) ON %[1]s TO %[2]s;
		CREATE POLICY own ON %[1]s FOR SELECT TO %[2]s USING (owner = current_setting('request.jwt.claims')::json ->> 'sub');
		COMMENT ON TABLE %[1]s IS '@subscribe(field: "%[1]s", type: "T%[1]s")'`, name, z.role))
	for _, sql := range fuzzTypes {
		z.add(x, sql)
	}
	return x
}

func (z *ddlFuzz) add(x *fuzzTable, sql string) {
	c := &fuzzColumn{name: fmt.Sprintf("c%d", x.next), sql: sql}
	x.next++
	x.columns = append(x.columns, c)
	z.exec(fmt.Sprintf("ALTER TABLE %[1]s ADD %[2]s %[3]s; GRANT SELECT (%[2]s) ON %[1]s TO %[4]s", x.name, c.name, sql, z.role))
}

func (z *ddlFuzz) value(c *fuzzColumn) string {
	n := z.r.IntN(100)
	switch {
	case n < 15:
		return "NULL"
	case c.sql == "mood":
		return "'" + z.labels[z.r.IntN(len(z.labels))] + "'"
	case c.sql == "pair":
		return fmt.Sprintf("ROW(%d, 'y%d')::pair", n, n)
	case strings.Contains(c.sql, "char") || c.sql == "text":
		return fmt.Sprintf("'v%d'", n)
	}
	return fmt.Sprint(n)
}

// write changes some rows.
func (z *ddlFuzz) write(x *fuzzTable) {
	var names, values, sets []string
	for _, c := range x.columns {
		v := z.value(c)
		names, values, sets = append(names, c.name), append(values, v), append(sets, c.name+" = "+v)
	}
	owner := []string{"ana", "ana", "ben"}[z.r.IntN(3)]
	switch z.r.IntN(5) {
	case 0, 1:
		z.ids++
		z.exec(fmt.Sprintf("INSERT INTO %s (id, owner%s) VALUES (%d, '%s'%s)", x.name, after(", ", names), z.ids, owner, after(", ", values)))
	case 2, 3:
		if len(sets) > 0 {
			z.exec(fmt.Sprintf("UPDATE %s SET owner = '%s', %s WHERE id %% 3 = %d", x.name, owner, sets[z.r.IntN(len(sets))], z.r.IntN(3)))
		}
	default:
		z.exec(fmt.Sprintf("DELETE FROM %s WHERE id %% 7 = %d AND id > 0", x.name, z.r.IntN(7)))
	}
}

func after(sep string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return sep + strings.Join(list, sep)
}

// change makes one schema change, and notes what it touches.
func (z *ddlFuzz) change(x *fuzzTable) {
	if len(x.columns) < 3 {
		z.add(x, fuzzTypes[z.r.IntN(len(fuzzTypes))])
		return
	}
	i := z.r.IntN(len(x.columns))
	c := x.columns[i]
	column := x.name + "." + c.name
	x.ddl++
	switch z.r.IntN(19) {
	case 0, 1:
		z.add(x, fuzzTypes[z.r.IntN(len(fuzzTypes))])
	case 2:
		z.exec("ALTER TABLE " + x.name + " DROP " + c.name)
		x.hit[c.name] = true
		x.columns = slices.Delete(x.columns, i, i+1)
	case 3:
		old := c.name
		c.name = fmt.Sprintf("c%d", x.next)
		x.next++
		z.exec("ALTER TABLE " + x.name + " RENAME " + old + " TO " + c.name)
		x.hit[old] = true
	case 4, 5:
		z.retype(x, c)
	case 6:
		z.exec(fmt.Sprintf("COMMENT ON COLUMN %s IS 'About it, %d.'", column, z.r.IntN(100)))
		if c.omitted {
			c.omitted = false
		}
	case 7:
		z.exec("COMMENT ON COLUMN " + column + " IS '@omit'")
		c.omitted, x.hit[c.name] = true, true
	case 8:
		z.exec("REVOKE SELECT (" + c.name + ") ON " + x.name + " FROM " + z.role)
		c.hidden, x.hit[c.name] = true, true
	case 9:
		z.exec("GRANT SELECT (" + c.name + ") ON " + x.name + " TO " + z.role)
		c.hidden = false
	case 10:
		z.exec(fmt.Sprintf("ALTER POLICY own ON %s USING (owner = current_setting('request.jwt.claims')::json ->> 'sub' OR id %% 5 = %d)", x.name, z.r.IntN(5)))
		x.reread = true
	case 11:
		z.labels = append(z.labels, fmt.Sprintf("l%d", len(z.labels)))
		z.exec("ALTER TYPE mood ADD VALUE '" + z.labels[len(z.labels)-1] + "'")
		z.touchAll()
	case 12:
		z.exec("CREATE TEMPORARY TABLE IF NOT EXISTS scratch (x int); DROP TABLE scratch; CREATE TABLE other (x int); DROP TABLE other")
	case 13:
		z.exec("CREATE INDEX ON " + x.name + " (" + c.name + ")")
	case 14:
		z.exec("TRUNCATE " + x.name)
		x.moved = true
	case 15:
		z.exec("ALTER TYPE pair ADD ATTRIBUTE more int; ALTER TYPE pair DROP ATTRIBUTE more")
		z.touchAll()
	case 16:
		z.exec("ALTER TABLE " + x.name + " ALTER " + c.name + " SET DEFAULT NULL")
	case 17:
		if c.sql == "text" {
			z.exec(fmt.Sprintf("ALTER TABLE %s ALTER %s TYPE text USING %[2]s || '~'", x.name, c.name))
			x.reread = true
		}
	default:
		z.exec("VACUUM FULL " + x.name)
		x.moved = true
	}
}

// touchAll notes DDL that concerns every table.
func (z *ddlFuzz) touchAll() {
	for _, x := range z.tables {
		x.ddl++
	}
}

func (z *ddlFuzz) retype(x *fuzzTable, c *fuzzColumn) {
	to := map[string]string{"int": "bigint", "bigint": "numeric(9,2)", "text": "varchar(20)", "varchar(20)": "text", "mood": "text"}[c.sql]
	if to == "" {
		return
	}
	z.exec(fmt.Sprintf("ALTER TABLE %s ALTER %s TYPE %s USING %[2]s::%[3]s", x.name, c.name, to))
	if (c.sql == "text" || c.sql == "varchar(20)") && strings.Contains("text varchar(20)", to) {
		x.reread = true // the type is String before and after, and the values may be others
	} else {
		x.hit[c.name] = true
	}
	c.sql = to
}

// A fuzzSub is a subscriber to a table that selects some columns.
type fuzzSub struct {
	*mirror
	table   *fuzzTable
	columns []*fuzzColumn
	names   []string // as they were when it subscribed
}

// subscribe chooses columns that are there to see.
func (z *ddlFuzz) subscribe(s *service, x *fuzzTable) *fuzzSub {
	sub := &fuzzSub{table: x}
	fields := ""
	for _, i := range z.r.Perm(len(x.columns)) {
		c := x.columns[i]
		if c.omitted || c.hidden || len(sub.columns) == 3 {
			continue
		}
		sub.columns, sub.names = append(sub.columns, c), append(sub.names, c.name)
		fields += " " + c.name
		if c.sql == "pair" {
			fields += " { x }"
		}
	}
	sub.mirror = follow(z.t, s.dial(z.t, z.role, map[string]any{"sub": "ana"}), "subscription { "+x.name+"(snapshot: true) { kind rowId reason row { id"+fields+" } } }")
	if sub.ended != "" {
		z.t.Fatalf("cannot subscribe to%s of %s: %s\n%s", fields, x.name, sub.ended, z.history())
	}
	return sub
}

func (z *ddlFuzz) history() string { return strings.Join(z.log[max(0, len(z.log)-30):], "\n") }

// ddl counts the schema changes since subscriptions were looked at.
func (z *ddlFuzz) ddl() int {
	n := 0
	for _, x := range z.tables {
		n += x.ddl
	}
	return n
}

// versions are those of a table's columns: another after each command that defines the column anew.
func (z *ddlFuzz) versions(x *fuzzTable) map[string]string {
	z.t.Helper()
	rows, err := z.conn.Query(z.t.Context(), "SELECT attname::text, xmin::text FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0", x.name)
	if err != nil {
		z.t.Fatal(err)
	}
	out := map[string]string{}
	var name, version string
	if _, err := pgx.ForEachRow(rows, []any{&name, &version}, func() error { out[name] = version; return nil }); err != nil {
		z.t.Fatal(err)
	}
	return out
}

// judge holds a subscriber against SELECT, and whether it was disturbed against what happened.
func (z *ddlFuzz) judge(sub *fuzzSub) {
	x := sub.table
	touched := slices.ContainsFunc(sub.names, func(n string) bool { return x.hit[n] })
	if sub.ended != "" {
		if !touched || !strings.Contains(sub.ended, "SCHEMA_CHANGED") {
			z.t.Errorf("%v of %s ended though nothing of them changed: %s\n%s", sub.names, x.name, sub.ended, z.history())
		}
		return
	}
	if touched && x.ddl == 1 {
		z.t.Errorf("%v of %s goes on though %v changed\n%s", sub.names, x.name, x.hit, z.history())
		return
	}
	// Of two changes in one go, of whatever tables, rows between are read by the catalog of the
	// second: where they do not fit it, the subscriptions of that table read them anew.
	between := x.ddl > 0 && z.ddl() > 1
	redefined := x.moved && slices.ContainsFunc(sub.columns, func(c *fuzzColumn) bool { return x.versions[c.name] != z.versions(x)[c.name] })
	switch {
	case len(sub.resets) == 0 || x.reread || between:
	case redefined:
		z.t.Logf("%v of %s were reset for %v: a column is defined anew, and the table has had another file", sub.names, x.name, sub.resets)
	default:
		z.t.Errorf("%v of %s were reset for %v though nothing of them changed\n%s", sub.names, x.name, sub.resets, z.history())
	}
	sub.resets = nil
	parts := []string{"'id', id"}
	for i, c := range sub.columns {
		parts = append(parts, "'"+sub.names[i]+"', "+c.json())
	}
	want := asRole(z.t, z.conn, z.role, "ana", "SELECT json_build_object("+strings.Join(parts, ", ")+") FROM "+x.name)
	if d := sub.differs(want); d != "" {
		z.t.Errorf("%v of %s:\n%s\n%s", sub.names, x.name, d, z.history())
	}
}

// Random schema changes, among writes and subscribers: no wrong value, no subscription ended or
// reset that nothing happened to. What is read on from the catalog before is what a whole reading gives.
// The seed replays.
//
// Covers C52, C54.
func TestSchemaChangesDisturbOnlyWhomTheyConcern(t *testing.T) {
	t.Parallel()
	seed := workloadSeed(t)
	db := pgtest.New(t, "CREATE TYPE mood AS ENUM ('l0', 'l1'); CREATE TYPE pair AS (x int, y text)")
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	z := &ddlFuzz{t: t, r: rand.New(rand.NewPCG(seed, 3)), conn: conn, role: db.Role(t, "web_user"), labels: []string{"l0", "l1"}}
	for n := range 3 {
		z.tables = append(z.tables, z.table(fmt.Sprintf("t%d", n)))
	}
	s := start(t, settings(t, db, z.role))
	z.read.cfg = introspect.Config{Schemas: []string{"public"}, Roles: []string{z.role}, Related: seed%2 == 0, Publications: []string{"rowtide", "rowtide_insert"}}
	var subs []*fuzzSub
	const rounds, perTable = 40, 3
	for round := range rounds {
		for _, x := range z.tables {
			clear(x.hit)
			x.reread, x.ddl = false, 0
			x.versions = z.versions(x)
		}
		for _, x := range z.tables {
			have := slices.DeleteFunc(slices.Clone(subs), func(s *fuzzSub) bool { return s.table != x })
			for range perTable - len(have) {
				subs = append(subs, z.subscribe(s, x))
			}
		}
		for range 1 + z.r.IntN(12) {
			x := z.tables[z.r.IntN(len(z.tables))]
			if z.r.IntN(4) == 0 {
				z.change(x)
				z.readOn()
			} else {
				z.write(x)
			}
		}
		for _, x := range z.tables {
			z.exec(fmt.Sprintf("DELETE FROM %[1]s WHERE id < 0; INSERT INTO %[1]s (id) VALUES (%[2]d)", x.name, -1-round))
		}
		for _, sub := range subs {
			sub.until(t, -1-round)
			z.judge(sub)
		}
		if t.Failed() {
			return
		}
		subs = slices.DeleteFunc(subs, func(s *fuzzSub) bool {
			if s.ended != "" || z.r.IntN(8) == 0 {
				_ = s.c.CloseNow()
				return true
			}
			return false
		})
	}
	t.Logf("%d statements in %d rounds", len(z.log), rounds)
}
