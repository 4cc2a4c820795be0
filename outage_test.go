package rowtide_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestPostgresStopsAndComesBack stops the server fast while a client is connected and while
// changes flow: it is not held up, and when it is back everything goes on with nothing lost.
//
// Covers C37.
func TestPostgresStopsAndComesBack(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"fast", "immediate"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
			db := pgtest.On(t, cluster)
			role := db.Role(t, "web_user")
			db.Exec(t, notes(role))
			s := start(t, settings(t, db, role))
			c := liveNotes(t, s, role, "(snapshot: true)")
			db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'before')")
			until(t, c, isKind("INSERT"))

			stop, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			if err := cluster.StopMode(stop, mode); err != nil {
				t.Fatalf("with Rowtide connected the server did not stop within 10 s: %v", err)
			}
			t.Logf("stopped in %s", time.Since(began).Round(time.Millisecond))
			if err := cluster.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
			afresh(t, db, "INSERT INTO notes VALUES (2, 'ana', 'after'), (3, 'ben', 'hidden')")
			f := until(t, c, func(f *feedtest.Frame) bool { return f.Row != nil && string(f.Row["id"]) == "2" })
			if f.Kind != feedtest.Insert && f.Kind != feedtest.Snapshot {
				t.Errorf("want the row as INSERT, or as SNAPSHOT behind a RESET, got %s", f)
			}
			s.stop()
		})
	}
}

// afresh runs SQL on a connection of its own: those of the pool have not survived.
func afresh(t *testing.T, db *pgtest.DB, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestStoppingDrains stops the service while frames are queued: clients get them, and are told
// to come back.
//
// Covers C117.
func TestStoppingDrains(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	c := liveNotes(t, s, role, "")
	db.Exec(t, "INSERT INTO notes SELECT n, 'ana', repeat('x', 100) FROM generate_series(1, 2000) n")
	first := until(t, c, isKind("INSERT"))

	began := time.Now()
	stopped := make(chan struct{})
	go func() { defer close(stopped); s.stop() }()
	got := 1
	for {
		m, err := c.Next(t.Context())
		if err != nil {
			var closed *client.Closed
			if !errors.As(err, &closed) || closed.Code != 1012 {
				t.Errorf("want the socket closed with 1012, got %v", err)
			}
			break
		}
		if m.Type != "next" {
			t.Fatalf("got %s %s", m.Type, m.Payload)
		}
		got++
	}
	<-stopped
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s, want at most 5 s", took)
	}
	if got != 2000 {
		t.Errorf("got %d of the 2000 frames of %s", got, first)
	}
}

// TestWhatCommitsAfterLiveArrives writes as soon as a subscription says LIVE, again and again.
//
// Covers C22.
func TestWhatCommitsAfterLiveArrives(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t, "INSERT INTO notes VALUES (0, 'ana', '')")
	c := s.dial(t, role, map[string]any{"sub": "ana"})
	pool := db.Pool(t)
	for n := range 500 {
		if err := c.Subscribe(t.Context(), "1", "subscription { notes "+followNotes+" }", nil); err != nil {
			t.Fatal(err)
		}
		until(t, c, isKind("LIVE"))
		if _, err := pool.Exec(t.Context(), "INSERT INTO notes VALUES ($1, 'ana', 'x')", n+1); err != nil {
			t.Fatal(err)
		}
		if f := next(t, c); f.Kind != feedtest.Insert {
			t.Fatalf("want the insert, got %s", f)
		}
		if err := c.Complete(t.Context(), "1"); err != nil {
			t.Fatal(err)
		}
	}
}
