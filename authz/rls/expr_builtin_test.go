package rls

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// corners are values at which functions of text and integers differ if they differ anywhere.
var corners = struct{ texts, ints, docs, lists []string }{
	texts: []string{"", "a", "A1", "a,b,,c", ",", "üx", "  a ", `\`, `a\`, "%", "a_%", "ab ab", "7"},
	ints:  []string{"0", "1", "2", "-1", "-2", "5", "-5", "2147483647", "-2147483648"},
	docs: []string{
		`{}`, `[]`, `null`, `1`, `1.0`, `"a"`, `["a"]`, `[["a"]]`, `["a", 1, null]`, `{"a": 1}`, `{"a": 1.0, "b": {"a": "a"}}`, `{"a": ["a", 7], "7": true}`, `[{"a": 1}, {"b": {}}]`, `[1.0, [1]]`, `{"a": {}}`, `{"a": []}`, `true`, `[true, {}]`,
	},
	lists: []string{`{}`, `{a}`, `{a,NULL}`, `{NULL}`, `{"",a,A1}`, `{a,a}`, `{7,"a,b,,c"}`},
}

// builtins are expressions of each function and operator that is compiled, over two texts a and b,
// an integer n, documents d and e, and lists l and m.
var builtins = []string{
	"length(a)", "btrim(a)", "ltrim(a)", "rtrim(a)", "btrim(a, b)", "ltrim(a, b)", "rtrim(a, b)", "TRIM(BOTH FROM a)", "TRIM(LEADING b FROM a)", "TRIM(TRAILING FROM a)", "starts_with(a, b)", "strpos(a, b)",
	"split_part(a, b, n)", "split_part(a, ','::text, n)", "split_part(a, ''::text, n)", `"left"(a, n)`, `"right"(a, n)`, "lower(a)", "upper(a)", "(a ~~ b)", "(a !~~ b)", "(a ~~ (b || '%'::text))", "(a ~~ ('%'::text || b))", "(a ~~ '_'::text)", "(a ~~ '%_%a%'::text)", `(a ~~ E'\\\\'::text)`, `(a ~~ E'%\\%'::text)`, `(a ~~ E'\\a'::text)`,
	"string_to_array(a, b)", "string_to_array(a, ','::text)", "(a || b)", "(l || a)", "(a || l)", "(l || m)", "(l @> m)", "(l <@ m)", "(l && m)", "(l = m)", "(l <> m)", "(l IS DISTINCT FROM m)", "cardinality(l)", "(a = ANY (l))", "(a <> ALL (l))", "(a = ALL (l))", "(a <> ANY (l))",
	"(d @> e)", "(d <@ e)", "(d = e)", "(d <> e)", "(d ? a)", "(d ?| l)", "(d ?& l)", "(d -> a)", "(d ->> a)", "(d -> n)", "(d ->> n)", "(d #> l)", "(d #>> l)", "jsonb_typeof(d)", "((d -> a) @> e)",
	"(a ~ '^[a-c]+(,|$)'::text)", "(a !~ '^[A-Z][0-9]?$'::text)", "(a ~ '(ab )?ab$'::text)", "(a ~ 'a{2,}|^ '::text)", "(n + n)", "(n - 7)", "(n * n)", "(n / 2)", "(n % 3)", "(n & 6)", "(n | 6)", "(7 / n)", "(n % n)", "(n)::text", "(n)::smallint", "(a)::integer", "(a)::bigint", "(a)::numeric", "(a)::boolean", "(a)::uuid",
	"NULLIF(a, b)", "COALESCE(NULLIF(a, b), 'none'::text)", "CASE a WHEN b THEN 1 ELSE n END", "(a IS DISTINCT FROM b)", "(n = ANY (ARRAY[1, n, NULL::integer]))", "((n > 1) AND (a = b))", "((n > 1) OR (a = b))", "(NOT ((NULLIF(n, 1) > 1) OR (NULLIF(a, b) = 'a'::text)))",
}

// TestEachBuiltinGivesWhatPostgresGives compares every function and operator that is compiled with
// Postgres, on values at the corners and on NULL. On what is not refused Postgres raises no error.
func TestEachBuiltinGivesWhatPostgresGives(t *testing.T) {
	t.Parallel()
	def := testTable("id int4", "a text", "b text", "n int4", "d jsonb", "e jsonb", "l text[]", "m text[]")
	def.UsualCase = true
	images := cornerImages()
	db := pgtest.New(t, "CREATE TABLE t (id int PRIMARY KEY, a text, b text, n int, d jsonb, e jsonb, l text[], m text[])")
	rows, err := json.Marshal(images)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "INSERT INTO t SELECT (r ->> 0)::int, r ->> 1, r ->> 2, (r ->> 3)::int, (r ->> 4)::jsonb, (r ->> 5)::jsonb, (r ->> 6)::text[], (r ->> 7)::text[] FROM jsonb_array_elements("+literal(string(rows))+"::jsonb) r")
	for _, text := range builtins {
		c := newCompiler(def, "r")
		n, err := parseExpression(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		f, err := c.compile(n)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		compareWithPostgres(t, db, text, &predicate{formula: f, memo: c.memo}, images)
	}
}

// cornerImages are the products of texts and integers, and of documents and lists.
func cornerImages() [][]*string {
	var out [][]*string
	add := func(a, b, n, d, e, l, m string) {
		id := fmt.Sprint(len(out))
		out = append(out, []*string{&id, &a, &b, &n, &d, &e, &l, &m})
	}
	at := func(of []string, i int) string { return of[i%len(of)] }
	for i, a := range corners.texts {
		for k, b := range corners.texts {
			for x, n := range corners.ints {
				add(a, b, n, at(corners.docs, i+x), at(corners.docs, k), at(corners.lists, i), at(corners.lists, k))
			}
		}
	}
	for i, d := range corners.docs {
		for k, e := range corners.docs {
			for x, l := range corners.lists {
				add(at(corners.texts, i+x), at(corners.texts, k), at(corners.ints, x), d, e, l, at(corners.lists, i+k))
			}
		}
	}
	for i := range 40 { // each column NULL in turn
		row := append([]*string(nil), out[i*29]...)
		id := fmt.Sprint(len(out))
		row[0], row[1+i%7] = &id, nil
		out = append(out, row)
	}
	return out
}

func compareWithPostgres(t *testing.T, db *pgtest.DB, text string, p *predicate, images [][]*string) {
	t.Helper()
	got := map[string]string{}
	var ids []string
	for _, row := range images {
		image := make(cdc.Row, len(row))
		for i, v := range row {
			if v != nil {
				image[i] = cdc.TextValue(*v)
			}
		}
		e := evaluation{image: image}
		d := p.on(&e)
		if e.refused {
			continue
		}
		ids = append(ids, *row[0])
		got[*row[0]] = shown(t, p.typ, d)
	}
	if len(ids) == 0 {
		t.Errorf("%s: no row is decided", text)
		return
	}
	query := "SELECT coalesce(jsonb_object_agg(id, to_jsonb(" + text + ")), '{}')::text FROM t WHERE id IN (" + strings.Join(ids, ",") + ")"
	var want map[string]json.RawMessage
	if err := json.Unmarshal([]byte(pgtest.One[string](t, db, query)), &want); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	wrong := 0
	for id, w := range want {
		if normal(t, w) != normal(t, json.RawMessage(got[id])) {
			if wrong++; wrong <= 3 {
				t.Errorf("%s of row %s: %s, want %s", text, id, got[id], w)
			}
		}
	}
}

// normal is JSON with its objects in order and its numbers as they are compared.
func normal(t *testing.T, text json.RawMessage) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// shown is a value as to_jsonb writes it.
func shown(t *testing.T, typ string, d datum) string {
	t.Helper()
	var v any
	switch {
	case d.null:
	case typ == "bool":
		v = d.i != 0
	case isInt(typ):
		v = d.i
	case typ == "numeric":
		v = json.Number(d.s)
	case typ == "jsonb":
		return shownDocument(t, d.doc)
	case isArray(typ):
		list := []*string{}
		for _, e := range d.list {
			if e.null {
				list = append(list, nil)
				continue
			}
			list = append(list, &e.s)
		}
		v = list
	default:
		v = d.s
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func shownDocument(t *testing.T, d *document) string {
	t.Helper()
	var parts []string
	switch d.kind {
	case 's':
		return shown(t, "text", datum{s: d.text})
	case 'a':
		for _, i := range d.items {
			parts = append(parts, shownDocument(t, i))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case 'o':
		for k, f := range d.fields {
			parts = append(parts, shown(t, "text", datum{s: k})+":"+shownDocument(t, f))
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	return d.text
}
