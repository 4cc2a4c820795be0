package replication

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestShutdownSigns(t *testing.T) {
	t.Parallel()
	at := func(ms int) time.Time { return time.UnixMilli(int64(1_000_000 + ms)) }
	t.Run("a burst", func(t *testing.T) {
		t.Parallel()
		s := newShutdownSigns(time.Minute)
		for i := range burst {
			if got, want := s.keepalive(at(5*i)), i == burst-1; got != want {
				t.Errorf("question %d: shutdown is %t", i+1, got)
			}
		}
	})
	t.Run("questions with data between", func(t *testing.T) {
		t.Parallel()
		s := newShutdownSigns(time.Minute)
		for i := range 10 * burst {
			if s.keepalive(at(5 * i)) {
				t.Fatal("taken for a shutdown")
			}
			if i%(burst-1) == burst-2 {
				s.data()
			}
		}
	})
	t.Run("questions at half of a short timeout", func(t *testing.T) {
		t.Parallel()
		const timeout = 100 * time.Millisecond
		s := newShutdownSigns(timeout)
		for i := range 10 * burst {
			if s.keepalive(at(50 * i)) {
				t.Fatal("taken for a shutdown")
			}
		}
	})
}

// stopServer stops as pg_ctl stop does, and fails where that takes longer than the limit.
func stopServer(t *testing.T, c *testcontainers.Cluster, mode string, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	began := time.Now()
	if err := c.StopMode(ctx, mode); err != nil {
		t.Fatalf("stop %s: %v", mode, err)
	}
	t.Logf("stop %s took %s", mode, time.Since(began))
}

// restart starts the server again. The pool's connections died with it.
func restart(t *testing.T, c *testcontainers.Cluster, db *pgtest.DB) {
	t.Helper()
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	db.Pool(t).Reset()
}

// A fast shutdown does not wait for us, whether the handler keeps up, is blocked, is blocked with
// more behind it than the queue and the sockets hold, or has a long way to go. When the server is back the stream goes
// on, with nothing lost.
//
// Covers C37, C38.
func TestFastShutdownIsNotHeldUp(t *testing.T) {
	t.Parallel()
	const rows, size = 300, 100_000 // 30 MB
	for _, tt := range []struct {
		name            string
		blocked, behind bool
		slow            time.Duration // for each row
	}{
		{name: "keeping up"},
		{name: "blocked", blocked: true},
		{name: "blocked with a full queue", blocked: true, behind: true},
		{name: "slow and far behind", behind: true, slow: 100 * time.Millisecond},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Cluster(t, testcontainers.Config{})
			db := pgtest.On(t, cluster, schema)
			f := newFeed()
			gate, blocked, open := blocker()
			stopped := make(chan struct{})
			f.gate = func(ctx context.Context, m pglogrepl.Message) error {
				if tt.blocked {
					return gate(ctx, m)
				}
				if insert, ok := m.(*pglogrepl.InsertMessage); ok && tt.slow > 0 && insert.Tuple.Columns[1].Length == size {
					select {
					case <-time.After(tt.slow):
					case <-stopped:
					case <-ctx.Done():
					}
				}
				return ctx.Err()
			}
			cfg := config(t, db, f)
			cfg.QueueBytes = 64 << 10
			r := run(t, cfg)
			r.connected(t)
			insert(t, db, 1, 3)
			if tt.blocked {
				<-blocked
			} else {
				f.wait(t, 3)
			}
			n := 3
			if tt.behind {
				db.Exec(t, fmt.Sprintf("INSERT INTO t SELECT 1000 + i, repeat('x', %d) FROM generate_series(1, %d) i", size, rows))
				n++
				eventually(t, "the queue is full", func() bool { return r.State().Queued > 0 })
			}
			stopServer(t, cluster, "fast", 10*time.Second)
			open()
			close(stopped)
			restart(t, cluster, db)
			insert(t, db, 10, 12)
			txs := f.wait(t, n+3)
			expectInserted(t, txs[:3], 1, 3)
			expectInserted(t, txs[n:], 10, 12)
		})
	}
}

// Covers C37.
func TestCrashOfTheServerLosesNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, cluster, schema)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	for i := range 3 {
		insert(t, db, 10*i+1, 10*i+10)
		if i == 1 {
			r.wait(t, 15) // not all of it
		}
		stopServer(t, cluster, "kill", 10*time.Second)
		restart(t, cluster, db)
	}
	expectInserted(t, r.wait(t, 30), 1, 30)
}
