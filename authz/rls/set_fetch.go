package rls

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// errMany says that a change of membership concerns too many rows to look at each.
var errMany = errors.New("a change of membership concerns too many rows")

// errForgotten says that what the tables asked were at a transaction is not known any more.
var errForgotten = errors.New("what policies asked of other tables is not known any more")

// Near implements fanout.Follower.
func (g *Postgres) Near(ctx context.Context, t *schema.Table, commit cdc.LSN, principals []*authz.Principal, settled []uint32, most int) (end cdc.LSN, rows []cdc.Row, err error) {
	n := &near{}
	for _, principal := range principals {
		p := g.keptBy(t, principal.Role)
		if p == nil {
			return 0, nil, errForgotten
		}
		b := g.bounds.of(p, principal)
		g.keeps.mu.RLock()
		how := g.keeps.stand(p, commit)
		p.near(b, principal, commit, n)
		g.keeps.mu.RUnlock()
		if how != standsFast { // then there is nothing near, which does not say that nothing came or went
			return 0, nil, errForgotten
		}
	}
	s, err := g.keepers.acquire(ctx, false)
	if err != nil {
		return 0, nil, err
	}
	clean := false
	defer func() {
		if !clean {
			s.close(ctx)
		}
		g.keepers.release(ctx, s)
	}()
	r := &reader{
		g: g, s: s, plan: g.plan(t, principals[0].Role), principal: principals[0], settled: settled, deadline: time.Now().Add(g.cfg.VisibilityWait),
	}
	if _, err := s.prepare(ctx, []statementKey{{sql: r.plan.shape}}); err != nil {
		return 0, nil, err
	}
	if _, err := r.open(ctx); err != nil {
		return 0, nil, err
	}
	if rows, err = readNear(ctx, s, t, n, most); err != nil {
		return 0, nil, err
	}
	if end, err = markRead(ctx, s); err != nil {
		return 0, nil, err
	}
	clean = true
	return end, rows, nil
}

// markRead writes a message behind what was read and gives its place: whoever follows the stream does not
// have to wait for others to write. The place of the snapshot would not do: what empties or rewrites a
// table between the snapshot and the reading does so for the snapshot, too.
func markRead(ctx context.Context, s *session) (cdc.LSN, error) {
	for _, sql := range []string{rollback, "BEGIN READ WRITE"} {
		if err := run(ctx, s.conn, sql); err != nil {
			return 0, err
		}
	}
	row, err := one(ctx, s.conn, "SELECT pg_catalog.pg_logical_emit_message(true, 'rowtide', 'read')")
	if err != nil {
		return 0, err
	}
	at, err := cdc.ParseLSN(string(row[0]))
	if err != nil {
		return 0, fmt.Errorf("write a message behind what was read: %w", err)
	}
	return at, run(ctx, s.conn, "COMMIT")
}

// readNear reads the rows, with all their columns.
func readNear(ctx context.Context, s *session, t *schema.Table, n *near, most int) ([]cdc.Row, error) {
	names := make([][]byte, len(t.Columns))
	list := ""
	for i, c := range t.Columns {
		names[i] = []byte(c.Def.Name)
		list += fmt.Sprintf(", r[%d]", i+1)
	}
	oid := []byte(strconv.FormatUint(uint64(t.Def.OID), 10))
	reader := s.conn.ExecParams(ctx, "SELECT "+list[2:]+" FROM rowtide.rows_near($1::pg_catalog.oid, $2::pg_catalog.text[], $3::pg_catalog.jsonb, $4::pg_catalog.int8) AS r",
		[][]byte{oid, textArray(names), n.json(t), []byte(strconv.Itoa(most + 1))}, nil, []int16{textFormat, binaryFormat, textFormat, textFormat}, nil)
	var out []cdc.Row
	for reader.NextRow() {
		if len(out) == most {
			_, _ = reader.Close()
			return nil, errMany
		}
		row := make(cdc.Row, len(t.Columns))
		for i, v := range reader.Values() {
			if v != nil {
				row[i] = cdc.TextValue(string(v))
			}
		}
		out = append(out, row)
	}
	if _, err := reader.Close(); err != nil {
		return nil, fmt.Errorf("read what membership concerns: %w", err)
	}
	return out, nil
}

// json is what rowtide.rows_near reads; nil for all rows.
func (n *near) json(t *schema.Table) []byte {
	if n.all {
		return nil
	}
	type column struct {
		Column string   `json:"column"`
		Values []string `json:"values"`
		Null   bool     `json:"null"`
	}
	out := []column{}
	for i, c := range n.columns {
		out = append(out, column{t.Columns[i].Def.Name, slices.Sorted(maps.Keys(c.values)), c.null})
	}
	text, _ := json.Marshal(out) // strings marshal
	return text
}
