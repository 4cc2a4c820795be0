package schema_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

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

// Covers C90, C91, C92, C94, C95, C96, C97, C100, C101.
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
			if s.sql == "int8" && got[0] != '"' {
				t.Errorf("%s: %s is a number of JSON, which JavaScript would round", s.name, got)
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
