package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// A Writer is the sample's application: it writes to the tables as their owner, by itself and
// when it is asked to.
type Writer struct {
	pool   *pgxpool.Pool
	every  time.Duration
	paused atomic.Bool
}

// NewWriter makes a Writer that will write one change each interval. Close it.
func NewWriter(ctx context.Context, url string, every time.Duration) (*Writer, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("read demo database's URL: %w", err)
	}
	cfg.MaxConns = 2 // its own, and one for who presses buttons
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect demo writer: %w", err)
	}
	return &Writer{pool: pool, every: every}, nil
}

// Close frees the connections.
func (w *Writer) Close() { w.pool.Close() }

// Pause stops the changes that come by themselves, or lets them go on.
func (w *Writer) Pause(paused bool) { w.paused.Store(paused) }

// Paused tells whether changes come by themselves.
func (w *Writer) Paused() bool { return w.paused.Load() }

// Run writes one random change each interval, unless paused, until ctx ends.
func (w *Writer) Run(ctx context.Context) error {
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if w.Paused() {
			continue
		}
		if err := w.move(ctx); err != nil && ctx.Err() == nil {
			return fmt.Errorf("write demo change: %w", err)
		}
	}
}

// Enough rows to look alive, few enough to follow by eye.
const fewest, most = 6, 11

// move writes something of its own choice.
func (w *Writer) move(ctx context.Context) error {
	var tasks, comments int
	err := w.pool.QueryRow(ctx, `SELECT (SELECT count(*) FROM tasks), (SELECT count(*) FROM comments)`).Scan(&tasks, &comments)
	if err != nil {
		return err
	}
	if comments > most {
		_, err := w.pool.Exec(ctx, `DELETE FROM comments WHERE id = (SELECT min(id) FROM comments)`)
		return err
	}
	_, err = w.Do(ctx, Write{Kind: choose(tasks), User: one(Users())})
	if errors.Is(err, ErrNoTask) {
		return nil // somebody deleted it just now
	}
	return err
}

func choose(tasks int) Kind {
	n := rand.IntN(20) //nolint:gosec // a demo's dice
	switch {
	case tasks < fewest:
		return NewTask
	case n < 9:
		return Advance
	case n < 11:
		return TogglePrivate
	case n < 13:
		return MoveTeam
	case n < 15:
		return NewComment
	case n < 17 || tasks >= most:
		return Delete
	}
	return NewTask
}

// A Kind is something that the application can be asked to write.
type Kind string

// What the application can write. All but NewTask and NewPrivateTask concern one task.
const (
	NewTask        Kind = "new_task"
	NewPrivateTask Kind = "new_private_task"
	NewComment     Kind = "new_comment"
	Advance        Kind = "advance" // todo, doing, done, and again
	Finish         Kind = "finish"
	TogglePrivate  Kind = "toggle_private" // leaves, or enters, what others see
	MoveTeam       Kind = "move_team"      // leaves one team and enters the other
	Delete         Kind = "delete"
)

// A Write is one thing to write.
type Write struct {
	Kind Kind `json:"kind"`
	// User owns what is new. Defaults to one of Users.
	User string `json:"user"`
	// Task is what is changed. Defaults to any.
	Task int64 `json:"task,string"`
}

// ErrNoTask says that the task is gone, or that there is none.
var ErrNoTask = errors.New("no such task: it was deleted")

// errNoWrite is a mistake of who asks.
var errNoWrite = errors.New("no such write")

// Do writes, and gives the SQL that it ran.
func (w *Writer) Do(ctx context.Context, what Write) (string, error) {
	if what.User == "" {
		what.User = one(Users())
	}
	if !isUser(what.User) {
		return "", fmt.Errorf("%w: the sample has no user of this name", errNoWrite)
	}
	if what.Task == 0 && what.Kind != NewTask && what.Kind != NewPrivateTask {
		err := w.pool.QueryRow(ctx, `SELECT id FROM tasks ORDER BY random() LIMIT 1`).Scan(&what.Task)
		if errors.Is(err, pgx.ErrNoRows) {
			return "", ErrNoTask
		} else if err != nil {
			return "", err
		}
	}
	sql, err := what.sql()
	if err != nil {
		return "", err
	}
	tag, err := w.pool.Exec(ctx, sql)
	if err == nil && tag.RowsAffected() == 0 {
		err = ErrNoTask
	}
	return sql, err
}

// sql is a statement without parameters, since people are shown it: users are of a fixed list,
// titles our own, and the rest numbers.
func (w Write) sql() (string, error) {
	switch w.Kind {
	case NewTask, NewPrivateTask:
		return fmt.Sprintf("INSERT INTO tasks (team_id, owner, title, private, hours)\n"+
			"SELECT team_id, user_id, '%s', %t, %d.5 FROM members WHERE user_id = '%s' ORDER BY random() LIMIT 1",
			title(), w.Kind == NewPrivateTask, rand.IntN(12), w.User), nil //nolint:gosec // a demo's dice
	case NewComment:
		return fmt.Sprintf("INSERT INTO comments (task_id, team_id, private, author, body)\n"+
			"SELECT id, team_id, private, owner, '%s' FROM tasks WHERE id = %d", remark(), w.Task), nil
	case Advance:
		return fmt.Sprintf("UPDATE tasks SET state = CASE state WHEN 'todo' THEN 'doing' WHEN 'doing' THEN 'done' ELSE 'todo' END::task_state,\n"+
			"updated_at = now() WHERE id = %d", w.Task), nil
	case Finish:
		return fmt.Sprintf("UPDATE tasks SET state = 'done', updated_at = now() WHERE id = %d", w.Task), nil
	case TogglePrivate:
		return fmt.Sprintf("UPDATE tasks SET private = NOT private, updated_at = now() WHERE id = %d", w.Task), nil
	case MoveTeam:
		return fmt.Sprintf("UPDATE tasks SET team_id = 3 - team_id, updated_at = now() WHERE id = %d", w.Task), nil
	case Delete:
		return fmt.Sprintf("DELETE FROM tasks WHERE id = %d", w.Task), nil
	}
	return "", errNoWrite
}

func title() string {
	return one([]string{"Paint", "Mend", "Clean", "Count", "Order", "Plan"}) + " " +
		one([]string{"the gate", "two ladders", "the boats", "new lamps", "the cellar", "the harvest"})
}

func remark() string {
	return one([]string{"On my way.", "Needs another pair of hands.", "Nearly there.", "Let us talk about it.", "Well done!"})
}

func one(of []string) string { return of[rand.IntN(len(of))] } //nolint:gosec // a demo's dice
