package schema_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

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
