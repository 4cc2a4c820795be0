package rowtide_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// A kind is a type as the API has it, for the tests that hold the API against Postgres.
type kind struct {
	sql    string
	values []string                       // hostile ones, as Postgres reads them
	random func(r *rand.Rand) string      // nil takes from values
	text   func(v json.RawMessage) string // reads the API's JSON: the text that Postgres reads
	fields string                         // the selection of an object
	ops    string                         // the operators: "", "equal", "order", "text", "list", "json", "hstore" or "range"
	lists  bool                           // the JSON may be a list: then a list of lists does not tell dimensions
}

// zooDDL makes the types that are not built in.
const zooDDL = `
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('sad', 'ok, fine', 'ok; fine', 'true', '', 'größe', 'NULL', '7up');
CREATE TYPE pair AS (a int, "b B" text); COMMENT ON COLUMN pair."b B" IS '@name(as: "bB")';
CREATE TYPE nested AS (p pair, list pair[], m mood, at timestamptz, raw bytea, span int4range);
ALTER TYPE nested ADD ATTRIBUTE gone int; ALTER TYPE nested DROP ATTRIBUTE gone; ALTER TYPE nested ADD ATTRIBUTE x jsonb;
CREATE DOMAIN positive AS numeric CHECK (value > 0); CREATE DOMAIN pairs AS pair[]; CREATE DOMAIN label AS varchar(60);
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C"); CREATE TYPE inetrange AS RANGE (subtype = inet);
CREATE TYPE moodrange AS RANGE (subtype = mood);`

// plain is a text that JSON holds as a string.
func plain(v json.RawMessage) string {
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		panic(fmt.Sprintf("%s is no JSON string: %v", v, err))
	}
	return s
}

func bare(v json.RawMessage) string { return string(v) }

// float reads numbers, and the three that are strings.
func float(v json.RawMessage) string {
	if strings.HasPrefix(string(v), `"`) {
		return plain(v)
	}
	return string(v)
}

// document takes back what is escaped so that JSON is safe inside a page.
func document(v json.RawMessage) string {
	return strings.NewReplacer(`\u003c`, "<", `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(string(v))
}

func base64Bytes(v json.RawMessage) string {
	b, err := base64.StdEncoding.DecodeString(plain(v))
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf(`\x%x`, b)
}

// moment reads RFC 3339 with the expanded years of ISO 8601.
func moment(v json.RawMessage) string {
	s := plain(v)
	sign := ""
	if s[0] == '-' || s[0] == '+' {
		sign, s = s[:1], s[1:]
	}
	if sign+s == "-infinity" || s == "infinity" {
		return sign + s
	}
	year, rest, _ := strings.Cut(s, "-")
	n, err := strconv.Atoi(year)
	if err != nil {
		panic(err)
	}
	if sign == "-" {
		n = -n
	}
	if n <= 0 {
		return fmt.Sprintf("%04d-%s BC", 1-n, rest)
	}
	return fmt.Sprintf("%04d-%s", n, rest)
}

// label reads a GraphQL name of an enum.
func label(v json.RawMessage) string {
	names := map[string]string{
		"sad": "sad", "ok__fine_5c595237": "ok, fine", "ok__fine_6e085aa6": "ok; fine", "V_true": "true", "V_": "",
		"gr__e": "größe", "NULL": "NULL", "V_7up": "7up",
	}
	out, ok := names[plain(v)]
	if !ok {
		panic("no label is named " + string(v))
	}
	return out
}

// object reads the members of a JSON object.
func object(v json.RawMessage) map[string]json.RawMessage {
	var out map[string]json.RawMessage
	if err := json.Unmarshal(v, &out); err != nil {
		panic(fmt.Sprintf("%s is no JSON object: %v", v, err))
	}
	return out
}

func isNull(v json.RawMessage) bool { return string(v) == "null" }

// quoted is a text inside a composite, a range or an array.
func quoted(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` }

// row reads a composite: the fields' names and kinds, in order.
func composite(fields ...any) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		members := object(v)
		var out []string
		for i := 0; i < len(fields); i += 2 {
			m := members[fields[i].(string)]
			if m == nil {
				panic(fmt.Sprintf("%s has no %v", v, fields[i]))
			}
			s := ""
			if !isNull(m) {
				s = quoted(fields[i+1].(func(json.RawMessage) string)(m))
			}
			out = append(out, s)
		}
		return "(" + strings.Join(out, ",") + ")"
	}
}

const rangeFields = "{ empty lower upper lowerInclusive upperInclusive }"

func rangeText(bound func(json.RawMessage) string) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		m := object(v)
		if string(m["empty"]) == "true" {
			return "empty"
		}
		side := func(name string) string {
			if isNull(m[name]) {
				return ""
			}
			return quoted(bound(m[name]))
		}
		open, shut := "(", ")"
		if string(m["lowerInclusive"]) == "true" {
			open = "["
		}
		if string(m["upperInclusive"]) == "true" {
			shut = "]"
		}
		return open + side("lower") + "," + side("upper") + shut
	}
}

func elements(v json.RawMessage) []json.RawMessage {
	var out []json.RawMessage
	if err := json.Unmarshal(v, &out); err != nil {
		panic(fmt.Sprintf("%s is no JSON list: %v", v, err))
	}
	return out
}

// arrayText reads lists, and lists of lists where there are several dimensions.
func arrayText(k kind, delimiter string) func(json.RawMessage) string {
	var read func(v json.RawMessage) string
	read = func(v json.RawMessage) string {
		var out []string
		for _, e := range elements(v) {
			switch {
			case isNull(e):
				out = append(out, "NULL")
			case strings.HasPrefix(string(e), "[") && !k.lists:
				out = append(out, read(e))
			default:
				out = append(out, quoted(k.text(e)))
			}
		}
		return "{" + strings.Join(out, delimiter) + "}"
	}
	return read
}

// arrayOf is the kind of arrays of a kind.
func arrayOf(k kind) kind {
	delimiter := ","
	if k.sql == "box" {
		delimiter = ";"
	}
	out := kind{sql: k.sql + "[]", fields: k.fields, text: arrayText(k, delimiter), ops: "list"}
	if k.ops == "" || k.ops == "range" || k.sql == "citext" {
		out.ops = ""
	}
	list := func(r *rand.Rand, n int) string {
		var items []string
		for range n {
			if r.IntN(5) == 0 {
				items = append(items, "NULL")
				continue
			}
			items = append(items, quoted(k.value(r)))
		}
		return "{" + strings.Join(items, delimiter) + "}"
	}
	out.random = func(r *rand.Rand) string {
		switch n := r.IntN(6); {
		case n == 0:
			return "{}"
		case n == 1 && !k.lists: // of two dimensions
			n := 1 + r.IntN(3)
			return "{" + list(r, n) + delimiter + list(r, n) + "}"
		case n == 2: // the lower bound is lost, which the reference says
			return fmt.Sprintf("[%d:%d]=", -1, 1) + list(r, 3)
		}
		return list(r, 1+r.IntN(4))
	}
	return out
}

func (k kind) value(r *rand.Rand) string {
	if k.random != nil && (len(k.values) == 0 || r.IntN(2) == 0) {
		return k.random(r)
	}
	return k.values[r.IntN(len(k.values))]
}

func digits(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte('0' + r.IntN(10))
	}
	return string(b)
}

func randomText(r *rand.Rand) string {
	alphabet := []string{"a", "B", "ab", "Ä", "ä", "ß", "İ", "ı", "I", "日本", "😀", "'", `"`, `\`, ",", "{", "}", "(", ")", "[", "NULL", " ", "\t", "\n", "%", "_", "a\u0308", "\x01", "</script>", "\u2028"}
	var b strings.Builder
	for range r.IntN(6) {
		b.WriteString(alphabet[r.IntN(len(alphabet))])
	}
	return b.String()
}

func randomDay(r *rand.Rand, last int) string {
	if r.IntN(5) == 0 {
		return fmt.Sprintf("%04d-%02d-%02d BC", 1+r.IntN(4700), 1+r.IntN(12), 1+r.IntN(28))
	}
	return fmt.Sprintf("%04d-%02d-%02d", 1+r.IntN(last), 1+r.IntN(12), 1+r.IntN(28))
}

func randomClock(r *rand.Rand) string {
	return fmt.Sprintf("%02d:%02d:%02d.%06d", r.IntN(24), r.IntN(60), r.IntN(60), r.IntN(1_000_000))
}

func randomMoment(r *rand.Rand) string {
	day, era, _ := strings.Cut(randomDay(r, 294_000), " ")
	return strings.TrimSpace(day + " " + randomClock(r) + " " + era)
}

func randomSpan(r *rand.Rand) string {
	sign := func() string { return []string{"", "-"}[r.IntN(2)] }
	return fmt.Sprintf("%s%d years %s%d mons %s%d days %s%d:%02d:%02d.%06d", sign(), r.IntN(2000), sign(), r.IntN(12), sign(), r.IntN(4000),
		sign(), r.IntN(3000), r.IntN(60), r.IntN(60), r.IntN(1_000_000))
}

func randomNumber(r *rand.Rand) string {
	return []string{"", "-"}[r.IntN(2)] + digits(r, 1+r.IntN(30)) + "." + digits(r, 1+r.IntN(20))
}

func randomFloat(r *rand.Rand) string {
	f := math.Float64frombits(r.Uint64())
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// ordered makes a random range of a subtype out of two of its values in their order.
func randomRange(values ...string) func(r *rand.Rand) string {
	return func(r *rand.Rand) string {
		i, j := r.IntN(len(values)), r.IntN(len(values))
		side := func(n int) string {
			if r.IntN(5) == 0 {
				return ""
			}
			return quoted(values[n])
		}
		return []string{"[", "("}[r.IntN(2)] + side(min(i, j)) + "," + side(max(i, j)) + []string{"]", ")"}[r.IntN(2)]
	}
}

func randomMultirange(one func(r *rand.Rand) string) func(r *rand.Rand) string {
	return func(r *rand.Rand) string {
		var parts []string
		for range r.IntN(4) {
			parts = append(parts, one(r))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
}

// zoo is every kind that is not made of others, and composites, domains and ranges.
func zoo(version int) []kind {
	texts := []string{"", "a", "A", "Ab", "aB", `a"b\c`, "NULL", "null", "ä", "Ä", "a\u0308", "日本", "😀", "q'u,o;t{e}(f)[g]", "  ", "tab\t\r\n", "\x7f\x01", "</script>\u2028", "%", "_", `\`, "straße", "İ", "ı"}
	ints := []string{"-5", "0", "1", "7", "2147483646"}
	moments := []string{"-infinity", "0044-03-15 12:00:00 BC", "1999-12-31 23:59:59.999999", "2024-02-29", "294276-12-31 23:59:59", "infinity"}
	dates := []string{"-infinity", "4713-01-02 BC", "0001-12-31 BC", "2024-02-29", "5874897-12-30", "infinity"}
	zoned := make([]string, len(moments))
	for i, m := range moments {
		zoned[i] = m
		if day, bc := strings.CutSuffix(m, " BC"); bc {
			zoned[i] = day + "+00 BC"
		} else if !strings.Contains(m, "infinity") {
			zoned[i] += "+00"
		}
	}
	pair := composite("a", bare, "bB", plain)
	intRange := rangeText(bare)
	text := func(sql string, ops string) kind {
		return kind{sql: sql, values: texts, random: randomText, text: plain, ops: ops}
	}
	out := []kind{
		{sql: "bool", values: []string{"t", "f"}, text: bare, ops: "equal"},
		{sql: "int2", values: []string{"-32768", "-1", "0", "32767"}, text: bare, ops: "order"},
		{sql: "int4", values: []string{"-2147483648", "0", "7", "2147483647"}, text: bare, ops: "order"},
		{sql: "int8", values: []string{"-9223372036854775808", "0", "9007199254740993", "9223372036854775807"}, text: plain, ops: "order", random: func(r *rand.Rand) string { return strconv.FormatInt(int64(r.Uint64()), 10) }},
		{sql: "float4", values: []string{"NaN", "Infinity", "-Infinity", "0", "-0", "0.1", "1e-45", "3.4028235e38", "16777217"}, text: float, ops: "order"},
		{sql: "float8", values: []string{"NaN", "Infinity", "-Infinity", "0", "-0", "0.30000000000000004", "5e-324", "1.7976931348623157e308"}, random: randomFloat, text: float, ops: "order"},
		{sql: "numeric", values: []string{"NaN", "Infinity", "-Infinity", "0", "0.000", "1.10", "1.1", "-1.1", "1e-400", "1e131071", "-1e-16383", "1" + strings.Repeat("9", 131071)}, random: randomNumber, text: plain, ops: "order"},
		{sql: "numeric(12,3)", values: []string{"NaN", "0", "-0.001", "999999999.999"}, text: plain, ops: "order"},
		{sql: "text", values: texts, random: func(r *rand.Rand) string {
			if r.IntN(40) == 0 {
				return digits(r, 200_000) // kept out of line
			}
			return randomText(r)
		}, text: plain, ops: "text"},
		text(`text COLLATE "C"`, "text"), text("varchar(400)", "text"), text(`text COLLATE "en-x-icu"`, "text"), text(`varchar COLLATE "tr-x-icu"`, "text"),
		text(`text COLLATE blind`, "order"), text("citext", "citext"), text("bpchar(9)", "text"), text("name", "text"),
		text(`"char"`, ""), text("label", "text"),
		{sql: "uuid", values: []string{"00000000-0000-0000-0000-000000000000", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "ffffffff-ffff-ffff-ffff-ffffffffffff"}, text: plain, ops: "order"},
		{sql: "timestamptz", values: append([]string{"2000-01-01 24:00:00+00", "1900-01-01 00:00:00-15:59:59", "4714-11-24 00:00:00+00 BC"}, zoned...), random: randomMoment, text: moment, ops: "order"},
		{sql: "timestamptz(0)", values: zoned, random: randomMoment, text: moment, ops: "order"},
		{sql: "timestamp", values: append([]string{"4714-11-24 00:00:00 BC", "0001-01-01 00:00:00.000001"}, moments...), random: randomMoment, text: moment, ops: "order"},
		{sql: "date", values: dates, random: func(r *rand.Rand) string { return randomDay(r, 5_000_000) }, text: moment, ops: "order"},
		{sql: "time", values: []string{"00:00", "24:00:00", "12:34:56.000001"}, random: randomClock, text: plain, ops: "order"},
		{sql: "timetz", values: []string{"00:00+00", "24:00:00-15:59:59", "12:00+02", "10:00+00", "11:00+01", "01:02:03.5+05:30"}, random: func(r *rand.Rand) string {
			return randomClock(r) + fmt.Sprintf("%+03d:%02d", r.IntN(30)-15, r.IntN(60))
		}, text: plain, ops: "order"},
		{sql: "interval", values: []string{"0", "1 mon", "30 days", "720:00:00", "-1 mon 30 days", "1 day -24:00:00", "178000000 years", "-178000000 years", "2562047788:00:54.775807", "-2562047788:00:54.775807", "-00:00:00.000001", "1 year -1 day"}, random: randomSpan, text: plain, ops: "order"},
		{sql: "bytea", values: []string{`\x`, `\x00`, `\x0001`, `\xdeadbeef`, `\x` + strings.Repeat("00ff", 300)}, text: base64Bytes, ops: "order"},
		{sql: "json", values: []string{`null`, `{"a":1,  "a":2}`, `1.10`, `1e400`, `[1 , {"b": "x\u0000y </script>"}]`, `"` + "\u2028" + `"`, `"\ud83d\ude00 é"`, "{\n}", `123456789012345678901234567890`}, text: document, lists: true},
		{sql: "jsonb", values: []string{`null`, `{"b":1,"a":{"c":[1,2,{"d":null}]}}`, `1.10`, `1.1`, `1e300`, `[]`, `{}`, `"<"`, `[1,[1,2],"a",null,true]`, `[[1,2]]`, `"a"`, `{"a":1,"a":2}`, `{"a":[1,2]}`, `{"a":{}}`, `[1,2.50]`, `[2.5]`, `true`, `{"":""}`}, text: document, ops: "json", lists: true},
		{sql: "mood", values: []string{"sad", "ok, fine", "ok; fine", "true", "", "größe", "NULL", "7up"}, text: label, ops: "order"},
		{sql: "positive", values: []string{"1.10", "1e20", "NaN", "Infinity"}, text: plain, ops: "order"},
		{sql: "pair", values: []string{"(,)", `(1,)`, `(,"")`, `(-7,"a ""b"" \\ c,(d)")`, "(2,NULL)", "(3,\"{\n}\")"}, text: pair, fields: "{ a bB }"},
		{
			sql: "nested", fields: "{ p { a bB } list { bB a } m at raw span " + rangeFields + " x }",
			values: []string{
				"(,,,,,,)", `("(1,""x"")","{""(2,y)"",NULL}","ok, fine","2024-02-29 01:02:03+00","\\x00ff","[1,5)","{""a"": 1.10}")`,
				`("(,)","{}","","infinity","\\x",empty,3)`, `(,"{{""(1,a)""},{""(2,\\""b\\"")""}}","größe","0044-03-15 00:00:00+00 BC",,"(,)","[]")`,
			},
			text: composite("p", pair, "list", arrayText(kind{sql: "pair", text: pair}, ","), "m", label, "at", moment, "raw", base64Bytes, "span", intRange, "x", document),
		},
		{sql: "pairs", values: []string{"{}", `{"(1,a)",NULL,"(,)"}`}, text: arrayText(kind{sql: "pair", text: pair}, ","), fields: "{ a bB }"},
		{sql: "int4range", values: []string{"empty", "(,)", "[1,5]"}, random: randomRange(ints...), text: intRange, fields: rangeFields, ops: "range"},
		{sql: "int8range", values: []string{"empty", "[1,9007199254740993)"}, text: rangeText(plain), fields: rangeFields, ops: "range"},
		{sql: "numrange", values: []string{"empty", "[1.10,1.1]", "(,NaN]", "[-Infinity,Infinity)"}, text: rangeText(plain), fields: rangeFields, ops: "range"},
		{sql: "tsrange", random: randomRange(moments...), text: rangeText(moment), fields: rangeFields, ops: "range"},
		{sql: "tstzrange", random: randomRange(zoned...), text: rangeText(moment), fields: rangeFields, ops: "range"},
		{sql: "daterange", values: []string{"[today,)", "(infinity,)", "[,infinity)"}, random: randomRange(dates...), text: rangeText(moment), fields: rangeFields, ops: "range"},
		{sql: "textrange", values: []string{`["",""]`, `["a""b\\c","d, e)"]`, "(,NULL)"}, text: rangeText(plain), fields: rangeFields},
		{sql: "inetrange", values: []string{"[10.0.0.1,10.0.0.9]", "empty"}, text: rangeText(plain), fields: rangeFields},
		{sql: "moodrange", values: []string{`["ok, fine",NULL]`, "empty"}, text: plain},
		{sql: "int4multirange", values: []string{"{}", "{[1,3),[5,)}", "{(,)}"}, random: randomMultirange(randomRange(ints...)), text: multirangeText(intRange), fields: rangeFields, lists: true, ops: "range"},
		{sql: "datemultirange", random: randomMultirange(randomRange(dates...)), text: multirangeText(rangeText(moment)), fields: rangeFields, lists: true, ops: "range"},
		{sql: "nummultirange", values: []string{"{}", "{[1.10,2),(2,3]}"}, text: multirangeText(rangeText(plain)), fields: rangeFields, lists: true, ops: "range"},
		{sql: "hstore", values: []string{"", `a=>1`, `a=>NULL,"b \"c\\"=>"", NULL=>"NULL"`, `"é"=>"=>"`}, text: hstoreText, ops: "hstore"},
	}
	if version >= 170000 {
		out = append(out, kind{sql: "interval(3)", values: []string{"infinity", "-infinity", "178000000 years", "1 day"}, text: plain, ops: "order"})
	}
	for sql, values := range map[string][]string{
		"inet": {"10.0.0.1/8", "::1"}, "cidr": {"10.0.0.0/8"}, "macaddr": {"08:00:2b:01:02:03"}, "macaddr8": {"08:00:2b:01:02:03:04:05"},
		"money": {"$1,234.50", "-$0.01"}, "varbit": {"101", ""}, "bit(3)": {"101"}, "xid8": {"18446744073709551615"}, "xid": {"7"},
		"pg_lsn": {"FFFFFFFF/FFFFFFFF"}, "oid": {"4294967295"}, "regclass": {"pg_class"}, "regtype": {"integer"}, "tsvector": {"'a':1A,2 'b c':3"},
		"tsquery": {"'a' & !'b'"}, "xml": {"<a b=\"c\">é</a>", ""}, "point": {"(1.5,-2)", "(NaN,Infinity)"}, "box": {"(1,1),(0,0)"}, "circle": {"<(0,0),1>"},
		"line": {"{1,2,3}"}, "lseg": {"[(0,0),(1,1)]"}, "path": {"((0,0),(1,1))", "[(0,0),(1,1)]"}, "polygon": {"((0,0),(1,1),(2,0))"},
		"int2vector": {"1 2 3"}, "oidvector": {"1 2"}, "tid": {"(1,2)"}, "jsonpath": {`$."a"[*]`}, "ltree": {"a.b.c", ""}, "lquery": {"a.*"},
		"pg_snapshot": {"10:20:11,12"}, "cid": {"3"},
	} {
		out = append(out, kind{sql: sql, values: values, text: plain})
	}
	return out
}

func multirangeText(one func(json.RawMessage) string) func(json.RawMessage) string {
	return func(v json.RawMessage) string {
		var out []string
		for _, e := range elements(v) {
			out = append(out, one(e))
		}
		return "{" + strings.Join(out, ",") + "}"
	}
}

func hstoreText(v json.RawMessage) string {
	var out []string
	for key, value := range object(v) {
		s := "NULL"
		if !isNull(value) {
			s = quoted(plain(value))
		}
		out = append(out, quoted(key)+"=>"+s)
	}
	return strings.Join(out, ",")
}

// A zooTable is a table of random columns.
type zooTable struct {
	name  string
	kinds []kind
}

func (z *zooTable) column(i int) string { return fmt.Sprintf("c%d", i) }

// zooTables deal all kinds, and arrays and domains of them, to tables in a random order.
func zooTables(r *rand.Rand, version, columns int) []*zooTable {
	kinds := zoo(version)
	for _, k := range zoo(version) {
		if !strings.HasSuffix(k.sql, "vector") && !strings.Contains(k.sql, "COLLATE") && k.sql != "pairs" {
			kinds = append(kinds, arrayOf(k))
		}
	}
	r.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
	var out []*zooTable
	for len(kinds) > 0 {
		n := min(columns, len(kinds))
		out = append(out, &zooTable{name: fmt.Sprintf("cage_%d", len(out)), kinds: kinds[:n]})
		kinds = kinds[n:]
	}
	return out
}

// ddl creates and annotates the table.
func (z *zooTable) ddl(role string) string {
	cols := []string{"id int PRIMARY KEY"}
	for i, k := range z.kinds {
		cols = append(cols, z.column(i)+" "+k.sql)
	}
	return fmt.Sprintf(`CREATE TABLE %[1]s (%[2]s); ALTER TABLE %[1]s REPLICA IDENTITY FULL; GRANT SELECT ON %[1]s TO %[3]s;
		COMMENT ON TABLE %[1]s IS '@subscribe(field: "%[1]s", type: "T%[1]s", rowSecurity: NOT_REQUIRED)'`, z.name, strings.Join(cols, ", "), role)
}

// row gives random values, NULL now and then, as parameters that Postgres reads as text.
func (z *zooTable) row(r *rand.Rand) []any {
	out := make([]any, len(z.kinds))
	for i, k := range z.kinds {
		if r.IntN(8) > 0 {
			out[i] = k.value(r)
		}
	}
	return out
}

// insert is the statement that takes an id and a row.
func (z *zooTable) insert() string {
	values := []string{"$1"}
	for i, k := range z.kinds {
		values = append(values, fmt.Sprintf("$%d::text::%s", i+2, plainType(k.sql)))
	}
	return "INSERT INTO " + z.name + " VALUES (" + strings.Join(values, ", ") + ")"
}

// plainType is the type without a collation.
func plainType(sql string) string {
	sql, _, _ = strings.Cut(sql, " COLLATE")
	return sql
}

func (z *zooTable) selection() string {
	out := "id"
	for i, k := range z.kinds {
		out += " " + z.column(i) + " " + k.fields
	}
	return out
}

func TestTheZooReadsItsOwnText(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`"-000043-03-15T12:00:00Z"`: "0044-03-15T12:00:00Z BC", `"0000-01-01"`: "0001-01-01 BC", `"+010000-01-01"`: "10000-01-01", `"-infinity"`: "-infinity",
	} {
		if got := moment(json.RawMessage(in)); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
