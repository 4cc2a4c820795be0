package rowtide

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rowtide/rowtide/schema"
)

// A comparer makes, in Postgres, the comparisons of text that depend on how its collations order
// and fold. It reads no table: what it is asked about is in the question.
type comparer struct{ pool *pgxpool.Pool }

// compareMost bounds one question. What is late counts as no answer.
const compareMost = 10 * time.Second

// Compare answers facts, in their order, in one round trip.
func (c comparer) Compare(ctx context.Context, facts []schema.Fact) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, compareMost)
	defer cancel()
	// Collations and operators are part of the text of a statement, so there is one for each.
	type group struct {
		at          []int
		left, right []string
	}
	groups := map[string]*group{}
	for i, f := range facts {
		sql := compareSQL(f)
		g := groups[sql]
		if g == nil {
			g = &group{}
			groups[sql] = g
		}
		g.at, g.left, g.right = append(g.at, i), append(g.left, f.Left), append(g.right, f.Right)
	}
	out := make([]int, len(facts))
	batch := &pgx.Batch{}
	for sql, g := range groups {
		batch.Queue(sql, g.left, g.right).Query(func(rows pgx.Rows) error {
			answers, err := pgx.CollectRows(rows, pgx.RowTo[int])
			if err == nil && len(answers) != len(g.at) {
				err = fmt.Errorf("%d answers to %d questions", len(answers), len(g.at))
			}
			if err != nil {
				return err
			}
			for i, a := range answers {
				out[g.at[i]] = a
			}
			return nil
		})
	}
	if err := c.pool.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("compare texts: %w", err)
	}
	return out, nil
}

// compareSQL is the statement for facts of one kind. Operators are named with their schema: the
// search path is not ours.
func compareSQL(f schema.Fact) string {
	l, r := "x.l", "x.r"
	if f.Op == schema.FactFolded {
		const fold = `pg_catalog.lower(%s COLLATE pg_catalog."default")`
		l, r = fmt.Sprintf(fold, l), fmt.Sprintf(fold, r)
	}
	l, r = l+" COLLATE "+f.Collation, r+" COLLATE "+f.Collation
	answer := fmt.Sprintf("CASE WHEN %[1]s OPERATOR(pg_catalog.<) %[2]s THEN -1 WHEN %[1]s OPERATOR(pg_catalog.=) %[2]s THEN 0 ELSE 1 END", l, r)
	if f.Op == schema.FactILike {
		answer = fmt.Sprintf("CASE WHEN %s OPERATOR(pg_catalog.~~*) %s THEN 1 ELSE 0 END", l, r)
	}
	return "SELECT " + answer + ` FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[])) WITH ORDINALITY AS x(l, r, n) ORDER BY x.n`
}
