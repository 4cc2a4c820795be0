// Package demo is the sample application of `rowtide demo`: a schema with row-level security
// and a writer that keeps it moving.
package demo

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// Schema is the SQL of the sample application, for an empty database.
//
//go:embed schema.sql
var Schema string

// Role is the Postgres role of every user of the sample.
const Role = "web_user"

// Users are the sample's users: ana and ben share a team, ben and cleo another.
func Users() []string { return []string{"ana", "ben", "cleo"} }

// Load makes the sample in an empty database, as its superuser.
func Load(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect to demo database: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, Schema); err != nil {
		return fmt.Errorf("load demo schema: %w", err)
	}
	return nil
}

// Move writes one random change each interval until ctx ends.
func Move(ctx context.Context, url string, every time.Duration) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("connect demo writer: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := move(ctx, conn); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write demo change: %w", err)
		}
	}
}

// Enough rows to look alive, few enough to follow by eye.
const fewest, most = 4, 12

func move(ctx context.Context, conn *pgx.Conn) error {
	var id int64
	var count int
	err := conn.QueryRow(ctx, `SELECT id, count(*) OVER () FROM tasks ORDER BY random() LIMIT 1`).Scan(&id, &count)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	if count < fewest {
		return insert(ctx, conn)
	}
	switch n := rand.IntN(10); { //nolint:gosec // a demo's dice
	case n < 5:
		_, err = conn.Exec(ctx, `UPDATE tasks SET state = (enum_range(NULL::task_state))[1 + floor(random() * 3)::int], updated_at = now() WHERE id = $1`, id)
	case n < 6: // comes into, or leaves, what others see
		_, err = conn.Exec(ctx, `UPDATE tasks SET private = NOT private, updated_at = now() WHERE id = $1`, id)
	case n < 7: // leaves one team and enters the other
		_, err = conn.Exec(ctx, `UPDATE tasks SET team_id = 3 - team_id, updated_at = now() WHERE id = $1`, id)
	case n < 8 || count >= most:
		_, err = conn.Exec(ctx, `DELETE FROM tasks WHERE id = $1`, id)
	default:
		err = insert(ctx, conn)
	}
	return err
}

func insert(ctx context.Context, conn *pgx.Conn) error {
	verbs := []string{"Paint", "Mend", "Clean", "Count", "Order", "Plan"}
	things := []string{"the gate", "two ladders", "the boats", "new lamps", "the cellar", "the harvest"}
	//nolint:gosec // a demo's dice
	title := verbs[rand.IntN(len(verbs))] + " " + things[rand.IntN(len(things))]
	_, err := conn.Exec(ctx, `
		INSERT INTO tasks (team_id, owner, title, hours)
		SELECT team_id, user_id, $1, round((random() * 10)::numeric, 2) FROM members ORDER BY random() LIMIT 1`, title)
	return err
}
