package rls

import (
	"strings"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

func testTable(columns ...string) *schema.TableDef {
	t := &schema.TableDef{Name: "t", UTF8: true, Access: map[string]schema.Access{"r": {Builtins: true}}}
	for _, c := range columns {
		name, typ, _ := strings.Cut(c, " ")
		elem, isArray := strings.CutSuffix(typ, "[]")
		of := &schema.Type{Schema: "pg_catalog", Name: elem, Kind: 'b', Delimiter: ','}
		if isArray {
			of = &schema.Type{Schema: "pg_catalog", Name: "_" + elem, Kind: 'b', Delimiter: ',', Elem: of}
		}
		t.Columns = append(t.Columns, schema.ColumnDef{Name: name, Type: of, Deterministic: true, CollationDefault: true})
	}
	return t
}

// formulaOf compiles a condition.
func formulaOf(t *schema.TableDef, s string) (*predicate, error) {
	c := newCompiler(t, "r")
	f, err := c.policy(schema.Policy{Using: s})
	return &predicate{formula: f, memo: c.memo}, err
}

// on evaluates a predicate for one image and principal.
func (p *predicate) on(e *evaluation) datum {
	e.ofPrincipal, e.ofRow = make([]datum, len(p.memo.ofPrincipal)), make([]datum, len(p.memo.ofRow))
	evaluate(e, p.memo.ofPrincipal, e.ofPrincipal)
	evaluate(e, p.memo.ofRow, e.ofRow)
	return p.eval(e)
}

// Each of these could be compiled to another meaning than Postgres's by a compiler that knew less.
func TestWhatIsNotCompiled(t *testing.T) {
	t.Parallel()
	def := testTable("a text", "n int4", "c bpchar", "d text", "g int4", "doc jsonb", "at timestamptz", "x float8")
	def.Columns[3].Deterministic = false
	def.Columns[4].Generated = 's'
	french := def.Columns[0]
	french.Name, french.CollationDefault = "f", false
	def.Columns = append(def.Columns, french)
	for expression, why := range map[string]string{
		`(a < 'b'::text)`: "text < text",
		`(a = c)`:         "type bpchar",
		`(d = 'x'::text)`: "collation of its own",
		`(f = 'x'::text)`: "collation of its own",
		`((a)::character varying(2) = 'x'::text)`: "certain length",
		`(a = ('abc'::text)::name)`:               "casts text to name",
		`(g = 1)`:                                 "generated column",
		`(ctid IS NULL)`:                          "ctid",
		`(SESSION_USER = 'x'::name)`:              "session_user",
		`(at > now())`:                            "now()",
		`(at > (current_setting('a.b'::text))::timestamp with time zone)`: "casts text to timestamptz",
		`('2020-01-01'::date > (a)::date)`:                                "casts text to date",
		`(a = current_setting('TimeZone'::text))`:                         "not a custom one",
		`(a = current_setting('plpgsql.x'::text))`:                        "not a custom one",
		`(a = current_setting(a))`:                                        "not a custom one",
		`(a = current_setting('a..b'::text))`:                             "not a custom one",
		`(a OPERATOR(public.=) 'x'::text)`:                                "operator",
		`(a = 'x'::public.citext)`:                                        "public",
		`(a COLLATE "C" = 'x'::text)`:                                     "collate",
		`(x = (1)::numeric)`:                                              "float8",
		`public.f(a)`:                                                     "cannot be read in place",
		`(upper(a) = 'X'::text)`:                                          "upper",
		`(doc < '{}'::jsonb)`:                                             "jsonb < jsonb",
		`(n IN ( SELECT 1))`:                                              "asks another table",
		`(n > ANY ( SELECT 1))`:                                           "sub-select",
		`(ARRAY( SELECT 1) IS NULL)`:                                      "not read",
		`EXISTS ( SELECT 1)`:                                              "asks another table",
		`(n = ( SELECT 1 FROM x))`:                                        "asks another table",
		`(t.* IS NOT NULL)`:                                               "t.*",
		`(a ~ '\d'::text)`:                                                "notation",
		`(a ~ '.'::text)`:                                                 "the pattern",
		`(a ~ '***=x'::text)`:                                             "the pattern",
		`(a ~ '(?i)x'::text)`:                                             "the pattern",
		`(a ~ 'a$b'::text)`:                                               "the pattern",
		`(a ~ 'x|'::text)`:                                                "the pattern",
		`(a ~ 'x{1}{2}'::text)`:                                           "the pattern",
		`(a ~ 'x{256}'::text)`:                                            "the pattern",
		`(a ~ 'x^y'::text)`:                                               "the pattern",
		`(a ~ '[z-a]'::text)`:                                             "the pattern",
		`(a ~ '[^a]'::text)`:                                              "the pattern",
		`(a ~ '[[:alpha:]]'::text)`:                                       "the pattern",
		`(a ~ a)`:                                                         "not a constant",
		`(a ~~* 'x'::text)`:                                               "~~*",
		`(n = 1) AND`:                                                     "ends too soon",
		`((n = 1)`:                                                        "ends too soon",
		`(n = 1))`:                                                        `")"`,
		`(n)`:                                                             "int4 as bool",
		`(n = $1)`:                                                        "parameter",
		`(a = 'a\b'::text)`:                                               "notation",
		`(a = E'\x41'::text)`:                                             "notation",
		`(a = U&'x')`:                                                     "notation",
		`(a = 'x' /* c */)`:                                               "notation",
		`(n = 1e3)`:                                                       "notation",
		`(n < 1 < true)`:                                                  `"<"`,
		`(n = -1::int2)`:                                                  `"::"`,
		`(a = 'x'::"text")`:                                               "quotes",
		`(("n")::"char" = 'x'::"char")`:                                   "quotes",
		`(doc ->> 1.5) IS NULL`:                                           "->>",
		strings.Repeat("(", 300) + "true" + strings.Repeat(")", 300): "too deep",
		strings.Repeat("true OR ", 4000) + "true":                    "too large",
		strings.Repeat(" ", maxExpression) + "true":                  "too long",
	} {
		_, err := formulaOf(def, expression)
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.80s: %v, want an error with %q", expression, err, why)
		}
	}
}

// Every part is evaluated: where one of them may raise an error, Postgres is asked, even where
// the others seem to decide.
func TestNothingIsDecidedBesideAnError(t *testing.T) {
	t.Parallel()
	def := testTable("a text", "n int4", "b bool", "l text")
	refused := map[string]bool{
		`b OR ((a)::integer = 1)`:                                          true,
		`(NOT b) AND ((a)::integer = 1)`:                                   true,
		`CASE WHEN b THEN true ELSE ((a)::integer = 1) END`:                true,
		`COALESCE(b, ((a)::integer = 1))`:                                  true,
		`(COALESCE('x'::text, (n / 0)::text) = 'x'::text)`:                 true,
		`(n = ANY (ARRAY[1, (a)::integer]))`:                               true,
		`b OR (current_setting('app.none'::text, true) = ''::text)`:        true,
		`b OR (((a)::jsonb ->> 'x'::text) = 'x'::text)`:                    true,
		`b OR (((l)::jsonb ->> 'x'::text) = 'x'::text)`:                    true,
		`b OR ((n + 2147483647) = 0)`:                                      true,
		`b OR (((n)::bigint * '9223372036854775807'::bigint) > 0)`:         true,
		`b OR ((('1'::jsonb) -> 0) IS NULL)`:                               true,
		`b OR ((('1'::json) -> 0) IS NULL)`:                                true,
		`b OR ((('{}'::json) -> 0) IS NULL)`:                               false,
		`b OR ((n)::smallint = 1)`:                                         false,
		`b OR (a = 'x'::text)`:                                             false,
		`(b AND ((current_setting('app.x'::text, true))::integer = 1))`:    false,
		`(((current_setting('app.x'::text, true) || a))::boolean IS NULL)`: true,
	}
	image := cdc.Row{cdc.TextValue("x"), cdc.TextValue("1"), cdc.TextValue("t"), cdc.TextValue(`{"x":{"y":1}}`)}
	for expression, want := range refused {
		f, err := formulaOf(def, expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
			continue
		}
		e := evaluation{image: image, role: "r", settings: []authz.Setting{{Name: "APP.x", Value: "2"}, {Name: "app.X", Value: " 1 "}}}
		d := f.on(&e)
		if e.refused != want || !want && !d.isTrue() {
			t.Errorf("%s: refused %t, want %t; %v", expression, e.refused, want, d)
		}
	}
}

// Labels that the description of the type does not know, and settings that Postgres would not
// take, are for Postgres.
func TestWhatIsNotKnownIsRefused(t *testing.T) {
	t.Parallel()
	def := testTable("k x")
	def.Columns[0].Type = &schema.Type{Schema: "s", Name: "k", Kind: 'e', Labels: []string{"b", "a"}}
	less, err := formulaOf(def, `(k < 'a'::s.k)`)
	if err != nil {
		t.Fatal(err)
	}
	setting, err := formulaOf(def, `(current_setting('app.x'::text) = current_setting('app.x'::text))`)
	if err != nil {
		t.Fatal(err)
	}
	for label, refused := range map[string]bool{"b": false, "c": true} {
		e := evaluation{image: cdc.Row{cdc.TextValue(label)}}
		if d := less.on(&e); e.refused != refused || !refused && !d.isTrue() {
			t.Errorf("label %q: refused %t", label, e.refused)
		}
	}
	for value, refused := range map[string]bool{"ü": false, "a\x00": true, "\xff": true} {
		e := evaluation{settings: []authz.Setting{{Name: "app.x", Value: value}}}
		if d := setting.on(&e); e.refused != refused || !refused && !d.isTrue() {
			t.Errorf("setting %q: refused %t", value, e.refused)
		}
	}
	empty, err := formulaOf(testTable("a text"), `(a = ''::text)`)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []cdc.Value{cdc.AbsentValue(), cdc.UnchangedValue()} {
		e := evaluation{image: cdc.Row{v}}
		if empty.on(&e); !e.refused {
			t.Error("a value that is not known is not refused")
		}
	}
}

// An argument that a function reads twice is evaluated twice: calls within calls must not make
// an evaluation endless.
func TestWorkIsBounded(t *testing.T) {
	t.Parallel()
	def := testTable("n int4")
	def.Functions = []schema.FunctionDef{{Schema: "s", Name: "f", Args: []string{"integer"}, Names: []string{"x"}, Result: "integer", Body: "SELECT x + x", Roles: []string{"r"}}}
	call := "n"
	for range 5 {
		call = "s.f(" + call + ")"
	}
	if _, err := formulaOf(def, "("+call+" = 1)"); err != nil {
		t.Error(err)
	}
	for range 30 {
		call = "s.f(" + call + ")"
	}
	if _, err := formulaOf(def, "("+call+" = 1)"); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("%v", err)
	}
}

func TestFunctionsThatAreNotReadInPlace(t *testing.T) {
	t.Parallel()
	for body, why := range map[string]string{
		"SELECT true":                            "",
		"select true as x ; ":                    "",
		"RETURN true":                            "more than one",
		"SELECT true; SELECT false":              `"select"`,
		"SELECT true WHERE false":                "asks another table",
		"SELECT true LIMIT 0":                    `"limit"`,
		"SELECT true, false":                     "asks another table",
		"SELECT s.g()":                           "cannot be read in place",
		"SELECT n = 1":                           "reads n",
		"SELECT 'x'":                             "literal",
		"SELECT 1":                               "int4 as bool",
		"INSERT INTO x VALUES (1)":               "more than one",
		"SELECT DISTINCT true":                   "",
		"SELECT $1":                              "parameter",
		"SELECT set_config('a.b', 'c', true)=''": "set_config",
	} {
		def := testTable("n int4")
		def.Functions = []schema.FunctionDef{{Schema: "s", Name: "f", Result: "boolean", Body: body, Roles: []string{"r"}}}
		_, err := formulaOf(def, "s.f()")
		if why == "" && err != nil || why != "" && (err == nil || !strings.Contains(err.Error(), why)) {
			t.Errorf("%s: %v, want an error with %q", body, err, why)
		}
	}
	def := testTable("n int4")
	def.Functions = []schema.FunctionDef{{Schema: "s", Name: "f", Result: "boolean", Body: "SELECT true", Roles: []string{"other"}}}
	if _, err := formulaOf(def, "s.f()"); err == nil {
		t.Error("a function that the role may not execute is read in place of its call")
	}
}

func TestNothingIsCompiledWherePostgresIsNotAsUsual(t *testing.T) {
	t.Parallel()
	policies := []schema.Policy{{Name: "p", Permissive: true, Using: "true"}}
	def := testTable("n int4")
	def.Policies = policies
	def.Access["r"] = schema.Access{Builtins: true, Policies: []int{0}}
	if compile(def, "r", nil) == nil {
		t.Error("true is not compiled")
	}
	def.Access["r"] = schema.Access{Policies: []int{0}}
	if compile(def, "r", nil) != nil {
		t.Error("compiled without the right to execute")
	}
	def.Access["r"] = schema.Access{Builtins: true, Policies: []int{0}}
	def.UTF8 = false
	if compile(def, "r", nil) != nil {
		t.Error("compiled for another encoding")
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`((tenant_id)::text = current_setting('app.tenant'::text, true))`, `(a = ANY (ARRAY['x'::text, NULL::text])) AND (NOT (b IS DISTINCT FROM 1.5))`, `CASE n WHEN 1 THEN (doc -> 'a'::text) ->> 'b' ELSE NULL END IS NOT NULL`,
		`(n IN (1, -2)) OR "a b"."c" <> E'\\' --`, `( SELECT s.f($1, n) AS f)`, `COALESCE(NULLIF(a, ''), 'x') = a || b`,
	} {
		f.Add(s)
	}
	def := testTable("a text", "n int4", "b bool", "doc jsonb")
	image := cdc.Row{cdc.TextValue("x"), cdc.TextValue("1"), cdc.TextValue("t"), cdc.TextValue(`{"a":{"b":"c"}}`)}
	f.Fuzz(func(t *testing.T, s string) {
		if n, err := parseBody(s, true); err == nil && n == nil {
			t.Fatal("no body")
		}
		c, err := formulaOf(def, s)
		if err != nil || s == "" { // a policy without an expression adds nothing
			return
		}
		e := evaluation{image: image, role: "r", settings: []authz.Setting{{Name: "app.tenant", Value: s}}}
		if c.typ != "bool" || c.cost > maxFormulas {
			t.Fatalf("a formula of %s that costs %d", c.typ, c.cost)
		}
		if d := c.on(&e); d.null != c.on(&e).null {
			t.Fatal("two answers")
		}
	})
}

func FuzzDocument(f *testing.F) {
	for _, s := range []string{`{"a":[1,-0.0,"\ud83d\ude00"],"a":null}`, ` [ true , false ] `, `"\u0000"`, `1e5`, `-`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := readDocument(s, true); ok && d == nil {
			t.Fatal("no document")
		}
		readArray(&evaluation{}, s, func(_ *evaluation, text string) datum { return datum{s: text} })
	})
}
