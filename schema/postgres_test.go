package schema_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// connect opens a session that prints values as the stream does.
func connect(t *testing.T, db *pgtest.DB) *pgx.Conn {
	t.Helper()
	cfg, err := pgx.ParseConfig(db.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]string{
		"DateStyle": "ISO, YMD", "IntervalStyle": "postgres", "TimeZone": "UTC", "extra_float_digits": "3", "bytea_output": "hex",
	} {
		cfg.RuntimeParams[name] = v
	}
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// A specimen is a column to test a type with: its type in SQL, its definition, and values as SQL
// literals.
type specimen struct {
	name   string
	sql    string
	def    schema.ColumnDef
	values []string
	// expect gives, for the API's JSON (a string is decoded), what this SQL expression gives.
	expect string
}

const longNumber = "123456789012345678901234567890.000000000000000000012345678900"

func specimens(enum *schema.Type) []specimen {
	texts := []string{
		"", "a", "A", "ab", "abc", "a b", "a%b", "a_b", `a\b`, "ä", "a\u0308", "日本", "😀", "NULL", `q"u'o,t{e}`,
		"line\nfeed\r\ttab\x01\x7f", "</script>\u2028\u2029&", "__proto__", "aaaaaaab", "b", "Z", "~",
	}
	padded := append([]string{"a  ", "  ", "ab ", "\t"}, texts...)
	cText := column("c_text", typ("text"))
	cText.CollationC = true
	box := typ("box")
	box.Delimiter = ';'
	positive := &schema.Type{OID: 30000, Schema: "public", Name: "positive", Kind: 'd', Base: typ("numeric")}
	return []specimen{
		{name: "boolean", sql: "bool", def: column("boolean", typ("bool")), values: []string{"t", "f"}, expect: "v"},
		{name: "small", sql: "int2", def: column("small", typ("int2")), values: []string{"-32768", "-1", "0", "1", "32767"}, expect: "v"},
		{name: "int", sql: "int4", def: column("int", typ("int4")), values: []string{"-2147483648", "-1", "0", "7", "2147483647"}, expect: "v"},
		{name: "big", sql: "int8", def: column("big", typ("int8")), values: []string{"-9223372036854775808", "0", "9007199254740993", "9223372036854775807"}, expect: "v"},
		{name: "real", sql: "float4", def: column("real", typ("float4")), expect: "v", values: []string{
			"NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "0.100000001", "1e-45", "3.4028235e38", "16777217", "-1.5", "1e10",
		}},
		{name: "double", sql: "float8", def: column("double", typ("float8")), expect: "v", values: []string{
			"NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "0.30000000000000004", "5e-324", "1.7976931348623157e308", "1e20", "-1.5",
		}},
		{name: "number", sql: "numeric", def: column("number", typ("numeric")), expect: "v", values: []string{
			"NaN", "Infinity", "-Infinity", "0", "0.000", "-0.5", "1.10", "1.1", "-1.10", "1e-400", "-1e-400", "1e131071", "-1e131071",
			longNumber, "-" + longNumber, "100", "1e2", "0.001", "10", "9.99",
		}},
		{name: "text", sql: "text", def: column("text", typ("text")), values: texts, expect: "v"},
		{name: "c_text", sql: `text COLLATE "C"`, def: cText, values: padded, expect: "v"},
		{name: "vary", sql: "varchar(40)", def: column("vary", typ("varchar")), values: padded, expect: "v"},
		{name: "padded", sql: "bpchar(8)", def: column("padded", typ("bpchar")), values: []string{"", "a", "a ", "ab", "a%", "_", "ä", "\ta", "aaaaaaab"}, expect: `CAST(v AS text) || repeat(' ', 8 - length(v))`},
		{name: "named", sql: "name", def: column("named", typ("name")), values: []string{"", "a", "ab", "ä", "b"}, expect: "v"},
		{name: "uid", sql: "uuid", def: column("uid", typ("uuid")), expect: "v", values: []string{
			"00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "ffffffff-ffff-ffff-ffff-ffffffffffff",
		}},
		{name: "moment", sql: "timestamptz", def: column("moment", typ("timestamptz")), values: []string{
			"infinity", "-infinity", "2024-02-29 12:34:56.123456+00", "2024-02-29 12:34:56+05:30", "0001-01-01 00:00:00+00",
			"0001-01-01 00:00:00+00 BC", "0044-03-15 12:00:00.5+00 BC", "4714-11-24 00:00:00+00 BC", "9999-12-31 23:59:59.999999+00",
			"10000-01-01 00:00:00+00", "294276-12-31 23:59:59.999999+00", "2000-01-01 24:00:00+00", "1999-12-31 23:59:60+00",
			"1900-01-01 00:00:00-15:59:59",
		}},
		{name: "local", sql: "timestamp", def: column("local", typ("timestamp")), values: []string{
			"infinity", "-infinity", "2024-02-29 12:34:56.1", "0001-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999",
			"4714-11-24 00:00:00 BC", "1970-01-01", "2024-02-29 12:34:56.100001",
		}},
		{name: "day", sql: "date", def: column("day", typ("date")), values: []string{
			"infinity", "-infinity", "2024-02-29", "2024-03-01", "0001-01-01", "0001-12-31 BC", "4714-11-24 BC", "5874897-12-31", "10000-01-01", "1900-03-01",
		}},
		{name: "clock", sql: "time", def: column("clock", typ("time")), expect: "v", values: []string{"00:00", "24:00:00", "12:34:56.123456", "12:34:56.5", "12:34:56.45"}},
		{name: "zoned", sql: "timetz", def: column("zoned", typ("timetz")), values: []string{"00:00+00", "12:34:56.5-15:59:59", "24:00:00+15:59", "01:02:03+05:30"}},
		{name: "span", sql: "interval", def: column("span", typ("interval")), values: []string{
			"0", "1 year 2 mons -3 days 04:05:06.789", "-1 year -2 mons +3 days -04:05:06.789", "178000000 years", "-178000000 years",
			"1 mon", "-1 day", "00:00:00.000001", "-00:00:01.5", "1000000:00:00", "1 day -1 second", "11 mons", "-11 mons",
			"2562047788:00:54.775807", "-1 year 1 day", "00:01:00",
		}},
		{name: "bytes", sql: "bytea", def: column("bytes", typ("bytea")), expect: "translate(encode(v, 'base64'), E'\\n', '')", values: []string{
			`\x`, `\x00`, `\x0001`, `\x000102`, `\xdeadbeef`, `\x` + strings.Repeat("ff", 100),
		}},
		{name: "document", sql: "json", def: column("document", typ("json")), values: []string{
			`null`, `{"a":1,  "a":2}`, `1.10`, `1e400`, `-0`, ` [1, {"b": "x\u0000y </script>"}] `, `"` + "\u2028" + `"`, `"\ud83d\ude00 é"`, "{\n}", `123456789012345678901234567890`,
		}},
		{name: "packed", sql: "jsonb", def: column("packed", typ("jsonb")), values: []string{`null`, `{"b":1,"a":2}`, `1.10`, `1e300`, `[]`, `"<"`, `{"":{}}`}},
		{name: "ints", sql: "int4[]", def: column("ints", array(typ("int4"))), expect: "array_to_json(v)", values: []string{`{}`, `{1,NULL,-3}`, `{{1,2},{3,4}}`, `[0:1]={5,6}`, `[-1:0][2:3]={{1,2},{3,4}}`, `{{{1}},{{2}}}`}},
		{name: "texts", sql: "text[]", def: column("texts", array(typ("text"))), expect: "array_to_json(v)", values: []string{
			`{}`, `{a,NULL,"NULL","null",""}`, `{"a\"b","c\\d","{e}","f,g"," h ","ä\n"}`, `{{a,b},{"",NULL}}`, `{" "}`,
		}},
		{name: "state", sql: "mood", def: column("state", enum), values: enum.Labels},
		{name: "flags", sql: "bool[]", def: column("flags", array(typ("bool"))), expect: "array_to_json(v)", values: []string{`{t,f,NULL}`}},
		{
			name: "blobs", sql: "bytea[]", def: column("blobs", array(typ("bytea"))), values: []string{`{"\\xdeadbeef","\\x",NULL}`},
			expect: `to_json(ARRAY(SELECT translate(encode(b, 'base64'), E'\n', '') FROM unnest(v) b))`,
		},
		{
			name: "moments", sql: "timestamptz[]", def: column("moments", array(typ("timestamptz"))), values: []string{`{infinity,"2024-02-29 12:34:56.5+00",NULL}`},
			expect: `to_json(ARRAY(SELECT replace(to_json(b) #>> '{}', '+00:00', 'Z') FROM unnest(v) b))`,
		},
		{name: "documents", sql: "json[]", def: column("documents", array(typ("json"))), values: []string{`{"{\"a\": [1, \"x\"]}",NULL,"null"}`}, expect: "array_to_json(v)"},
		{name: "boxes", sql: "box[]", def: column("boxes", array(box)), values: []string{`{(1,1),(0,0);(3,3),(2,2)}`}, expect: "array_to_json(v)"},
		{name: "domain", sql: "positive", def: column("domain", positive), values: []string{"1.10", "1e20"}, expect: "v"},
		{name: "domains", sql: "positive[]", def: column("domains", array(positive)), values: []string{"{1.10,NULL}"}, expect: `to_json(v::text[])`},
		text("inet", "10.0.0.1/8", "::1"), text("money", "$1,234.50", "-$0.01"), text("varbit", "101", ""), text(`"char"`, "a", ""),
		text("xid8", "18446744073709551615"), text("pg_lsn", "FFFFFFFF/FFFFFFFF"), text("oid", "4294967295"), text("regclass", "pg_class"),
		text("tsvector", "'a':1A,2 'b c':3"), text("xml", "<a b=\"c\">é</a>"), text("cidr", "10.0.0.0/8"), text("macaddr", "08:00:2b:01:02:03"),
		text("point", "(1.5,-2)"), text("int4range", "[1,5)", "empty", "(,)"), text("int2vector", "1 2 3"), text("pair", `(1,"a ""b"", c")`, "(,)"),
	}
}

// text is a specimen of a type that has no mapping.
func text(sql string, values ...string) specimen {
	name := "t_" + strings.Trim(sql, `"`)
	return specimen{name: name, sql: sql, def: column(name, typ(sql)), values: values, expect: "v"}
}

var labels = []string{"sad", "ok, fine", "ok; fine", "true", "null", "", "__x", "7up", "größe", "happy", "NULL"}

func quoteSQL(s string) string {
	if !strings.Contains(s, `\`) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return " E'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
}

// menagerie is a database with a table that has a column for each specimen, the table in the
// API, and rows that have every value, and NULL, in every column.
func menagerie(t *testing.T, rows int) (*pgx.Conn, []specimen, *schema.Catalog, []cdc.Row) {
	t.Helper()
	quoted := make([]string, len(labels))
	for i, l := range labels {
		quoted[i] = quoteSQL(l)
	}
	db := pgtest.New(t, "CREATE TYPE mood AS ENUM ("+strings.Join(quoted, ", ")+")",
		"CREATE DOMAIN positive AS numeric CHECK (value > 0)", "CREATE TYPE pair AS (a int, b text)")
	enum := &schema.Type{OID: pgtest.One[uint32](t, db, "SELECT 'mood'::regtype::oid"), Schema: "public", Name: "mood", Kind: 'e', Labels: labels}
	specs := specimens(enum)
	defs := []schema.ColumnDef{column("id", typ("int4"))}
	create := []string{"id int4 PRIMARY KEY"}
	for _, s := range specs {
		defs = append(defs, s.def)
		create = append(create, s.name+" "+s.sql)
	}
	db.Exec(t, "CREATE TABLE menagerie ("+strings.Join(create, ", ")+")")
	random := rand.New(rand.NewPCG(1, 2))
	for id := range rows {
		values := []string{fmt.Sprint(id)}
		for _, s := range specs {
			v := "NULL"
			if i := id; i < len(s.values) {
				v = quoteSQL(s.values[i])
			} else if i > len(s.values) {
				v = quoteSQL(s.values[random.IntN(len(s.values))])
			}
			values = append(values, v)
		}
		db.Exec(t, "INSERT INTO menagerie VALUES ("+strings.Join(values, ", ")+")")
	}
	conn := connect(t, db)
	return conn, specs, catalog(t, table(1, "menagerie", defs...)), readImages(t, conn, specs)
}

func readImages(t *testing.T, conn *pgx.Conn, specs []specimen) []cdc.Row {
	t.Helper()
	cols := []string{"id::text"}
	for _, s := range specs {
		// A cast of bpchar to text would cut the padding, which the stream has.
		if s.name == "padded" {
			cols = append(cols, "CASE WHEN padded IS NOT NULL THEN concat('', padded) END")
			continue
		}
		cols = append(cols, s.name+"::text")
	}
	rows, err := conn.Query(t.Context(), "SELECT "+strings.Join(cols, ", ")+" FROM menagerie ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	images, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (cdc.Row, error) {
		texts := make([]*string, len(cols))
		into := make([]any, len(cols))
		for i := range texts {
			into[i] = &texts[i]
		}
		if err := r.Scan(into...); err != nil {
			return nil, err
		}
		image := make(cdc.Row, len(cols))
		for i, s := range texts {
			if s == nil {
				continue
			}
			text := *s
			if i > 0 && specs[i-1].sql == "bool" {
				text = text[:1] // boolout says t, the cast true
			}
			image[i] = cdc.TextValue(text)
		}
		return image, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return images
}

// written gives the JSON that the API has for one column of an image.
func written(t *testing.T, op *schema.Operation, image cdc.Row) json.RawMessage {
	t.Helper()
	out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: image, New: image})
	if err != nil {
		t.Fatalf("write %v: %v", image, err)
	}
	var frame struct {
		Data struct {
			Menagerie struct {
				Row struct{ V json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(out, &frame); err != nil {
		t.Fatalf("the frame is not JSON: %v\n%s", err, out)
	}
	return frame.Data.Menagerie.Row.V
}

// decoded is the text that a client has: the string, or the JSON of all else.
func decoded(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

func selectColumn(t *testing.T, c *schema.Catalog, name string) *schema.Operation {
	t.Helper()
	return compile(t, c, "subscription { menagerie { row { v: "+camel(name)+" } } }", "")
}

func camel(s string) string {
	words := strings.Split(s, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}

// Covers C90, C91, C92, C93, C94, C95, C96, C97, C100, C101.
func TestEveryValueIsWrittenAsPostgresHasIt(t *testing.T) {
	t.Parallel()
	conn, specs, c, images := menagerie(t, 30)
	for i, s := range specs {
		op := selectColumn(t, c, s.name)
		for _, image := range images {
			v := image[i+1]
			got := written(t, op, image)
			if v.IsNull() {
				if string(got) != "null" {
					t.Errorf("%s: NULL is written as %s", s.name, got)
				}
				continue
			}
			want, exact := expected(t, conn, s, v.Text())
			if !exact {
				continue
			}
			if g := comparable(s, got); g != want {
				t.Errorf("%s %q: wrote %s (%q), want %q", s.name, v.Text(), got, g, want)
			}
		}
	}
}

// comparable takes away what the API may spell in another way.
func comparable(s specimen, raw json.RawMessage) string {
	switch s.sql {
	case "json", "jsonb":
		return strings.NewReplacer(`\u003c`, "<", `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(string(raw))
	}
	if strings.HasSuffix(s.sql, "[]") {
		return normalJSON(string(raw))
	}
	return decoded(raw)
}

func normalJSON(s string) string {
	var v any
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return err.Error()
	}
	out, _ := json.Marshal(v)
	return string(out)
}

// expected asks Postgres what the API must say; ISO 8601 of dates and enums are held by tables.
func expected(t *testing.T, conn *pgx.Conn, s specimen, text string) (string, bool) {
	t.Helper()
	expect := s.expect
	switch {
	case s.sql == "json" || s.sql == "jsonb":
		return strings.Trim(text, " "), true
	case s.sql == "interval":
		if _, err := conn.Exec(t.Context(), "SET intervalstyle = 'iso_8601'"); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if _, err := conn.Exec(t.Context(), "SET intervalstyle = 'postgres'"); err != nil {
				t.Error(err)
			}
		}()
		expect = "v"
	case expect == "":
		return "", false
	}
	column := strings.Split(s.sql, " ")[0]
	var out string
	err := conn.QueryRow(t.Context(), "SELECT ("+expect+")::text FROM (SELECT $1::text::"+column+") x(v)", text).Scan(&out)
	if err != nil {
		t.Fatalf("%s %q: %v", s.name, text, err)
	}
	if strings.HasSuffix(s.sql, "[]") {
		out = normalJSON(out)
	}
	return out, true
}

// Covers C93, C99.
func TestTimesAndEnumsHaveTheirFormsInTheAPI(t *testing.T) {
	t.Parallel()
	conn, _, c, _ := menagerie(t, 1)
	for _, x := range []struct{ column, sql, literal, want string }{
		{"moment", "timestamptz", "2024-02-29 12:34:56.1234+05:30", "2024-02-29T07:04:56.1234Z"},
		{"moment", "timestamptz", "0001-01-01 00:00:00+00 BC", "0000-01-01T00:00:00Z"},
		{"moment", "timestamptz", "0044-03-15 12:00:00.5+00 BC", "-000043-03-15T12:00:00.5Z"},
		{"moment", "timestamptz", "4714-11-24 00:00:00+00 BC", "-004713-11-24T00:00:00Z"},
		{"moment", "timestamptz", "10000-01-01 00:00:00+00", "+010000-01-01T00:00:00Z"},
		{"moment", "timestamptz", "294276-12-31 23:59:59.999999+00", "+294276-12-31T23:59:59.999999Z"},
		{"moment", "timestamptz", "infinity", "infinity"},
		{"moment", "timestamptz", "-infinity", "-infinity"},
		{"moment", "timestamptz", "1999-12-31 24:00:00+00", "2000-01-01T00:00:00Z"},
		{"local", "timestamp", "2024-02-29 12:34:56.10", "2024-02-29T12:34:56.1"},
		{"local", "timestamp", "0002-01-01 BC", "-000001-01-01T00:00:00"},
		{"day", "date", "2024-02-29", "2024-02-29"},
		{"day", "date", "5874897-12-31", "+5874897-12-31"},
		{"day", "date", "4714-11-24 BC", "-004713-11-24"},
		{"day", "date", "infinity", "infinity"},
		{"zoned", "timetz", "12:34:56.5-15:59:59", "12:34:56.5-15:59:59"},
		{"zoned", "timetz", "01:02:03+02", "01:02:03+02:00"},
		{"zoned", "timetz", "24:00:00+00", "24:00:00Z"},
		{"state", "mood", "sad", "sad"},
		{"state", "mood", "ok, fine", "ok__fine_5c595237"},
		{"state", "mood", "ok; fine", "ok__fine_6e085aa6"},
		{"state", "mood", "true", "V_true"},
		{"state", "mood", "", "V_"},
		{"state", "mood", "__x", "_x"},
		{"state", "mood", "7up", "V_7up"},
		{"state", "mood", "größe", "gr__e"},
		{"state", "mood", "NULL", "NULL"},
	} {
		var text string
		if err := conn.QueryRow(t.Context(), "SELECT $1::text::"+x.sql+"::text", x.literal).Scan(&text); err != nil {
			t.Fatal(err)
		}
		image := make(cdc.Row, len(c.Table(1).Columns))
		image[0] = cdc.TextValue("1")
		for i, col := range c.Table(1).Columns {
			if col.Def.Name == x.column {
				image[i] = cdc.TextValue(text)
			}
		}
		if got := decoded(written(t, selectColumn(t, c, x.column), image)); got != x.want {
			t.Errorf("%s %q: wrote %q, want %q", x.sql, x.literal, got, x.want)
		}
	}
}

// C102: a server with encoding SQL_ASCII can hold bytes that are not UTF-8.
//
// Covers C102, S71.
func TestBytesThatAreNoTextLeaveTheJSONValid(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "menagerie", column("id", typ("int4")), column("text", typ("text")), column("document", typ("json")), column("texts", array(typ("text")))))
	op := compile(t, c, "subscription { menagerie { row { text document texts } } }", "")
	image := row("1", "a\xff\xc3(b\xed\xa0\x80", "{\"a\": \"\xfe\"}", "{\"\xff\\\"\"}")
	out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, New: image, Key: image})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"data":{"menagerie":{"row":{"text":"a` + "\uFFFD\uFFFD(b\uFFFD\uFFFD\uFFFD" + `","document":{"a": "` + "\uFFFD" +
		`"},"texts":["` + "\uFFFD" + `\""]}}},"extensions":{"cursor":null}}`
	if string(out) != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}

// A condition is one both in the API's JSON and in SQL.
type condition struct{ api, sql string }

// A conditioner makes random conditions over the specimens.
type conditioner struct {
	random  *rand.Rand
	specs   []specimen
	images  []cdc.Row
	written func(spec int, image cdc.Row) json.RawMessage
}

func (c *conditioner) pick(n int) int { return c.random.IntN(n) }

func (c *conditioner) condition(depth int) condition {
	if depth > 0 {
		switch c.pick(6) {
		case 0:
			k := c.condition(depth - 1)
			return condition{`{"not":` + k.api + `}`, "NOT (" + k.sql + ")"}
		case 1, 2:
			return c.joined("and", " AND ", "true", depth)
		case 3:
			return c.joined("or", " OR ", "false", depth)
		}
	}
	return c.leaf()
}

func (c *conditioner) joined(name, word, empty string, depth int) condition {
	var api, sql []string
	for range c.pick(4) {
		k := c.condition(depth - 1)
		api, sql = append(api, k.api), append(sql, "("+k.sql+")")
	}
	if len(sql) == 0 {
		sql = []string{empty}
	}
	return condition{`{"` + name + `":[` + strings.Join(api, ",") + `]}`, strings.Join(sql, word)}
}

func (c *conditioner) leaf() condition {
	i := c.pick(len(c.specs))
	s := c.specs[i]
	name, column := `{"`+camel(s.name)+`":`, s.name
	op := operatorsOf(s)[c.pick(len(operatorsOf(s)))]
	switch op {
	case "isNull":
		if c.pick(2) == 0 {
			return condition{name + `{"isNull":true}}`, column + " IS NOT DISTINCT FROM NULL"}
		}
		return condition{name + `{"isNull":false}}`, column + " IS DISTINCT FROM NULL"}
	case "in", "notIn":
		var api, sql []string
		for range c.pick(4) {
			k := c.operand(i)
			api, sql = append(api, k.api), append(sql, k.sql)
		}
		typed := "ARRAY[" + strings.Join(sql, ",") + "]::" + baseType(s) + "[]"
		if op == "in" {
			return condition{name + `{"in":[` + strings.Join(api, ",") + `]}}`, column + " = ANY (" + typed + ")"}
		}
		return condition{name + `{"notIn":[` + strings.Join(api, ",") + `]}}`, column + " <> ALL (" + typed + ")"}
	case "like", "startsWith":
		return c.textual(name, column, op)
	}
	k := c.operand(i)
	symbol := map[string]string{"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}[op]
	return condition{name + `{"` + op + `":` + k.api + `}}`, column + " " + symbol + " " + k.sql}
}

func (c *conditioner) textual(name, column, op string) condition {
	alphabet := []string{"a", "b", "A", "%", "_", `\%`, `\_`, `\\`, "ä", " ", "日", "aaa"}
	if op == "startsWith" {
		alphabet = []string{"a", "b", "A", "%", "_", "ä", " ", "日", "\u0308", "aaa"}
	}
	var b strings.Builder
	for range c.pick(6) {
		b.WriteString(alphabet[c.pick(len(alphabet))])
	}
	api, _ := json.Marshal(b.String())
	sql := column + " LIKE " + quoteSQL(b.String())
	if op == "startsWith" {
		sql = "starts_with(" + column + "::text, " + quoteSQL(b.String()) + ")"
	}
	return condition{name + `{"` + op + `":` + string(api) + `}}`, sql}
}

func baseType(s specimen) string { return strings.Split(s.sql, " ")[0] }

// operand takes a value of some row, as the API wrote it and as Postgres reads it.
func (c *conditioner) operand(spec int) condition {
	for {
		image := c.images[c.pick(len(c.images))]
		v := image[spec+1]
		if v.IsNull() {
			continue
		}
		base := strings.Split(baseType(c.specs[spec]), "(")[0]
		return condition{string(c.written(spec, image)), quoteSQL(v.Text()) + "::" + base}
	}
}

func operatorsOf(s specimen) []string {
	equal := []string{"isNull", "eq", "ne", "in", "notIn"}
	order := append([]string{"lt", "lte", "gt", "gte"}, equal...)
	switch s.sql {
	case "bool", "bytea":
		return equal
	case "text", "varchar(40)", "bpchar(8)":
		return append([]string{"like", "startsWith"}, equal...)
	case "name":
		return append([]string{"startsWith"}, equal...)
	case `text COLLATE "C"`:
		return append([]string{"like", "startsWith"}, order...)
	case "timetz", "interval", "json", "jsonb":
		return []string{"isNull"}
	}
	if strings.HasSuffix(s.sql, "[]") || strings.HasPrefix(s.name, "t_") {
		return []string{"isNull"}
	}
	return order
}

func TestFiltersAnswerAsPostgresDoes(t *testing.T) {
	t.Parallel()
	const conditions = 3000
	conn, specs, c, images := menagerie(t, 45)
	ops := make([]*schema.Operation, len(specs))
	for i, s := range specs {
		ops[i] = selectColumn(t, c, s.name)
	}
	r := &conditioner{
		random: rand.New(rand.NewPCG(3, 4)), specs: specs, images: images,
		written: func(spec int, image cdc.Row) json.RawMessage { return written(t, ops[spec], image) },
	}
	differences := 0
	for n := range conditions {
		k := r.condition(n % 4)
		want := map[string]bool{}
		rows, err := conn.Query(t.Context(), "SELECT id::text FROM menagerie WHERE "+k.sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", k.sql, err)
		}
		for _, id := range ids {
			want[id] = true
		}
		op := compile(t, c, "subscription ($w: MenagerieFilter) { menagerie(where: $w) { kind } }", `{"w":`+k.api+`}`)
		for _, image := range images {
			got := true
			if op.Where != nil {
				if got, err = op.Where.Match(image); err != nil {
					t.Fatalf("%s: %v", k.api, err)
				}
			}
			if id := image[0].Text(); got != want[id] {
				differences++
				t.Errorf("row %s %v:\n%s\ngives %v, but in SQL %s\ngives %v", id, image, k.api, got, k.sql, want[id])
			}
		}
		if differences > 3 {
			break
		}
	}
}

// Bytes that base64 spells are those that Postgres has.
func TestBytesFilterReadsBase64(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "menagerie", column("id", typ("int4")), column("bytes", typ("bytea"))))
	op := compile(t, c, `subscription { menagerie(where: {bytes: {eq: "`+base64.StdEncoding.EncodeToString([]byte{0, 255})+`"}}) { kind } }`, "")
	if ok, err := op.Where.Match(row("1", `\x00ff`)); !ok || err != nil {
		t.Errorf("match: %v, %v", ok, err)
	}
}
