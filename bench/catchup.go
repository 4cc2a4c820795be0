package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
)

// notesSchema has one table whose rows are seen by their owner.
const notesSchema = `
CREATE TABLE notes (id bigint PRIMARY KEY, owner text NOT NULL, title text NOT NULL, body text NOT NULL);
ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON notes FOR SELECT TO %s
  USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT ON notes TO %s;
COMMENT ON TABLE notes IS '@subscribe';`

// SnapshotConfig sets up Snapshot.
type SnapshotConfig struct {
	// Rounds is how often each side reads. Defaults to 5.
	Rounds int
	// Rows is how many the table has. Defaults to 100,000.
	Rows int
	// Together is how many clients start at once in the last part. Defaults to 20.
	Together int
	// Profile is a folder for profiles. Defaults to none.
	Profile string
}

// Snapshot measures how fast the rows of a table come to a client, against COPY … TO STDOUT of the
// same SELECT under the same role; and to many clients that start together.
func Snapshot(ctx context.Context, cfg SnapshotConfig) (*Result, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 5
	}
	if cfg.Rows == 0 {
		cfg.Rows = 100_000
	}
	if cfg.Together == 0 {
		cfg.Together = 20
	}
	return onBed(ctx, bedConfig{schema: notesSchema, clients: true, profile: cfg.Profile}, func(ctx context.Context, b *bed) (*Result, error) {
		return b.snapshot(ctx, cfg)
	})
}

func (b *bed) snapshot(ctx context.Context, cfg SnapshotConfig) (*Result, error) {
	if err := b.writeNotes(ctx, 1, cfg.Rows); err != nil {
		return nil, err
	}
	if err := b.exec(ctx, "VACUUM ANALYZE notes"); err != nil {
		return nil, err
	}
	if err := b.profile.start("snapshot"); err != nil {
		return nil, err
	}
	var copied, alone, together []float64
	for range cfg.Rounds {
		took, err := b.copyNotes(ctx)
		if err != nil {
			return nil, err
		}
		copied = append(copied, float64(cfg.Rows)/took.Seconds())
		for n, rates := range map[int]*[]float64{1: &alone, cfg.Together: &together} {
			took, err := b.catchUp(n, "snapshot: true", cfg.Rows)
			if err != nil {
				return nil, err
			}
			*rates = append(*rates, float64(n*cfg.Rows)/took.Seconds())
		}
	}
	r := newResult("snapshot", b.version, cfg.Rounds, "rows/s")
	r.add("COPY … TO STDOUT", median(copied))
	r.add("one client", median(alone))
	r.add(fmt.Sprintf("%d clients together", cfg.Together), median(together))
	r.ratio("one client / COPY", median(alone)/median(copied), "")
	r.ratio("all clients together / one client", median(together)/median(alone), "")
	return r, b.profile.stop("snapshot")
}

// ResumeConfig sets up Resume.
type ResumeConfig struct {
	// Rounds is how often each part is measured. Defaults to 3.
	Rounds int
	// Changes is how many are behind the cursor, 100 a transaction. Defaults to 100,000.
	Changes int
	// Clients resume at once in the last part, behind a tenth as many changes. Defaults to 200.
	Clients int
	// Profile is a folder for profiles. Defaults to none.
	Profile string
}

// Resume measures how fast a client gets the changes behind an old cursor, and many at once; and
// how late the changes of a subscriber who is live come meanwhile.
func Resume(ctx context.Context, cfg ResumeConfig) (*Result, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 3
	}
	if cfg.Changes == 0 {
		cfg.Changes = 100_000
	}
	if cfg.Clients == 0 {
		cfg.Clients = 200
	}
	return onBed(ctx, bedConfig{schema: notesSchema, clients: true, profile: cfg.Profile}, func(ctx context.Context, b *bed) (*Result, error) {
		return b.resume(ctx, cfg)
	})
}

func (b *bed) resume(ctx context.Context, cfg ResumeConfig) (*Result, error) {
	old, err := b.cursor(ctx)
	if err != nil {
		return nil, err
	}
	many := cfg.Changes / 10
	if err := b.writeNotes(ctx, 1, cfg.Changes-many); err != nil {
		return nil, err
	}
	newer, err := b.cursor(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.writeNotes(ctx, cfg.Changes-many+1, many); err != nil {
		return nil, err
	}
	if _, err := b.cursor(ctx); err != nil { // all of it is dispatched
		return nil, err
	}
	var one, each, quiet, storm []float64
	next := cfg.Changes + 1
	for range cfg.Rounds {
		took, err := b.catchUp(1, `after: "`+old+`"`, cfg.Changes)
		if err != nil {
			return nil, err
		}
		one = append(one, float64(cfg.Changes)/took.Seconds())
		calm, err := b.live(ctx, &next, func() error { return nil })
		if err != nil {
			return nil, err
		}
		behind := many + next - cfg.Changes - 1
		busy, err := b.live(ctx, &next, func() error {
			took, err = b.catchUp(cfg.Clients, `after: "`+newer+`"`, behind)
			return err
		})
		if err != nil {
			return nil, err
		}
		each = append(each, float64(cfg.Clients*behind)/took.Seconds())
		quiet, storm = append(quiet, calm), append(storm, busy)
	}
	r := newResult("resume", b.version, cfg.Rounds, "changes/s", "live p99 ms")
	r.add(fmt.Sprintf("one client behind %d changes", cfg.Changes), median(one), nan)
	r.add(fmt.Sprintf("%d clients behind %d changes", cfg.Clients, many), median(each), median(storm))
	r.add("nobody", nan, median(quiet))
	r.ratio("all clients together / one client", median(each)/median(one), "")
	return r, nil
}

// writeNotes commits notes, 100 a transaction.
func (b *bed) writeNotes(ctx context.Context, first, count int) error {
	return b.exec(ctx, fmt.Sprintf(`DO $$ BEGIN FOR i IN 0..%d BY 100 LOOP
		INSERT INTO notes SELECT n, 'me', 'note ' || n, repeat('word ', 16) FROM generate_series(%d + i, least(%d + i + 99, %d)) n; COMMIT;
	END LOOP; END $$`, count-1, first, first, first+count-1))
}

// copyNotes reads the rows as the clients' role.
func (b *bed) copyNotes(ctx context.Context) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SET ROLE "+role+`; SET request.jwt.claims = '{"sub": "me"}'`); err != nil {
		return 0, err
	}
	start := time.Now()
	_, err = conn.PgConn().CopyTo(ctx, io.Discard, "COPY (SELECT id, title, body FROM notes) TO STDOUT")
	return time.Since(start), err
}

func (b *bed) notes(ctx context.Context, arguments string) (*client.Client, error) {
	token, err := rowtide.Token(rowtide.Config{JWTSecret: benchSecret}, role, json.RawMessage(`{"sub":"me"}`), time.Hour)
	if err != nil {
		return nil, err
	}
	c, err := client.Dial(ctx, "ws://"+b.address()+"/graphql", token)
	if err != nil {
		return nil, err
	}
	if arguments != "" {
		arguments = "(" + arguments + ")"
	}
	return c, c.Subscribe(ctx, "1", "subscription { notes"+arguments+" { kind row { id title body } cursor } }", nil)
}

// catchUp has clients of the load process catch up at once, each with so many frames that are rows
// at least, and gives how long that took until the last was live.
func (b *bed) catchUp(clients int, arguments string, rows int) (time.Duration, error) {
	start := time.Now()
	_, err := b.load.do(order{
		Do: doOpen, Address: b.address(), Sockets: clients, PerSocket: 1, Subject: "me", Rows: rows,
		Query: "subscription { notes(" + arguments + ") { kind row { id title body } } }",
	})
	took := time.Since(start)
	if err != nil {
		return 0, err
	}
	_, err = b.load.do(order{Do: doHangUp})
	return took, err
}

// cursor is that of the present end of the stream.
func (b *bed) cursor(ctx context.Context) (string, error) {
	if err := b.exec(ctx, "INSERT INTO notes VALUES (0, 'me', 'last', ''); DELETE FROM notes WHERE id = 0"); err != nil {
		return "", err
	}
	c, err := b.notes(ctx, "")
	if err != nil {
		return "", err
	}
	defer c.CloseNow() //nolint:errcheck // it was read
	m, err := c.Next(ctx)
	if err != nil {
		return "", err
	}
	var f struct {
		Data struct{ Notes struct{ Cursor string } }
	}
	if err := json.Unmarshal(m.Payload, &f); err != nil || f.Data.Notes.Cursor == "" {
		return "", fmt.Errorf("want LIVE with a cursor, got %s %s", m.Type, m.Payload)
	}
	return f.Data.Notes.Cursor, nil
}

// liveChanges is of how many a live subscriber's latency is measured, at least.
const liveChanges = 100

// live measures, in milliseconds, how late the changes of a live subscriber come while something
// goes on: the 99th percentile.
func (b *bed) live(ctx context.Context, next *int, meanwhile func() error) (float64, error) {
	c, err := b.notes(ctx, "")
	if err != nil {
		return 0, err
	}
	defer c.CloseNow() //nolint:errcheck // it was read
	if _, err := c.Next(ctx); err != nil {
		return 0, err
	}
	done := make(chan error, 1)
	go func() { done <- meanwhile() }()
	var late []float64
	for ended := false; !ended || len(late) < liveChanges; *next++ {
		start := time.Now()
		if err := b.exec(ctx, fmt.Sprintf("INSERT INTO notes VALUES (%d, 'me', 'live', '')", *next)); err != nil {
			return 0, err
		}
		if _, err := c.Next(ctx); err != nil {
			return 0, err
		}
		late = append(late, float64(time.Since(start).Microseconds())/1e3)
		select {
		case err := <-done:
			if ended = true; err != nil {
				return 0, err
			}
		default:
		}
	}
	slices.Sort(late)
	return late[len(late)*99/100], nil
}
