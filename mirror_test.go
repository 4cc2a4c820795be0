package rowtide_test

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/internal/client"
)

// A mirror is a subscriber that keeps what it was told, by the client's whole rule: RESET or
// TRUNCATE clears, row is put, a rowId without row is removed.
type mirror struct {
	c        *client.Client
	rows     map[string]map[string]any // by rowId
	arriving bool                      // between RESET and LIVE
	resets   []string                  // the reasons since they were last looked at
	ended    string                    // the error that ended the subscription
}

// follow subscribes with a snapshot, and reads up to LIVE. The document selects `row { id … }`.
func follow(t *testing.T, c *client.Client, query string) *mirror {
	t.Helper()
	m := &mirror{c: c, rows: map[string]map[string]any{}}
	if err := c.Subscribe(t.Context(), "1", query, nil); err != nil {
		t.Fatal(err)
	}
	for m.arriving = true; m.arriving && m.ended == ""; {
		m.read(t)
	}
	m.resets = nil
	return m
}

// read takes one frame.
func (m *mirror) read(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	msg, err := m.c.Next(ctx)
	if err != nil {
		t.Fatalf("%v; rows so far: %v", err, m.rows)
	}
	if msg.Type != "next" {
		m.ended = msg.Type + " " + string(msg.Payload)
		return
	}
	var p struct {
		Data map[string]struct {
			Kind, RowID, Reason string
			Row                 map[string]any
		}
	}
	if err := json.Unmarshal(msg.Payload, &p); err != nil {
		t.Fatalf("%v: %s", err, msg.Payload)
	}
	for _, f := range p.Data {
		switch {
		case f.Kind == "RESET" || f.Kind == "TRUNCATE":
			clear(m.rows)
			if f.Kind == "RESET" {
				m.arriving, m.resets = true, append(m.resets, f.Reason)
			}
		case f.Kind == "LIVE":
			m.arriving = false
		case f.Row != nil:
			m.rows[f.RowID] = f.Row
		case f.RowID != "":
			delete(m.rows, f.RowID)
		}
	}
}

// until reads until the row with that id is there, or the subscription ends.
func (m *mirror) until(t *testing.T, id int) {
	t.Helper()
	for m.ended == "" && (m.arriving || !m.has(id)) {
		m.read(t)
	}
}

func (m *mirror) has(id int) bool {
	for _, r := range m.rows {
		if r["id"] == float64(id) {
			return true
		}
	}
	return false
}

// asRole runs a SELECT of one JSON object per row, with an id, as a subscriber's role.
func asRole(t *testing.T, conn *pgx.Conn, role, sub, query string) map[float64]map[string]any {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // nothing was written
	if _, err := tx.Exec(t.Context(), fmt.Sprintf(`SET LOCAL ROLE %s; SET LOCAL "request.jwt.claims" = '{"sub":"%s"}'`, role, sub)); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[map[string]any])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	out := map[float64]map[string]any{}
	for _, r := range list {
		out[r["id"].(float64)] = r
	}
	return out
}

// differs tells how the mirror differs from the rows that SELECT returns, or "".
func (m *mirror) differs(want map[float64]map[string]any) string {
	got := map[float64]map[string]any{}
	for _, r := range m.rows {
		got[r["id"].(float64)] = r
	}
	var out []string
	for id, r := range want {
		if !reflect.DeepEqual(got[id], r) {
			out = append(out, fmt.Sprintf("row %v is %v, and SELECT gives %v", id, got[id], r))
		}
	}
	for id, r := range got {
		if want[id] == nil {
			out = append(out, fmt.Sprintf("row %v is %v, and SELECT does not give it", id, r))
		}
	}
	return strings.Join(out, "\n")
}
