package rowtide_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// reading is what came on a socket with one subscription: the ids of rows in order, and how it ended.
type reading struct {
	ids    []int
	cursor string
	end    *client.Message
}

// read reads frames until there are rows enough, or the subscription ends.
func read(t *testing.T, c *client.Client, field string, rows int) (r reading) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	for len(r.ids) < rows {
		m, err := c.Next(ctx)
		if err != nil {
			t.Fatalf("after %d rows of %d: %v", len(r.ids), rows, err)
		}
		if m.Type != "next" {
			r.end = &m
			return r
		}
		f, err := feedtest.ParseFrame(m.Payload, field)
		if err != nil {
			t.Fatal(err)
		}
		r.cursor = f.Cursor
		if f.Kind == "INSERT" {
			id, err := strconv.Atoi(string(f.Row["id"]))
			if err != nil {
				t.Fatal(err)
			}
			r.ids = append(r.ids, id)
		}
	}
	return r
}

// TestWhoTakesMoreTimeThanItMayWaitsAndNobodyElse has the policies of one subject take long, or
// Postgres compare texts for its filter. It is told to come back, by itself alone, and gets what it
// missed behind its cursor.
//
// Covers S72.
func TestWhoTakesMoreTimeThanItMayWaitsAndNobodyElse(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		policy, limit, where string
		rows                 int
	}{
		"a policy": {"CASE WHEN current_setting('request.jwt.claims')::json ->> 'sub' = 'tenant' THEN pg_sleep(0.2) IS NOT NULL ELSE now() > '2000-01-01' END", "50", "", 12},
		"a filter": {"true", "1", `where: {text: {gte: ""}}, `, 100},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t, fmt.Sprintf(`
CREATE TABLE notes (id int PRIMARY KEY, text text COLLATE "und-x-icu");
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON notes USING (%s);
COMMENT ON TABLE notes IS '@subscribe'`, tt.policy))
			role := db.Role(t, "web_user")
			db.Exec(t, "GRANT SELECT ON notes TO "+role)
			cfg := settings(t, db, role)
			cfg.Limits = []string{"evaluation.principal=" + tt.limit} // milliseconds, and five times that at once
			s := start(t, cfg)
			follow := func(sub, where string, variables map[string]any) *client.Client {
				c := s.dial(t, role, map[string]string{"sub": sub})
				query := `subscription($after: Cursor) { notes(` + where + `after: $after) { kind rowId key { id } row { id } cursor reason } }`
				if err := c.Subscribe(t.Context(), "1", query, variables); err != nil {
					t.Fatal(err)
				}
				return c
			}
			greedy, honest := follow("tenant", tt.where, nil), follow("ann", "", nil)
			for _, c := range []*client.Client{greedy, honest} {
				if f := next(t, c); f.Kind != "LIVE" {
					t.Fatalf("got %s, want LIVE", f.Kind)
				}
			}
			for id := 1; id <= tt.rows; id++ {
				db.Exec(t, fmt.Sprintf("INSERT INTO notes VALUES (%d, 'text %[1]d')", id))
			}
			if got := read(t, honest, "notes", tt.rows); len(got.ids) != tt.rows {
				t.Errorf("the other subject got %v and %+v", got.ids, got.end)
			}
			got := read(t, greedy, "notes", tt.rows)
			if got.end == nil || !strings.Contains(string(got.end.Payload), `"RATE_LIMITED"`) || !strings.Contains(string(got.end.Payload), `"retryAfter":5`) {
				t.Fatalf("after %v: %+v, want RATE_LIMITED with when to come back", got.ids, got.end)
			}
			t.Logf("it was held up after %d rows of %d", len(got.ids), tt.rows)

			// It comes back as it is told to, as often as it takes, and misses nothing.
			eventually(t, "it has what it missed", func() bool {
				again := follow("tenant", tt.where, map[string]any{"after": got.cursor})
				defer func() { _ = again.CloseNow() }()
				more := read(t, again, "notes", tt.rows-len(got.ids))
				got.ids = append(got.ids, more.ids...)
				if more.cursor != "" {
					got.cursor = more.cursor
				}
				return len(got.ids) == tt.rows
			})
			for i, id := range got.ids {
				if id != i+1 {
					t.Fatalf("got %v", got.ids)
				}
			}
		})
	}
}
