package rowtide_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Every operator of text answers by the column's collation as Postgres does, letters outside
// ASCII included.
func TestTextComparesByItsCollation(t *testing.T) {
	texts := []string{"", "a", "A", "b", "B", "Ab", "aB", "ä", "Ä", "a\u0308", "ß", "SS", "ss", "İ", "i", "I", "ı", "Σ", "σ", "ς", "straße", "STRASSE", "\u212A", "k", "日本", "a b", "a-b"}
	columns := []string{`text COLLATE "C"`, `text COLLATE "en-x-icu"`, `text COLLATE "tr-x-icu"`, "text COLLATE blind", "citext", "text", `citext COLLATE "en-x-icu"`}
	db := pgtest.New(t, "CREATE EXTENSION citext", "CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
	role := db.Role(t, "web_user")
	z := &zooTable{name: "words"}
	for _, c := range columns {
		z.kinds = append(z.kinds, kind{sql: c})
	}
	db.Exec(t, z.ddl(role))
	for id, text := range texts {
		row := []any{id}
		for range columns {
			row = append(row, text)
		}
		db.Exec(t, z.insert(), row...)
	}
	var sieves []*sieve
	for i, c := range columns {
		for _, op := range []string{"eq", "lt", "ilike", "like"} {
			if strings.Contains(op, "like") && strings.Contains(c, "blind") {
				continue
			}
			for _, text := range texts {
				operand, _ := json.Marshal(text)
				sieves = append(sieves, &sieve{whereCase: whereCase{
					z, fmt.Sprintf(`{"c%d":{%q:%s}}`, i, op, operand),
					fmt.Sprintf("c%d %s %s::%s", i, sqlOperators[op], sqlText(text), plainType(c)),
				}})
			}
		}
	}
	s := start(t, settings(t, db, role))
	c := s.dial(t, role, map[string]any{})
	const atOnce = 50
	for from := 0; from < len(sieves); from += atOnce {
		some := sieves[from:min(from+atOnce, len(sieves))]
		openSieves(t, c, some)
		for n := range some {
			if err := c.Complete(t.Context(), fmt.Sprint(n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	judgeAll(t, db, sieves)
	t.Logf("%d conditions on %d rows", len(sieves), len(texts))
}

// judgeAll asks Postgres about all conditions in one statement.
func judgeAll(t *testing.T, db *pgtest.DB, sieves []*sieve) {
	t.Helper()
	var sql []string
	for n, s := range sieves {
		sql = append(sql, fmt.Sprintf("SELECT %d, id::text FROM %s WHERE %s", n, s.table.name, s.sql))
	}
	rows, err := db.Pool(t).Query(t.Context(), strings.Join(sql, " UNION ALL "), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	want := make([]map[string]bool, len(sieves))
	var n int
	var id string
	if _, err := pgx.ForEachRow(rows, []any{&n, &id}, func() error {
		if want[n] == nil {
			want[n] = map[string]bool{}
		}
		want[n][id] = true
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for n, s := range sieves {
		if fmt.Sprint(want[n]) != fmt.Sprint(s.rows) {
			t.Errorf("where %s\ngives %v, but in SQL %s\ngives %v", s.api, s.rows, s.sql, want[n])
		}
	}
}
