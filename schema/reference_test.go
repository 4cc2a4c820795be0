package schema_test

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

const typesPage = "../docs/types.md"

// An entry is a row of the reference: types, one of them, how Postgres prints a value of it, what
// to select of an object, and what is to be known.
type entry struct {
	names  string
	typ    *schema.Type
	text   string
	fields string
	note   string
}

func made(oid uint32, kind byte, name string, set func(t *schema.Type)) *schema.Type {
	t := &schema.Type{OID: oid, Schema: "public", Name: name, Kind: kind, Delimiter: ','}
	set(t)
	return t
}

// referenceEntries are in the order of the page.
func referenceEntries() []entry {
	rangeOf := func(kind byte, base string) *schema.Type {
		return made(3904, kind, "r", func(t *schema.Type) { t.Base = typ(base) })
	}
	const bounds = " { empty lower upper lowerInclusive upperInclusive }"
	pair := made(40_001, 'c', "address", func(t *schema.Type) {
		t.Fields = []schema.ColumnDef{column("street", typ("text")), column("number", typ("int4"))}
	})
	return []entry{
		{"`boolean`", typ("bool"), "t", "", ""},
		{"`smallint`, `integer`", typ("int4"), "-7", "", ""},
		{"`bigint`", typ("int8"), "9007199254740993", "", "A string: JavaScript's numbers end at 2^53. As an operand a number will do too."},
		{"`real`, `double precision`", typ("float8"), "0.30000000000000004", "", "`NaN`, `Infinity` and `-Infinity` are strings. NaN equals itself and is the greatest, as in SQL."},
		{"`numeric`", typ("numeric"), "1.10", "", "Every digit is kept; `1.10` equals `1.1`."},
		{"`text`, `varchar`, `name`", typ("text"), `say "hi"`, "", "Compared by the column's collation. Under one that is not deterministic there are no `like`, `ilike` and `startsWith`."},
		{"`char(n)`", typ("bpchar"), "ab   ", "", "Padded as stored; padding does not count in `eq`, and counts in `like`, as in SQL."},
		{"`citext`", made(40_002, 'b', "citext", func(*schema.Type) {}), "Ann@example.com", "", "Regards no case, in `like` neither."},
		{"`uuid`", typ("uuid"), "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "", ""},
		{"`timestamptz`", typ("timestamptz"), "2024-02-29 07:04:56.1234+00", "", "In UTC. Years outside 0000 to 9999 by ISO 8601 with a sign; also `infinity`."},
		{"`timestamp`", typ("timestamp"), "2024-02-29 12:34:56", "", "Likewise, without a zone."},
		{"`date`", typ("date"), "0044-03-15 BC", "", "The year 0000 is 1 BC."},
		{"`time`", typ("time"), "24:00:00", "", ""},
		{"`timetz`", typ("timetz"), "12:34:56.5+05:30", "", "By the moment in UTC, then by the offset."},
		{"`interval`", typ("interval"), "1 year 2 mons -3 days +04:05:06.789", "", "Compared with months of 30 days and days of 24 hours, as in SQL."},
		{"`bytea`", typ("bytea"), `\x00ff`, "", "Base64."},
		{"`json`", typ("json"), `{"a": 1,  "a": 1.10}`, "", "As stored, duplicate keys and digits too; blanks around it are not. The null of JSON and the NULL of SQL are both `null`."},
		{"`jsonb`", typ("jsonb"), `{"a": 1.10}`, "", "Likewise. `contains` is `@>`, `eq` compares numbers by value."},
		{"`hstore`", made(40_003, 'b', "hstore", func(*schema.Type) {}), `"a"=>"1", "b"=>NULL`, "", "An object of strings and nulls."},
		{"enums", made(40_004, 'e', "mood", func(t *schema.Type) { t.Labels = []string{"sad", "very sad"} }), "very sad", "", "Labels that are no GraphQL names have underscores for what is not allowed; the schema says which is which. In the order of the labels."},
		{"composite types", pair, `("Main St",7)`, " { street number }", "An object; `@name` and `@omit` hold for its attributes. One whose attributes are all NULL is not NULL itself."},
		{"`int4range`", rangeOf('r', "int4"), "[1,5)", bounds, "A bound that is null is none; `infinity` is a value of dates and times. `contains` is `@>` with an element; on ranges of one's own there is `isNull` alone."},
		{"`int8range`, `numrange`, `daterange`, `tsrange`, `tstzrange`, ranges over other scalars", rangeOf('r', "date"), "[2024-01-01,)", bounds, "`BigIntRange`, `DecimalRange`, `DateRange`, `LocalDateTimeRange`, `DateTimeRange`, … Ranges over enums, composites and arrays are text."},
		{"multiranges", rangeOf('m', "int4"), "{[1,3),[5,)}", bounds, "A list; an empty one is `[]`. `contains` likewise."},
		{"arrays", array(typ("int4")), "{1,NULL,3}", "", "Several dimensions are lists of lists. Lower bounds other than 1 have no place in JSON and are left out. `eq` is of arrays of one dimension that begins at 1; `contains` is `@>`."},
		{"domains", made(40_005, 'd', "positive", func(t *schema.Type) { t.Base = typ("numeric") }), "3", "", "As their base type."},
		{"all others", typ("inet"), "10.0.0.1/8", "", "The text that Postgres prints: `inet`, `cidr`, `macaddr`, `money`, `bit`, `xml`, `tsvector`, `point` and its kin, `ltree`, `oid`, `pg_lsn`, `xid8`, PostGIS, pgvector, … Nothing is lost; Rowtide does not know how they compare."},
	}
}

// TestTypesPageIsThatOfTheCode: the page is written from what the API does.
func TestTypesPageIsThatOfTheCode(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(typesPage)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("\n| PostgreSQL | GraphQL | JSON, for example | Filter operators | |\n|---|---|---|---|---|\n")
	for _, e := range referenceEntries() {
		c := catalog(t, table(1, "things", column("id", typ("int4")), column("v", e.typ)))
		b.WriteString(e.row(t, c) + "\n")
	}
	part := regexp.MustCompile(`(?s)(-update -->\n).*(<!-- end -->)`)
	want := part.ReplaceAllLiteralString(string(page), "-update -->\n"+b.String()+"\n<!-- end -->")
	if *update {
		if err := os.WriteFile(typesPage, []byte(want), 0o644); err != nil { //nolint:gosec // a page of the documentation
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func (e *entry) row(t *testing.T, c *schema.Catalog) string {
	t.Helper()
	sdl := c.Role("reader").SDL()
	graphql := regexp.MustCompile(`(?s)type Thing \{.*?\n  v: (\S+)\n`).FindStringSubmatch(sdl)[1]
	filter := regexp.MustCompile(`(?s)input ThingFilter \{.*?\n  v: (\S+)\n`).FindStringSubmatch(sdl)[1]
	input := regexp.MustCompile(`(?s)\ninput ` + filter + ` \{\n(.*?)\n\}`).FindStringSubmatch(sdl)[1]
	var operators []string
	for _, m := range regexp.MustCompile(`(?m)^  (\w+): `).FindAllStringSubmatch(input, -1) {
		operators = append(operators, "`"+m[1]+"`")
	}
	op := compile(t, c, "subscription { things { row { v"+e.fields+" } } }", "")
	image := cdc.Row{cdc.TextValue("1"), cdc.TextValue(e.text)}
	out, err := op.Selection.Append(nil, &schema.Change{Kind: schema.KindInsert, Key: image, New: image})
	if err != nil {
		t.Fatalf("%s: %v", e.names, err)
	}
	var frame struct {
		Data struct {
			Things struct {
				Row struct{ V json.RawMessage }
			}
		}
	}
	if err := json.Unmarshal(out, &frame); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("| %s | `%s` | `%s` | %s | %s |", e.names, graphql, frame.Data.Things.Row.V, strings.Join(operators, " "), e.note)
}
