package rls_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A grammar writes expressions of what is compiled, and of a little beyond.
type grammar struct{ *rand.Rand }

func (r grammar) pick(of ...string) string { return of[r.IntN(len(of))] }

func (r grammar) text(d int) string {
	if d <= 0 {
		return r.pick("owner", "short", "mail", "'u1'", "'ü'", "''", "'7'", "NULL::text", "label", "kind::text", "current_user::text", "who::text")
	}
	return r.pick(
		r.text(0), "current_setting('app.a')", "current_setting('APP.a', true)", "current_setting('app.b', true)", "nullif("+r.text(d-1)+", "+r.text(d-1)+")",
		"coalesce("+r.text(d-1)+", "+r.text(d-1)+")", "("+r.text(d-1)+" || "+r.text(d-1)+")", r.doc(d-1)+" ->> "+r.key(), r.doc(d-1)+" ->> "+r.key(),
		r.doc(d-1)+" #>> "+r.path(), r.doc(d-1)+" ->> "+r.pick("0", "1", "-1", "n", "2-1"), "CASE WHEN "+r.cond(d-1)+" THEN "+r.text(d-1)+" ELSE "+r.text(d-1)+" END",
		"("+r.num(d-1)+")::text", "app.claim("+r.text(d-1)+")", "app.pair("+r.text(d-1)+", "+r.text(d-1)+")", "(SELECT app.claim('sub'))", "("+r.cond(d-1)+")::text", "price::text",
		"app.email()", "("+r.text(d-1)+")::varchar", "upper("+r.text(d-1)+")", "lower("+r.text(d-1)+")", "app.kept("+r.text(d-1)+")",
		r.pick("trim", "btrim", "ltrim", "rtrim")+"("+r.text(d-1)+")", r.pick("btrim", "ltrim", "rtrim")+"("+r.text(d-1)+", "+r.text(0)+")", "trim(leading '1u' from "+r.text(d-1)+")", "split_part("+r.text(d-1)+", "+r.pick("'u'", "','", "''", "owner")+", "+r.pick("1", "2", "-1", "n", "0", "-7")+")",
		r.pick("left", "right")+"("+r.text(d-1)+", "+r.pick("1", "2", "-1", "n", "0")+")", "app.outer("+r.text(d-1)+")", "jsonb_typeof(docb)", "(string_to_array("+r.text(d-1)+", ','))::text", "initcap("+r.text(d-1)+")",
	)
}

func (r grammar) key() string {
	return r.pick("'sub'", "'n'", "'x'", "'a'", "''", "'ü'", "owner", "NULL::text", "'list'")
}

func (r grammar) path() string {
	return r.pick("'{a,b}'", "'{list,0}'", "'{list,-1}'", "'{list,x}'", "ARRAY['a', owner]", "'{sub}'", "'{a,NULL}'", "'{list,01}'", "'{}'", "'{list,1,b}'")
}

func (r grammar) doc(d int) string {
	if d <= 0 || r.IntN(2) == 0 {
		return r.pick("current_setting('app.doc', true)::json", "current_setting('app.doc', true)::jsonb", "nullif(current_setting('app.doc', true), '')::jsonb", "doc", "docb", "app.jwt()", "coalesce("+r.pick("app.jwt()", "docb")+", docb)")
	}
	return "(" + r.doc(d-1) + r.pick(" -> ", " -> ") + r.pick(r.key(), "0", "-1", "1") + ")"
}

func (r grammar) num(d int) string {
	if d <= 0 {
		return r.pick("n", "count", "small", "big", "id", "0", "1", "-7", "2147483647", "(-32768)::int2", "NULL::int", "length(owner)")
	}
	return r.pick(r.num(0), "("+r.text(d-1)+")::int", "("+r.text(d-1)+")::bigint", "("+r.num(d-1)+r.pick(" + ", " - ", " * ", " / ", " % ")+r.num(d-1)+")", "coalesce("+r.num(d-1)+", n)",
		"(n & "+r.pick("1", "n")+")", "(n | 4)", "nullif("+r.num(d-1)+", 0)", "("+r.num(d-1)+")::"+r.pick("int", "bigint", "smallint"), "app.add("+r.pick("n", "1", "id")+", 1)", "(current_setting('app.n', true))::int", "app.uid()::text::int", "- n",
		"(CASE n WHEN 1 THEN "+r.num(d-1)+" WHEN id THEN 2 ELSE 3 END)")
}

func (r grammar) texts(d int) string {
	return r.pick("names", "'{u1,NULL}'::text[]", "ARRAY[owner, short]", "string_to_array("+r.text(d)+", "+r.pick("','", "''", "label::text", "'u'")+")", "(names || "+r.text(d)+")", "("+r.text(d)+" || names)", "(names || string_to_array("+r.text(d)+", ','))", "ids::text[]", "NULL::text[]")
}

func (r grammar) pattern(d int) string {
	return r.pick("'u%'", "'%1'", "'_1'", "'%u_%'", "'\\%'", "'u\\1'", "'%\\\\%'", "''", "'%'", "'_%_'", "'\\'", "'%ü%'", r.text(d)+" || '%'", r.text(d), "'%' || "+r.text(d)+" || '_'")
}

func (r grammar) regexp() string {
	return r.pick("'^u[0-9]$'", "'^[0-9]{1,10}$'", "'u1|7'", "'(u|x)+1?'", "'^(u1|7)$'", "'[a-u-]{2}'", "'1$'", "'^u'", "'^[0-9a-f]{8}-[0-9a-f]{4}-4'", "'u{1,2}[12]*$'", "'(^u|7$)'", "'ü'", "'.'", "'\\d'", "'[[:digit:]]'", "'u**'", "'a|'", "'^$'", "owner")
}

func (r grammar) part() string {
	return r.pick(`'{"a":1}'::jsonb`, `'{"a":{"b":"u1"}}'::jsonb`, `'{}'::jsonb`, `'[]'::jsonb`, `'"u1"'::jsonb`, `'["u1"]'::jsonb`, `'[1,"u1"]'::jsonb`, `'1'::jsonb`, `'1.0'::jsonb`, `'null'::jsonb`, `'true'::jsonb`, `'{"list":["7"]}'::jsonb`, `'{"list":[{"b":null}]}'::jsonb`, `'{"n":1.5}'::jsonb`, "docb", "app.jwt()", "(docb -> "+r.key()+")", "(app.jwt() -> "+r.key()+")", "(docb -> 'a')")
}

func (r grammar) uuid(d int) string {
	if d <= 0 {
		return r.pick("who", "app.uid()", "(SELECT app.uid())", "'00000000-0000-4000-8000-000000000001'::uuid")
	}
	return "(" + r.text(d-1) + ")::uuid"
}

func (r grammar) compare() string {
	return r.pick(" = ", " = ", " <> ", " IS DISTINCT FROM ", " IS NOT DISTINCT FROM ")
}

func (r grammar) order() string { return r.pick(" = ", " <> ", " < ", " <= ", " > ", " >= ", " != ") }

func (r grammar) cond(d int) string {
	if d > 1 && r.IntN(5) > 1 {
		a, b := r.cond(d-1), r.cond(d-1)
		return "(" + r.pick(a+" AND "+b, a+" OR "+b, "NOT "+a, a+" IS "+r.pick("", "NOT ")+r.pick("TRUE", "FALSE", "UNKNOWN", "NULL"), "CASE WHEN "+a+" THEN "+b+" END", "coalesce("+a+", "+b+")", a+" = "+b) + ")"
	}
	if d <= 0 {
		return r.pick("open", "true", "NULL::bool", "n = 1", "owner <> 'u1'", "docb IS NULL")
	}
	d = min(d, 2)
	return "(" + r.pick(
		"open", "true", "false", "NULL::bool", r.text(d)+r.compare()+r.text(d-1), r.text(d)+r.compare()+r.text(d), r.num(d)+r.order()+r.num(d-1), r.num(d)+r.order()+r.num(d),
		"who"+r.compare()+r.uuid(d), "who"+r.order()+r.uuid(0), "price"+r.order()+r.pick("1.50", "'-0.5'", "n", "price", "("+r.text(1)+")::numeric"),
		"kind"+r.order()+r.pick("'b'", "kind", "(app.claim('x'))::app.kind"), "at"+r.order()+r.pick("'2020-01-01'", "'infinity'", "'2020-06-01 12:30:00.5+02'", "at"), "day"+r.order()+r.pick("'2020-01-01'", "day"), "stamp"+r.order()+"'2020-01-01 10:00'",
		r.text(d)+" IN ('u1', '7', "+r.text(0)+")", r.num(1)+r.pick(" IN ", " NOT IN ")+"(1, 2, n)", r.num(1)+r.pick(" = ANY ", " <> ALL ", " < ANY ", " >= ALL ")+"(list)", "owner = ANY (names)", "who = ANY (ids)", "kind IN ('a', 'c')", "owner <> ALL (ARRAY['u1', NULL, short])",
		r.text(d-1)+" = ANY (string_to_array(current_setting('app.a'), ','))", "n = ANY ((current_setting('app.list', true))::int[])", "owner = ANY ((current_setting('app.list', true))::text[])",
		"("+r.text(d)+")::bool", "("+r.doc(d)+")"+r.pick(" IS NULL", " IS NOT NULL"), r.text(d)+" IS NULL", r.num(d)+" IS NOT NULL", "app.jwt() -> "+r.key()+" ? "+r.text(0), "docb ? "+r.text(0), "current_user = "+r.pick("owner", "'{0}'", "'u1'"),
		"app.mine(owner, n)", "app.open(open)", "app.standard(n)", "owner LIKE 'u%'", "label = current_user", "n BETWEEN "+r.num(d-1)+" AND 3", "EXISTS (SELECT FROM app.other WHERE x = n)", r.text(d)+r.pick(" LIKE ", " NOT LIKE ")+r.pattern(d-1), r.text(1)+" LIKE "+r.pattern(0), r.texts(d-1)+r.pick(" @> ", " <@ ", " && ", " = ", " <> ", " IS DISTINCT FROM ")+r.texts(d-1),
		"list"+r.pick(" @> ", " <@ ", " && ", " = ")+r.pick("'{1}'", "'{}'", "'{1,NULL}'", "'{0,2}'", "list", "ARRAY[n, id]"), r.part()+r.pick(" @> ", " <@ ", " = ", " <> ", " @> ")+r.part(), "docb"+r.pick(" ?| ", " ?& ")+r.texts(0), "docb = ANY (ARRAY["+r.part()+", '{\"a\":1}'])",
		"cardinality("+r.texts(0)+")"+r.order()+"1", "starts_with("+r.text(d)+", "+r.text(0)+")", "strpos("+r.text(d)+", "+r.text(0)+") = "+r.pick("0", "1", "2"), "app.whole({t}.*)", "app.nested(owner, n)", "owner ILIKE 'U%'", "app.likes("+r.text(d-1)+")", "at > now()", "docb @> '{\"a\":1}'", "app.path('7')", r.text(d)+r.pick(" ~ ", " !~ ")+r.regexp(), "CASE WHEN owner ~ '^[0-9]{1,9}$' THEN owner::int = 7 END",
	) + ")"
}

// compiledWorld is a table of every type that is compiled, and functions as people write them.
const compiledWorld = `CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO {0}, {1}; CREATE TYPE app.kind AS ENUM ('b', 'a', 'c');
CREATE DOMAIN app.mail AS varchar(9) CHECK (value <> 'no'); CREATE DOMAIN app.count AS int; CREATE TABLE app.other (x int); INSERT INTO app.other VALUES (1); GRANT SELECT ON app.other TO {0};
CREATE FUNCTION app.jwt() RETURNS jsonb LANGUAGE sql STABLE AS $$ select coalesce(nullif(current_setting('app.doc2', true), ''), nullif(current_setting('app.doc', true), ''))::jsonb $$;
CREATE FUNCTION app.claim(k text) RETURNS text LANGUAGE sql STABLE AS $$
  SELECT nullif(current_setting('app.doc', true), '')::json ->> k -- the claim
$$;
CREATE FUNCTION app.email() RETURNS varchar LANGUAGE sql STABLE RETURN (current_setting('app.doc')::jsonb ->> 'x')::varchar;
CREATE FUNCTION app.pair(a text, text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$ select case when a = $2 then 'same' when pair.a <> 'u1' or not $2 = '' and $2 is not null then a || '/' || $2 end $$;
CREATE FUNCTION app.kept(a text) RETURNS text LANGUAGE sql IMMUTABLE STRICT AS $$ select coalesce(nullif(a, 'u1'), 'none') $$;
CREATE FUNCTION app.add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ select a + b * 2 - -1 $$;
CREATE FUNCTION app.uid() RETURNS uuid LANGUAGE sql STABLE AS $$ select coalesce(nullif(current_setting('app.sub', true), ''), nullif(current_setting('app.doc', true), '')::jsonb->>'sub')::uuid $$;
CREATE FUNCTION app.mine(o text, i int) RETURNS bool LANGUAGE sql STABLE SET search_path = '' AS $$ SELECT o in ('u1', 'u2') and i > 0 or i is null and not o = 'u1' or i = 2 and o is distinct from 'u2' $$;
CREATE FUNCTION app.open(o bool) RETURNS bool LANGUAGE sql VOLATILE AS $$ select o is not false $$;
CREATE FUNCTION app.standard(n int) RETURNS bool LANGUAGE sql STABLE BEGIN ATOMIC SELECT n = 1 OR current_user = 'nobody'; END;
CREATE FUNCTION app.path(k text) RETURNS bool LANGUAGE sql SECURITY DEFINER AS $$ select current_user = k $$;
CREATE FUNCTION app.outer(k text) RETURNS text LANGUAGE sql STABLE AS $$ select app.claim(app.kept(k)) || trim(' x ') $$;
CREATE FUNCTION app.nested(o text, n int) RETURNS bool LANGUAGE sql STABLE RETURN o = app.outer('sub') OR app.add(n, 1) > 3;
CREATE FUNCTION app.likes(o text) RETURNS bool LANGUAGE sql STABLE AS $$ select o like 'u%' and not o not like '_' || '%1' or o in ('7') $$;
CREATE TABLE t (id int, owner text, short varchar(20), label name, n int, small int2, big int8, price numeric(12,3), open bool, who uuid, kind app.kind, at timestamptz, day date, stamp timestamp, doc json, docb jsonb, list int[], names text[], ids uuid[], mail app.mail, count app.count);
`

// compiledTables are as many as there are names: the catalog is read once for all of them.
const compiledTables = `CREATE TABLE {t} (LIKE t); ALTER TABLE {t} ENABLE ROW LEVEL SECURITY; GRANT SELECT ON {t} TO {0}, {1};
CREATE FUNCTION app.whole(r {t}) RETURNS bool LANGUAGE sql STABLE AS $$ select r.owner = app.claim('sub') or r.n = 1 and r.open $$;`

// several are the names of tables whose policies are made, read and judged together.
var several = []string{"t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7"}

// forEach is SQL for each of several tables, which it calls {t}.
func forEach(sql string) string {
	var all strings.Builder
	for _, name := range several {
		all.WriteString(strings.ReplaceAll(sql, "{t}", name))
	}
	return all.String()
}

// bare has a table's rows and policies go.
const bare = `TRUNCATE {t}; DO $$ DECLARE p name; BEGIN FOR p IN SELECT polname FROM pg_policy WHERE polrelid = '{t}'::regclass LOOP EXECUTE format('DROP POLICY %I ON {t}', p); END LOOP; END $$;`

// create makes policies, each a sentence that begins with "CREATE POLICY", as far as they have types; it gives those.
func (w *world) create(t *testing.T, table string, policies []string) string {
	t.Helper()
	var made strings.Builder
	for _, policy := range policies {
		policy = strings.ReplaceAll(w.fill(policy), "{t}", table)
		if _, err := w.admin.Exec(t.Context(), "SET search_path = public; "+policy).ReadAll(); err == nil {
			made.WriteString(policy + ";\n")
		}
	}
	w.run(t, "SET search_path = pg_catalog")
	return made.String()
}

var documents = []string{
	``, `{}`, `null`, `[]`, `"u1"`, `7`, `{"sub":"00000000-0000-4000-8000-000000000001","n":1,"x":"u1","a":{"b":"u1"},"list":["u1",{"b":null},"7"]}`, `{"sub":null,"n":"1","x":["u1"],"list":"u1"}`,
	`{"sub":"u1","sub":"7","n":1.0,"a":{"b":1},"a":{"c":2}}`, `{"n":1.50e1,"x":"7"}`, `{"n":-0,"x":-0.0,"sub":"00000000-0000-4000-8000-00000000000A"}`, `{"x":"\u00fc","":"u1","ü":"\ud83d\ude00"}`,
	`{"x":"\u0000"}`, `{"x":"\ud800"}`, `{"x":"u1`, ` { "x" : "u1" , "n" : [ ] } `, `{"x":true,"n":false,"sub":{}}`, `["u1","7",null]`, `[{"x":"u1"}]`, `{"x":1e400000}`, `{"x":01}`, `{"x":"a` + "\t" + `b"}`, `nul`, `{"x":null,}`,
	`{"n":99999999999,"x":" 7 ","sub":"{00000000-0000-4000-8000-000000000001}"}`, `{"n":"+7","x":"yes","sub":"1"}`, `{"x":"` + strings.Repeat("u", 5000) + `"}`, strings.Repeat("[", 300) + strings.Repeat("]", 300),
	`{"x":123456789012345678901234567890.10,"n":"0x1"}`, `{"x":"\/\b\"\\","n":""}`, `{"list":[1,"7",[true]],"x":"t"}`,
}

func (r grammar) principal(w *world) *authz.Principal {
	doc := documents[r.IntN(len(documents))]
	if r.IntN(3) == 0 {
		doc = documents[6]
	}
	return authz.NewPrincipal(w.names[r.IntN(2)], "x", []authz.Setting{
		{Name: "app.doc", Value: doc},
		{Name: "app.doc2", Value: r.pick("", "", "", `{"x":"u2"}`)},
		{Name: "App.A", Value: r.pick("", "u1", "7", "u1,7", "ü", "' OR true --")},
		{Name: "app.b", Value: r.pick("", "u1", "-3", "{")},
		{Name: "app.sub", Value: r.pick("", "", "00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-00000000000a", "u1")},
		{Name: "app.n", Value: r.pick("1", "2", " 1 ", "1", "", "x", "99999999999")},
		{Name: "app.list", Value: r.pick("{}", "{1,2}", "{1,NULL}", `{"u1",u2}`, "", "{{1}}", "{ 1 }", "1,2", `{"a\"b",null}`)},
	}, noExpiry)
}

func (r grammar) row() []string {
	return []string{
		r.pick("0", "1", "2"), r.pick("'u1'", "'u2'", "'7'", "''", "NULL", "'ü'", "'1'", "'t'", `E'"\\'`), r.pick("'u1'", "'7'", "NULL", "'u '"), r.pick("'u1'", "'x'", "NULL"), r.pick("0", "1", "2", "NULL", "-2147483648"), r.pick("-32768", "1", "NULL"),
		r.pick("1", "9223372036854775807", "NULL", "-9223372036854775808"), r.pick("1.5", "0", "-0.5", "'NaN'", "NULL", "1"), r.pick("true", "false", "NULL"), r.pick("'00000000-0000-4000-8000-000000000001'", "'00000000-0000-4000-8000-00000000000A'", "NULL"), r.pick("'a'", "'b'", "'c'", "NULL"),
		r.pick("'2020-01-01'", "'infinity'", "'2020-06-01 10:30:00.5Z'", "'0044-03-15 BC'", "NULL"), r.pick("'2020-01-01'", "'2021-01-01'", "'-infinity'", "NULL"), r.pick("'2020-01-01 10:00'", "'2019-01-01'", "NULL"),
		r.pick(`'{"a":{"b":"u1"},"x":"7"}'`, `'{"a":1,"a":2}'`, "NULL", `'"u1"'`, `'[1]'`), r.pick(`'{"a":1,"x":"u1"}'`, "NULL", `'["u1",1]'`, `'"u1"'`, `'{"n":1.50}'`), r.pick("'{}'", "'{1,NULL}'", "'{0,2}'", "NULL", "'{{5},{6}}'", "'[0:1]={1,2}'"),
		r.pick("'{}'", `'{u1,"a,b",NULL,"NULL","x\"y"}'`, "NULL", "'{7}'"), r.pick("NULL", "'{00000000-0000-4000-8000-000000000001}'"), r.pick("'u1'", "'7'", "NULL"), r.pick("1", "7", "NULL"),
	}
}

// seed is of ROWTIDE_TEST_SEED, or new.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := uint64(time.Now().UnixNano())
	if env := os.Getenv("ROWTIDE_TEST_SEED"); env != "" {
		var err error
		if s, err = strconv.ParseUint(env, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ROWTIDE_TEST_SEED=%d", s)
	return s
}

func decisions(t *testing.T) int {
	t.Helper()
	n := 20000
	if env := os.Getenv("ROWTIDE_TEST_DECISIONS"); env != "" {
		var err error
		if n, err = strconv.Atoi(env); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// TestCompiledPoliciesAgreeWithPostgres compares policies that are compiled, and that never ask
// Postgres in process, with those that Postgres evaluates over the image; one image of each round
// also with a real SELECT. ROWTIDE_TEST_SEED replays a run, ROWTIDE_TEST_DECISIONS makes it longer.
func TestCompiledPoliciesAgreeWithPostgres(t *testing.T) {
	t.Parallel()
	r := grammar{rand.New(rand.NewPCG(seed(t), 2))}
	world := compiledWorld
	if r.IntN(2) == 0 { // principals are told apart where no column is of a domain
		world = strings.Replace(world, "mail app.mail, count app.count", "mail varchar(9), count int", 1)
	}
	w := newWorld(t, 2, world+forEach(compiledTables))
	c := &compiledCheck{world: w, r: r, compiler: w.newJudge(t, func(c *rls.Config) { c.Compile = true }), batch: 10, people: 24}
	most := decisions(t)
	if most > 100_000 { // at night: new policies are dear, images and principals are not
		c.batch, c.people = 40, 40
	}
	for c.inProcess < most {
		c.rounds(t)
	}
	t.Logf("%d sets of policies, %d of them compiled, %d decisions in process, %d images visible, %d narrowed away", c.all, c.compiled, c.inProcess, c.visible, c.narrowed)
	if c.visible*20 < c.inProcess || c.compiled < 20 || c.narrowed < c.inProcess/100 {
		t.Error("the policies are too much alike")
	}
}

// A compiledCheck holds policies that are compiled against Postgres.
type compiledCheck struct {
	*world
	r        grammar
	compiler *rls.Postgres

	batch, people                               int // images and principals of a round
	all, compiled, inProcess, visible, narrowed int
}

// rounds makes policies and rows for several tables, and judges them.
func (c *compiledCheck) rounds(t *testing.T) {
	t.Helper()
	var sql strings.Builder
	sql.WriteString(forEach(bare))
	for _, table := range several {
		for range c.batch {
			fmt.Fprintf(&sql, "INSERT INTO %s VALUES (%s);", table, strings.Join(c.r.row(), ", "))
		}
	}
	c.exec(t, sql.String())
	made := map[string]string{}
	for _, table := range several {
		var policies []string
		for i := range 1 + c.r.IntN(3) {
			kind := ""
			if i > 0 {
				kind = c.r.pick("", "AS RESTRICTIVE")
			}
			policies = append(policies, fmt.Sprintf("CREATE POLICY p%d ON {t} %s USING (%s)", i, kind, c.r.cond(1+c.r.IntN(3))))
		}
		made[table] = c.create(t, table, policies)
	}
	tables := c.load(t, "public")
	for _, table := range several {
		if made[table] == "" {
			continue
		}
		if c.round(t, tables[table]); t.Failed() {
			t.Fatal(made[table])
		}
	}
}

// round judges the rows of a table for some principals.
func (c *compiledCheck) round(t *testing.T, tab *schema.Table) {
	t.Helper()
	c.all++
	images, places := c.rows(t, tab)
	who := make([]*authz.Principal, c.people)
	for i := range who {
		who[i] = c.r.principal(c.world)
	}
	if ways := c.compiler.Ways(tab, c.names[0]); len(ways) == 0 || ways[0].Way != "compiled" {
		who = who[:8]
		want := c.ask(t, tab, images, who...)
		for i, got := range c.askOf(t, c.compiler, tab, images, who...) { // some of whom the policies cannot tell apart
			if !slices.Equal(got, want[i]) {
				t.Errorf("as %s %v: verdicts %v, %v of Postgres", who[i].Role, who[i].Settings, got, want[i])
			}
		}
		c.narrowed += narrows(t, c.compiler, tab, images, who, want)
		return
	}
	c.compiled++
	want, got := c.ask(t, tab, images, who...), c.askOf(t, c.compiler, tab, images, who...)
	// Without a transaction nothing is asked: what is decided is decided in process.
	alone, err := c.compiler.Judge(t.Context(), authz.Question{Table: tab, Images: images, Principals: who})
	if err != nil {
		t.Fatal(err)
	}
	for i := range who {
		for k := range images {
			if got[i][k] != want[i][k] || alone[i][k] != want[i][k] && alone[i][k] != authz.Undecided {
				t.Errorf("as %s %v, row %v: verdict %d, %d in process, %d of Postgres", who[i].Role, who[i].Settings, images[k], got[i][k], alone[i][k], want[i][k])
			}
			if alone[i][k] != authz.Undecided {
				c.inProcess++
			}
			if want[i][k] == authz.Visible {
				c.visible++
			}
		}
	}
	c.narrowed += narrows(t, c.compiler, tab, images, who, want)
	k, i := c.r.IntN(len(places)), c.r.IntN(len(who))
	if truth := c.truth(t, tab, places[k:k+1], who[i]); (truth[0] == "t") != (got[i][k] == authz.Visible) {
		t.Errorf("as %s %v, row %v: verdict %d, SELECT says %s", who[i].Role, who[i].Settings, images[k], got[i][k], truth[0])
	}
}

// narrows checks that what is visible meets the equalities by which subscriptions are found, and
// gives how many images do not meet them.
func narrows(t *testing.T, g *rls.Postgres, tab *schema.Table, images []cdc.Row, who []*authz.Principal, want [][]authz.Verdict) int {
	t.Helper()
	n := 0
	for i, p := range who {
		equalities := g.Narrow(tab, p)
		for k, image := range images {
			for _, q := range equalities {
				if v := image[q.Column]; v.Kind() == cdc.Text && slices.Contains(q.Values, v.Text()) {
					continue
				}
				n++
				if want[i][k] == authz.Visible {
					t.Errorf("as %s %v, row %v is visible, and column %d not among %q", p.Role, p.Settings, image, q.Column, q.Values)
				}
				break
			}
		}
	}
	return n
}
