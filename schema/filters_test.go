package schema_test

import (
	"encoding/base64"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

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

// What a filter says in SQL leaves out no row that it matches, and mostly what it does not.
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
	differences, said, left := 0, 0, 0
	for n := range conditions {
		k := r.condition(n % 4)
		want := map[string]bool{}
		for _, id := range idsWhere(t, conn, k.sql) {
			want[id] = true
		}
		op := compile(t, c, "subscription ($w: MenagerieFilter) { menagerie(where: $w) { kind } }", `{"w":`+k.api+`}`)
		narrowed := map[string]bool{}
		if op.Where != nil && op.Where.SQL() != "" {
			said++
			for _, id := range idsWhere(t, conn, op.Where.SQL()) {
				narrowed[id] = true
			}
			left += len(images) - len(narrowed)
			for id := range want {
				if !narrowed[id] {
					differences++
					t.Errorf("row %s: %s\nis said in SQL as %s", id, k.api, op.Where.SQL())
				}
			}
		}
		for _, image := range images {
			got := true
			if op.Where != nil {
				var err error
				if got, err = op.Where.Match(image, nil); err != nil {
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
	if said < conditions/4 || left < said {
		t.Errorf("%d of %d conditions are said in SQL, and leave out %d rows", said, conditions, left)
	}
}

func idsWhere(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	rows, err := conn.Query(t.Context(), "SELECT id::text FROM menagerie WHERE "+sql, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return ids
}

// Bytes that base64 spells are those that Postgres has.
func TestBytesFilterReadsBase64(t *testing.T) {
	t.Parallel()
	c := catalog(t, table(1, "menagerie", column("id", typ("int4")), column("bytes", typ("bytea"))))
	op := compile(t, c, `subscription { menagerie(where: {bytes: {eq: "`+base64.StdEncoding.EncodeToString([]byte{0, 255})+`"}}) { kind } }`, "")
	if ok, err := op.Where.Match(row("1", `\x00ff`), nil); !ok || err != nil {
		t.Errorf("match: %v, %v", ok, err)
	}
}
