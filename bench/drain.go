package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers"
)

// perTransaction is how many changes a transaction of a backlog has.
const perTransaction = 100

// Drain measures how fast a backlog of changes is read, decoded, folded, put on the bus, matched
// without a subscriber, and acknowledged, against pg_recvlogical, which throws the bytes away.
// Both read copies of one slot.
type Drain struct {
	Rounds  int `help:"How often each side drains." default:"5"`
	Changes int `help:"Changes to drain, 100 a transaction." default:"300000"`
}

// needs a service that makes slot and publication, and has ended when Drain measures.
func (*Drain) needs() bedConfig { return bedConfig{schema: schema, ended: true} }

func (s *Drain) measure(ctx context.Context, b *bed) (*Result, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := b.fill(ctx, "feed", 0, s.Changes); err != nil {
		return nil, err
	}
	var end string
	if err := conn.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()").Scan(&end); err != nil {
		return nil, err
	}
	const theirs, ours = "pg_recvlogical", "rowtide"
	r := newResult("drain", b.version, s.Rounds, "changes/s", "CPU µs/change")
	changes := float64(s.Changes)
	for range s.Rounds {
		took, err := b.recvlogical(ctx, conn, end)
		if err != nil {
			return nil, err
		}
		r.sample(theirs, changes/took.Seconds(), nan)
		took, used, err := b.drainOnce(ctx, conn, end)
		if err != nil {
			return nil, err
		}
		r.sample(ours, changes/took.Seconds(), float64(used.Nanoseconds())/1e3/changes)
	}
	r.ratio("rowtide / pg_recvlogical", r.at(ours, 0)/r.at(theirs, 0), "at least 1.5")
	r.ratio("rowtide, CPU µs a change", r.at(ours, 1), "at most 2")
	return r, nil
}

// fill writes rows behind an id, perTransaction of them at a time.
func (b *bed) fill(ctx context.Context, table string, behind, rows int) error {
	return b.exec(ctx, fmt.Sprintf(`DO $$ BEGIN
	FOR i IN 0 .. %d LOOP
		INSERT INTO %s SELECT n, 'me', 1, 0, 'a payload of ordinary length' FROM generate_series(%d + i * %d + 1, %d + (i + 1) * %d) n;
		COMMIT;
	END LOOP; END $$`, rows/perTransaction-1, table, behind, perTransaction, behind, perTransaction))
}

const (
	liveSlot = "rowtide"
	copySlot = "bench_copy"
)

func copyOf(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SELECT pg_copy_logical_replication_slot($1, $2)", liveSlot, copySlot)
	if err != nil {
		return fmt.Errorf("copy slot: %w", err)
	}
	return nil
}

// dropCopy drops the copy as soon as nobody reads it any more.
func dropCopy(ctx context.Context, conn *pgx.Conn) error {
	for {
		var active bool
		err := conn.QueryRow(ctx, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", copySlot).Scan(&active)
		if err != nil {
			return err
		}
		if !active {
			_, err := conn.Exec(ctx, "SELECT pg_drop_replication_slot($1)", copySlot)
			return err
		}
		if err := pause(ctx, 5*time.Millisecond); err != nil {
			return err
		}
	}
}

// recvlogical lets PostgreSQL's own client read to the end.
func (b *bed) recvlogical(ctx context.Context, conn *pgx.Conn, end string) (time.Duration, error) {
	program, err := findRecvlogical(ctx)
	if err != nil {
		return 0, err
	}
	if err := copyOf(ctx, conn); err != nil {
		return 0, err
	}
	cmd := exec.CommandContext(ctx, program, "--dbname="+b.url, "--slot="+copySlot, //nolint:gosec // it is PostgreSQL's
		"--start", "--no-loop", "--file=/dev/null", "--fsync-interval=0", "--endpos="+end,
		"--option=proto_version=1", "--option=publication_names=rowtide")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("run pg_recvlogical: %w: %s", err, out)
	}
	return time.Since(start), dropCopy(ctx, conn)
}

// findRecvlogical looks beside the server that runs, and where Debian puts the clients.
func findRecvlogical(ctx context.Context) (string, error) {
	bin, err := testcontainers.Find(ctx)
	if err != nil {
		return "", err
	}
	const name = "pg_recvlogical"
	for _, dir := range []string{bin.Dir, fmt.Sprintf("/usr/lib/postgresql/%d/bin", bin.Version)} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("find pg_recvlogical, the baseline: %w: install PostgreSQL's client programs", err)
	}
	return path, nil
}

// drainOnce runs the service on a copy of the slot until it has acknowledged everything, and
// gives how long that took from the start of the stream, and how much CPU time.
func (b *bed) drainOnce(ctx context.Context, conn *pgx.Conn, end string) (took, used time.Duration, err error) {
	if err := copyOf(ctx, conn); err != nil {
		return 0, 0, err
	}
	cfg := b.config(bedConfig{})
	began := newListener("replication stream started")
	cfg.Slot, cfg.Logger = copySlot, slog.New(began)
	server, err := rowtide.New(cfg)
	if err != nil {
		return 0, 0, err
	}
	runtime.GC()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return server.Run(gctx) })
	g.Go(func() error {
		defer cancel()
		select {
		case <-began.heard:
		case <-gctx.Done():
			return context.Cause(gctx)
		}
		var err error
		used, err = b.measured("drain", func() error {
			start := time.Now()
			defer func() { took = time.Since(start) }()
			return acknowledged(gctx, conn, copySlot, end)
		})
		return err
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return 0, 0, err
	}
	if took == 0 {
		return 0, 0, context.Cause(ctx)
	}
	return took, used, dropCopy(context.WithoutCancel(ctx), conn)
}

// A listener is a slog.Handler that waits for one message and throws all away.
type listener struct {
	slog.Handler

	message string
	once    *sync.Once
	heard   chan struct{}
}

func newListener(message string) *listener {
	return &listener{Handler: slog.DiscardHandler, message: message, once: &sync.Once{}, heard: make(chan struct{})}
}

// Enabled is slog.Handler's.
func (l *listener) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle is slog.Handler's.
func (l *listener) Handle(_ context.Context, r slog.Record) error {
	if r.Message == l.message {
		l.once.Do(func() { close(l.heard) })
	}
	return nil
}

// WithAttrs is slog.Handler's.
func (l *listener) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup is slog.Handler's.
func (l *listener) WithGroup(string) slog.Handler { return l }

// acknowledged waits until a slot has moved up to a position.
func acknowledged(ctx context.Context, conn *pgx.Conn, slot, end string) error {
	for {
		var there bool
		err := conn.QueryRow(ctx, "SELECT confirmed_flush_lsn >= $2 FROM pg_replication_slots WHERE slot_name = $1", slot, end).Scan(&there)
		if err != nil || there {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}
