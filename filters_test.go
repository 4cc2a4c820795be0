package rowtide_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A whereCase is a condition in the API and in SQL.
type whereCase struct {
	table    *zooTable
	api, sql string
}

// A wheres makes random conditions on a table, with operands that its rows have.
type wheres struct {
	r     *rand.Rand
	table *zooTable
	rows  []map[string]json.RawMessage
}

func sqlText(s string) string {
	if !strings.Contains(s, `\`) {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return " E'" + strings.NewReplacer("'", "''", `\`, `\\`).Replace(s) + "'"
}

// condition is one of at most that depth.
func (w *wheres) condition(depth int) (api, sql string) {
	if depth > 0 {
		switch n := w.r.IntN(6); {
		case n == 0:
			a, s := w.condition(depth - 1)
			return `{"not":` + a + `}`, "NOT (" + s + ")"
		case n < 3:
			return w.several("and", " AND ", "true", depth-1)
		case n == 3:
			return w.several("or", " OR ", "false", depth-1)
		}
	}
	for {
		i := w.r.IntN(len(w.table.kinds))
		// Text is where most can go wrong.
		if k := w.table.kinds[i]; k.ops != "text" && k.ops != "citext" && !strings.Contains(k.sql, "COLLATE") && w.r.IntN(4) > 0 {
			continue
		}
		if api, sql, ok := w.leaf(i); ok {
			return fmt.Sprintf(`{"%s":%s}`, w.table.column(i), api), "(" + sql + ")"
		}
	}
}

func (w *wheres) several(name, word, empty string, depth int) (string, string) {
	var api, sql []string
	for range w.r.IntN(4) {
		a, s := w.condition(depth)
		api, sql = append(api, a), append(sql, s)
	}
	if len(sql) == 0 {
		sql = []string{empty}
	}
	return `{"` + name + `":[` + strings.Join(api, ",") + `]}`, "(" + strings.Join(sql, word) + ")"
}

var operatorsOf = map[string][]string{
	"":       {"isNull"},
	"equal":  {"isNull", "eq", "ne", "in", "notIn"},
	"order":  {"isNull", "eq", "ne", "in", "notIn", "lt", "lte", "gt", "gte"},
	"text":   {"eq", "ne", "in", "notIn", "lt", "lte", "gt", "gte", "like", "ilike", "startsWith", "ilike"},
	"citext": {"eq", "ne", "in", "notIn", "lt", "lte", "gt", "gte", "like", "ilike"},
	"list":   {"isNull", "eq", "ne", "in", "notIn", "contains", "contains"},
	"json":   {"isNull", "eq", "ne", "in", "notIn", "contains", "contains", "contains"},
	"hstore": {"isNull", "eq", "ne", "in", "notIn", "contains", "contains"},
	"range":  {"isNull", "contains", "contains", "contains"},
}

var sqlOperators = map[string]string{
	"eq": "=", "ne": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">=", "contains": "@>", "like": "LIKE", "ilike": "ILIKE",
}

// leaf is a condition on a column; false where none came to mind.
func (w *wheres) leaf(i int) (api, sql string, ok bool) {
	k, c := w.table.kinds[i], w.table.column(i)
	ops := operatorsOf[k.ops]
	op := ops[w.r.IntN(len(ops))]
	typ := plainType(k.sql)
	if k.ops == "range" {
		typ = elementOf[k.sql]
	}
	switch op {
	case "isNull":
		if w.r.IntN(2) == 0 {
			return `{"isNull":true}`, c + " IS NOT DISTINCT FROM NULL", true
		}
		return `{"isNull":false}`, c + " IS DISTINCT FROM NULL", true
	case "like", "ilike", "startsWith":
		p := w.pattern(i)
		text, _ := json.Marshal(p)
		if op == "startsWith" {
			return `{"startsWith":` + string(text) + `}`, "starts_with(" + c + "::text, " + sqlText(p) + ")", true
		}
		return fmt.Sprintf(`{%q:%s}`, op, text), c + " " + sqlOperators[op] + " " + sqlText(p), true
	case "in", "notIn":
		var items, values []string
		for range w.r.IntN(4) {
			if a, s, ok := w.operand(i, op); ok {
				items, values = append(items, a), append(values, "("+c+" = "+sqlText(s)+"::"+typ+")")
			}
		}
		// A list of arrays would be an array of two dimensions in SQL, so it is said with OR.
		sql := "false"
		if len(values) > 0 {
			sql = strings.Join(values, " OR ")
		}
		if op == "notIn" {
			sql = "NOT (" + sql + ")"
		}
		return fmt.Sprintf(`{%q:[%s]}`, op, strings.Join(items, ",")), sql, true
	}
	a, s, ok := w.operand(i, op)
	return fmt.Sprintf(`{%q:%s}`, op, a), c + " " + sqlOperators[op] + " " + sqlText(s) + "::" + typ, ok
}

var elementOf = map[string]string{
	"int4range": "int4", "int8range": "int8", "numrange": "numeric", "tsrange": "timestamp", "tstzrange": "timestamptz", "daterange": "date",
	"int4multirange": "int4", "nummultirange": "numeric", "datemultirange": "date",
}

// bound takes a bound of a range, or of one in a multirange.
func (w *wheres) bound(v json.RawMessage, k kind) (api, text string, ok bool) {
	if k.lists {
		list := elements(v)
		if len(list) == 0 {
			return "", "", false
		}
		v = list[w.r.IntN(len(list))]
	}
	b := object(v)[[]string{"lower", "upper"}[w.r.IntN(2)]]
	if isNull(b) {
		return "", "", false
	}
	switch elementOf[k.sql] {
	case "int4":
		return string(b), bare(b), true
	case "int8", "numeric":
		return string(b), plain(b), true
	}
	return string(b), moment(b), true
}

// pattern is one that a row's value is near to, or any.
func (w *wheres) pattern(i int) string {
	if v := w.rows[w.r.IntN(len(w.rows))][w.table.column(i)]; !isNull(v) && len(v) < 200 && w.r.IntN(2) == 0 {
		s := strings.NewReplacer(`\`, `\\`, "%", `\%`).Replace(plain(v))
		return []func(string) string{strings.ToUpper, strings.ToLower, strings.TrimSpace}[w.r.IntN(3)](s) + []string{"", "%"}[w.r.IntN(2)]
	}
	alphabet := []string{"a", "B", "A", "ab", "%", "%", "_", `\%`, `\_`, `\\`, "ä", "Ä", "ß", "İ", "I", "ı", "日", "😀", " "}
	var b strings.Builder
	for range w.r.IntN(5) {
		b.WriteString(alphabet[w.r.IntN(len(alphabet))])
	}
	return b.String()
}

// operand takes the value of some row, as the API has it and as Postgres reads it.
func (w *wheres) operand(i int, op string) (api, text string, ok bool) {
	k := w.table.kinds[i]
	v := w.rows[w.r.IntN(len(w.rows))][w.table.column(i)]
	if isNull(v) || len(v) > 2000 { // a request has room for 64 KiB
		return "", "", false
	}
	if k.ops == "range" {
		return w.bound(v, k)
	}
	if k.ops == "hstore" && op == "contains" {
		some := object(v)
		for key := range some {
			if w.r.IntN(2) == 0 {
				delete(some, key)
			}
		}
		v, _ = json.Marshal(some)
	}
	if k.ops == "list" {
		if v, ok = w.list(v, k, op == "contains"); !ok {
			return "", "", false
		}
	}
	if op == "contains" && k.ops == "json" && w.r.IntN(2) == 0 {
		some := []string{`[]`, `{}`, `1`, `[1]`, `[[]]`, `[{"a":1}]`, `{"a":{}}`, `{"a":[2]}`, `{"a":{"c":[{"d":null}]}}`, `"a"`, `[[1]]`, `1.100`, `[2.50]`, `[null]`, `[[2,1,1]]`, `{"a":1.0}`, `{"b":1}`}
		v = json.RawMessage(some[w.r.IntN(len(some))])
	}
	return string(v), k.text(v), true
}

// list makes an operand of a list: of one dimension, and for contains without null and with some
// of the elements.
func (w *wheres) list(v json.RawMessage, k kind, some bool) (json.RawMessage, bool) {
	var out []string
	for _, e := range elements(v) {
		nested := strings.HasPrefix(string(e), "[")
		if nested && !strings.HasPrefix(k.sql, "jsonb") {
			return nil, false
		}
		if isNull(e) && (some || strings.HasPrefix(k.sql, "jsonb")) || some && w.r.IntN(2) == 0 {
			continue
		}
		out = append(out, string(e))
	}
	return json.RawMessage("[" + strings.Join(out, ",") + "]"), true
}

// A sieve is a subscription with a condition, and the rows that it holds.
type sieve struct {
	whereCase
	rows map[string]bool
}

func (s *sieve) take(f zooFrame) {
	switch {
	case f.Row != nil:
		s.rows[string(f.Row["id"])] = true
	case f.Old != nil:
		delete(s.rows, string(f.Old["id"]))
	}
}

// judge holds the rows against those that SELECT returns.
func (s *sieve) judge(t *testing.T, db *pgtest.DB, when string) {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), "SELECT id::text FROM "+s.table.name+" WHERE ("+s.sql+") OR id = -1", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", s.sql, err)
	}
	got := slices.Sorted(maps.Keys(s.rows))
	slices.Sort(ids)
	if !slices.Equal(ids, got) {
		t.Errorf("%s: where %s\ngives %v, but in SQL %s\ngives %v", when, s.api, got, s.sql, ids)
	}
}

// open subscribes, and reads the snapshots.
func openSieves(t *testing.T, c *client.Client, sieves []*sieve) {
	t.Helper()
	for n, s := range sieves {
		s.rows = map[string]bool{}
		query := fmt.Sprintf("subscription ($w: T%[1]sFilter) { %[1]s(where: $w, snapshot: true) { kind row { id } old { id } } }", s.table.name)
		where := json.RawMessage(`{"or":[` + s.api + `,{"id":{"eq":-1}}]}`)
		if err := c.Subscribe(t.Context(), fmt.Sprint(n), query, map[string]any{"w": where}); err != nil {
			t.Fatal(err)
		}
	}
	for live := 0; live < len(sieves); {
		id, f := readZoo(t, c)
		if f.Kind == "LIVE" {
			live++
		}
		sieves[number(t, id)].take(f)
	}
}

func number(t *testing.T, s string) int {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(s, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// Random conditions keep the rows that SELECT keeps, in snapshots and in the stream.
//
// Covers C90, C91, C93.
func TestFiltersKeepTheRowsThatSelectKeeps(t *testing.T) {
	const rows, conditions, atOnce = 40, 600, 40
	seed := workloadSeed(t)
	r := rand.New(rand.NewPCG(seed, 2))
	db := pgtest.New(t, zooDDL)
	role := db.Role(t, "web_user")
	tables := zooTables(r, pgtest.One[int](t, db, "SELECT current_setting('server_version_num')::int"), 30)
	for _, z := range tables {
		db.Exec(t, z.ddl(role))
		for id := range rows {
			db.Exec(t, z.insert(), append([]any{id}, z.row(r)...)...)
		}
	}
	cfg := settings(t, db, role)
	cfg.QueueBytes = 256 << 20 // what is tested is what arrives, not how fast this test reads
	s := start(t, cfg)
	have := everyRow(t, s.dial(t, role, map[string]any{}), tables)
	var sieves []*sieve
	for n := range conditions {
		z := tables[n%len(tables)]
		w := wheres{r, z, have[z.name]}
		api, sql := w.condition(n % 3)
		sieves = append(sieves, &sieve{whereCase: whereCase{z, api, sql}})
	}
	telling := 0
	for some := range slices.Chunk(sieves, atOnce) {
		c := s.dial(t, role, map[string]any{})
		openSieves(t, c, some)
		for _, x := range some {
			x.judge(t, db, "snapshot")
		}
		if t.Failed() {
			return
		}
		for _, x := range some {
			if len(x.rows) > 0 && len(x.rows) < rows {
				telling++
			}
		}
		if r.IntN(4) == 0 {
			streamSieves(t, db, r, c, some, rows)
		}
		_ = c.CloseNow()
	}
	t.Logf("%d of %d conditions keep some rows and not others", telling, conditions)
	if telling < conditions/4 {
		t.Errorf("only %d of %d conditions tell rows apart", telling, conditions)
	}
}

// everyRow reads all rows as the API has them.
func everyRow(t *testing.T, c *client.Client, tables []*zooTable) map[string][]map[string]json.RawMessage {
	t.Helper()
	for _, z := range tables {
		if err := c.Subscribe(t.Context(), z.name, "subscription { "+z.name+"(snapshot: true, kinds: [SNAPSHOT]) { kind row { "+z.selection()+" } } }", nil); err != nil {
			t.Fatal(err)
		}
	}
	out := map[string][]map[string]json.RawMessage{}
	for live := 0; live < len(tables); {
		id, f := readZoo(t, c)
		if f.Kind == "LIVE" {
			live++
		}
		if f.Row != nil {
			out[id] = append(out[id], f.Row)
		}
	}
	return out
}

// streamSieves changes rows while the subscriptions are live, and holds what they then have
// against SELECT.
func streamSieves(t *testing.T, db *pgtest.DB, r *rand.Rand, c *client.Client, sieves []*sieve, rows int) {
	t.Helper()
	tables := map[string]*zooTable{}
	for _, s := range sieves {
		tables[s.table.name] = s.table
	}
	for _, z := range tables {
		for range rows / 2 {
			i := r.IntN(len(z.kinds))
			db.Exec(t, fmt.Sprintf("UPDATE %s SET %s = $1::text::%s WHERE id = $2", z.name, z.column(i), plainType(z.kinds[i].sql)), z.row(r)[i], r.IntN(rows))
		}
		db.Exec(t, "DELETE FROM "+z.name+" WHERE id = $1", r.IntN(rows))
		db.Exec(t, z.insert(), append([]any{rows + r.IntN(1<<30)}, z.row(r)...)...)
		db.Exec(t, "INSERT INTO "+z.name+" (id) VALUES (-1)")
	}
	for left := len(sieves); left > 0; {
		id, f := readZoo(t, c)
		sieves[number(t, id)].take(f)
		if f.Kind == "INSERT" && string(f.Row["id"]) == "-1" {
			left--
		}
	}
	for _, s := range sieves {
		s.judge(t, db, "stream")
	}
	for _, z := range tables {
		db.Exec(t, "DELETE FROM "+z.name+" WHERE id = -1")
	}
}
