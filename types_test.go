package rowtide_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A zooFrame is a frame about a row of the zoo.
type zooFrame struct {
	Kind     string
	Row, Old map[string]json.RawMessage
}

// readZoo gives the next frame on any subscription, and its id.
func readZoo(t *testing.T, c *client.Client) (string, zooFrame) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	m, err := c.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if m.Type != "next" {
		t.Fatalf("%s: %s %s", m.ID, m.Type, m.Payload)
	}
	var p struct{ Data map[string]zooFrame }
	if err := json.Unmarshal(m.Payload, &p); err != nil {
		t.Fatalf("%v: %.300s", err, m.Payload)
	}
	for _, f := range p.Data {
		return m.ID, f
	}
	t.Fatalf("no data: %.300s", m.Payload)
	return "", zooFrame{}
}

// untilSentinels reads until each subscription has the row with the id -1.
func untilSentinels(t *testing.T, c *client.Client, subscriptions int, each func(id string, f zooFrame)) {
	t.Helper()
	for left := subscriptions; left > 0; {
		id, f := readZoo(t, c)
		if f.Row != nil && string(f.Row["id"]) == "-1" && f.Kind == "INSERT" {
			left--
			continue
		}
		each(id, f)
	}
}

// Every value of every type comes out of the API as Postgres has it: written by random
// transactions, received through snapshot and stream, read back, and compared with SELECT. The service's
// login has settings under which Postgres would print other texts.
//
// Covers C89, C90, C91, C92, C93, C94, C95, C96, C97, C98, C99, C100.
func TestEveryValueOfEveryTypeArrivesAsPostgresHasIt(t *testing.T) {
	seed := workloadSeed(t)
	r := rand.New(rand.NewPCG(seed, 1))
	db := pgtest.New(t, zooDDL)
	role := db.Role(t, "web_user")
	tables := zooTables(r, pgtest.One[int](t, db, "SELECT current_setting('server_version_num')::int"), 24)
	for _, z := range tables {
		db.Exec(t, z.ddl(role))
	}
	cfg := settings(t, db, role)
	cfg.QueueBytes = 512 << 20 // what is tested is what arrives, not how fast this test reads
	const rows = 40
	for _, z := range tables {
		for id := range rows / 2 {
			db.Exec(t, z.insert(), append([]any{id}, z.row(r)...)...)
		}
	}
	for _, set := range []string{"extra_float_digits = 0", "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "TimeZone = 'Asia/Kolkata'", "bytea_output = 'escape'"} {
		db.Exec(t, "ALTER ROLE login_"+db.Name+" SET "+set)
	}
	s := start(t, cfg)
	c := s.dial(t, role, map[string]any{})
	for _, z := range tables {
		query := "subscription { " + z.name + "(snapshot: true) { kind row { " + z.selection() + " } old { " + z.selection() + " } } }"
		if err := c.Subscribe(t.Context(), z.name, query, nil); err != nil {
			t.Fatal(err)
		}
	}
	got := map[string]map[string]map[string]json.RawMessage{}
	take := func(table string, f zooFrame) {
		if f.Row == nil {
			return
		}
		if got[table] == nil {
			got[table] = map[string]map[string]json.RawMessage{}
		}
		id := string(f.Row["id"])
		if before := got[table][id]; f.Kind == "UPDATE" {
			for name, v := range f.Old {
				if string(v) != string(before[name]) {
					t.Errorf("%s %s: old.%s is %.200s, and row was %.200s", table, id, name, v, before[name])
				}
			}
		}
		got[table][id] = f.Row
	}
	for live := 0; live < len(tables); {
		id, f := readZoo(t, c)
		if f.Kind == "LIVE" {
			live++
		}
		take(id, f)
	}
	writeZoo(t, db, r, tables, rows)
	untilSentinels(t, c, len(tables), take)
	values, columns := 0, 0
	for _, z := range tables {
		values += compareZoo(t, db, z, got[z.name])
		columns += len(z.kinds)
	}
	t.Logf("%d values in %d columns of %d tables", values, columns, len(tables))
	if values != rows*columns {
		t.Errorf("compared %d values of %d", values, rows*columns)
	}
}

// writeZoo inserts the other half of the rows, and changes some of all: one column alone, or the
// id, so that all else is unchanged.
func writeZoo(t *testing.T, db *pgtest.DB, r *rand.Rand, tables []*zooTable, rows int) {
	t.Helper()
	for _, z := range tables {
		for id := rows / 2; id < rows; id++ {
			db.Exec(t, z.insert(), append([]any{id}, z.row(r)...)...)
		}
		for range rows {
			i := r.IntN(len(z.kinds))
			db.Exec(t, fmt.Sprintf("UPDATE %s SET %s = $1::text::%s WHERE id = $2", z.name, z.column(i), plainType(z.kinds[i].sql)), z.row(r)[i], r.IntN(rows))
		}
		db.Exec(t, "INSERT INTO "+z.name+" (id) VALUES (-1)")
	}
}

// lowerBounds are what an array's text begins with where it does not begin at 1: JSON has no
// place for them.
var lowerBounds = regexp.MustCompile(`^\[-?\d+:-?\d+\](\[-?\d+:-?\d+\])*=`)

// compareZoo has Postgres read what the API said, and print it as it prints the row.
func compareZoo(t *testing.T, db *pgtest.DB, z *zooTable, got map[string]map[string]json.RawMessage) int {
	t.Helper()
	cols := []string{"id::text"}
	for i := range z.kinds {
		cols = append(cols, fmt.Sprintf("CASE WHEN %[1]s IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%%s', %[1]s) END", z.column(i)))
	}
	rows, err := db.Pool(t).Query(t.Context(), "SELECT ARRAY["+strings.Join(cols, ",")+"] FROM "+z.name+" WHERE id >= 0")
	if err != nil {
		t.Fatal(err)
	}
	want, err := pgx.CollectRows(rows, pgx.RowTo[[]*string])
	if err != nil {
		t.Fatal(err)
	}
	if len(want) != len(got) {
		t.Errorf("%s: %d rows arrived, and SELECT gives %d", z.name, len(got), len(want))
	}
	values := 0
	for _, w := range want {
		row := got[*w[0]]
		back := z.back(t, db, row)
		for i, k := range z.kinds {
			values++
			a, b := shown(w[i+1]), shown(back[i])
			switch { // the null of JSON and the NULL of SQL are both null in the API, as its reference says
			case strings.HasPrefix(k.sql, "json") && a == "null":
				a = shown(nil)
			case strings.HasPrefix(k.sql, "json"):
				a = strings.ReplaceAll(a, `"null"`, "NULL")
			}
			if strings.HasSuffix(k.sql, "[]") {
				a = lowerBounds.ReplaceAllString(a, "")
			}
			if a != b {
				t.Errorf("%s %s, %s: the API says %.300s, which is %.300q, but Postgres has %.300q", z.name, *w[0], k.sql, row[z.column(i)], b, a)
			}
		}
	}
	return values
}

func shown(s *string) string {
	if s == nil {
		return "NULL of SQL"
	}
	return *s
}

// back has Postgres read a row of the API.
func (z *zooTable) back(t *testing.T, db *pgtest.DB, row map[string]json.RawMessage) []*string {
	t.Helper()
	var sql []string
	var args []any
	for i, k := range z.kinds {
		v := row[z.column(i)]
		if v == nil || isNull(v) {
			args = append(args, nil)
		} else {
			args = append(args, k.text(v))
		}
		sql = append(sql, fmt.Sprintf("CASE WHEN $%[1]d::text IS NOT NULL THEN format('%%s', $%[1]d::text::%[2]s) END", i+1, plainType(k.sql)))
	}
	return pgtest.One[[]*string](t, db, "SELECT ARRAY["+strings.Join(sql, ", ")+"]", args...)
}
