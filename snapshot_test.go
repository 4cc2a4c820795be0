package rowtide_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestACommitDuringASnapshotIsSeenExactlyOnce reads a table in portions while transactions count
// rows up that lie in different ones: each row's count goes on from what the snapshot said without
// a step left out or taken twice.
//
// Covers C103, C104, C106.
func TestACommitDuringASnapshotIsSeenExactlyOnce(t *testing.T) {
	t.Parallel()
	const rows, clients = 45_000, 4
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, `CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, filler text);
		ALTER TABLE counters REPLICA IDENTITY FULL;
		INSERT INTO counters SELECT n, 0, repeat('x', 200) FROM generate_series(1, `+strconv.Itoa(rows)+`) n;
		GRANT SELECT ON counters TO `+role+`;
		COMMENT ON TABLE counters IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	s := start(t, settings(t, db, role))
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	writes, stop := context.WithCancel(ctx)
	// One transaction for some rows that a client has read: all of them together fit into a queue,
	// so that no client is cut off, however slow the machine.
	pace := make(chan struct{}, 1)
	var writing sync.WaitGroup
	for n := range uint64(2) {
		writing.Go(func() { countUp(ctx, t, writes.Done(), pace, db, n, rows) })
	}
	reading, all := errgroup.WithContext(ctx)
	counted := make([]counter, clients)
	live := make(chan struct{}, clients)
	for n := range clients {
		socket := s.dial(t, role, map[string]any{"sub": "ana"})
		counted[n].live = func() { live <- struct{}{} }
		if n == 0 {
			counted[n].each = everyNth(60, pace)
		}
		reading.Go(func() error { return counted[n].read(all, socket, "-1") })
	}
	for range clients {
		select {
		case <-live:
		case <-all.Done():
			t.Fatal(reading.Wait())
		}
	}
	stop()
	writing.Wait()
	db.Exec(t, "UPDATE counters SET n = -1 WHERE id = 1")
	if err := reading.Wait(); err != nil {
		t.Fatal(err)
	}
	want := pgtest.One[int](t, db, "SELECT sum(n)::int FROM counters")
	for n := range counted {
		sum := 0
		for _, v := range counted[n].n {
			sum += v
		}
		if sum != want || len(counted[n].n) != rows {
			t.Errorf("client %d counted up to %d in %d rows, want %d in %d", n, sum, len(counted[n].n), want, rows)
		}
		t.Logf("client %d got %d changes behind its snapshot", n, counted[n].changes)
	}
	if counted[0].changes == 0 {
		t.Error("nothing changed during the snapshot: nothing was tested")
	}
}

// everyNth gives a token at every nth call, unless one is there still.
func everyNth(n int, tokens chan<- struct{}) func() {
	calls := 0
	return func() {
		if calls++; calls%n == 0 {
			select {
			case tokens <- struct{}{}:
			default:
			}
		}
	}
}

// countUp commits a transaction for each token that counts up a few rows from anywhere in the
// table, until it is stopped; the last one has then been answered.
func countUp(ctx context.Context, t *testing.T, stop, tokens <-chan struct{}, db *pgtest.DB, seed uint64, rows int) {
	t.Helper()
	dice := rand.New(rand.NewPCG(seed, 7)) //nolint:gosec // a test's dice
	conn, err := pgx.Connect(ctx, db.Admin)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for {
		select {
		case <-stop:
			return
		case <-tokens:
		}
		first := 2 + dice.IntN(rows/4)
		_, err := conn.Exec(ctx, "UPDATE counters SET n = n + 1 WHERE id IN ($1, $2, $3, $4)", first, first+rows/4, first+rows/2, first+3*(rows/4)-2)
		if err != nil {
			t.Error(err)
			return
		}
	}
}

// A counter is a client that holds each row's count against what it had.
type counter struct {
	subscribed bool
	n          map[string]int
	changes    int
	each       func() // nil, or called at each frame of a row
	live       func() // nil, or called at each LIVE
}

// read reads up to LIVE, or up to the count -1.
func (c *counter) read(ctx context.Context, socket *client.Client, until string) error {
	if !c.subscribed {
		c.subscribed, c.n = true, map[string]int{}
		if err := socket.Subscribe(ctx, "1", "subscription { counters(snapshot: true) { kind rowId key { id } row { id n filler } reason cursor } }", nil); err != nil {
			return err
		}
	}
	for {
		m, err := socket.Next(ctx)
		if err != nil {
			return err
		}
		f, err := feedtest.ParseFrame(m.Payload, "counters")
		if err != nil {
			return err
		}
		switch f.Kind {
		case feedtest.Reset:
			clear(c.n)
			continue
		case feedtest.Live:
			if c.live != nil {
				c.live()
			}
			if until == "LIVE" {
				return nil
			}
			continue
		}
		id := string(f.Row["id"])
		n, err := strconv.Atoi(string(f.Row["n"]))
		if err != nil {
			return err
		}
		had, there := c.n[id]
		switch {
		case f.Kind == feedtest.Snapshot && there:
			return fmt.Errorf("row %s is in the snapshot twice", id)
		case f.Kind == feedtest.Update && n == -1:
			c.n[id] = n
			return nil
		case f.Kind == feedtest.Update && (!there || n != had+1):
			return fmt.Errorf("row %s went from %d to %d", id, had, n)
		case f.Kind == feedtest.Update:
			c.changes++
		}
		c.n[id] = n
		if c.each != nil {
			c.each()
		}
	}
}

// TestASnapshotWhoseConnectionsDieIsWholeAllTheSame ends the sessions that read a snapshot, several
// times while a client takes it: it goes on with the next portion, or starts over behind a RESET. The
// client has each row once, and all of them. Either would do here, so what does not end the snapshot
// with the first connection is seen by TestSnapshotThatCannotBeReadIsTriedAgainAndThenGivenUp alone.
//
// Covers C105.
func TestASnapshotWhoseConnectionsDieIsWholeAllTheSame(t *testing.T) {
	t.Parallel()
	const rows = 30_000
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, `CREATE TABLE counters (id int PRIMARY KEY, n int NOT NULL, filler text);
		ALTER TABLE counters REPLICA IDENTITY FULL;
		INSERT INTO counters SELECT n, 0, repeat('x', 200) FROM generate_series(1, `+strconv.Itoa(rows)+`) n;
		GRANT SELECT ON counters TO `+role+`;
		COMMENT ON TABLE counters IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	cfg := settings(t, db, role)
	cfg.QueueBytes = 64 << 10
	s := start(t, cfg)
	ended, sessions := 0, 0
	var c counter
	c.each = func() {
		if ended < 3 && len(c.n) == 8000*(ended+1) {
			ended++
			sessions += pgtest.One[int](t, db, `SELECT count(pg_terminate_backend(pid))::int FROM pg_stat_activity WHERE application_name = 'rowtide snapshot' AND datname = current_database()`)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if err := c.read(ctx, s.dial(t, role, map[string]any{"sub": "ana"}), "LIVE"); err != nil {
		t.Fatal(err)
	}
	if len(c.n) != rows || ended != 3 || sessions == 0 {
		t.Errorf("%d rows came, want %d; %d sessions were ended in %d goes", len(c.n), rows, sessions, ended)
	}
}
