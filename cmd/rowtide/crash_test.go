package main

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) {
	// Tests that ask for an admin listener say where; the others must not take a port that all share.
	_ = os.Setenv("ROWTIDE_ADMIN_LISTEN", "off")
	code := pgtest.Main(m)
	_ = os.RemoveAll(filepath.Dir(programPath()))
	os.Exit(code)
}

// TestKillingTheServiceLosesNothing kills the service at random moments of a workload. The slot
// has then never moved past a transaction that had not been handed on, each restart continues,
// clients that obey the whole rule end with what their SELECT returns, and clients without a
// snapshot resume by their cursor and get everything, once and in order. (What was acknowledged too
// early comes from window slots after a restart: the tests of package replication see it.)
func TestKillingTheServiceLosesNothing(t *testing.T) {
	const kills = 20
	seed := uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	t.Logf("seed: %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test's dice

	db := pgtest.New(t)
	fx := feedtest.NewFixture(db.Role(t, "web_user"), db.Role(t, "web_reader"))
	db.Exec(t, fx.DDL())
	w := feedtest.Workload{URL: db.Admin, Seed: seed, Changes: 1000, MaxRows: 100}
	if err := w.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	v := newVictim(t, db, fx, db.Admin)
	defer v.kill()
	clients := resumers(v, fx)
	ref := reference(t, db, pgtest.New(t, fx.DDL()), fx, clients)
	v.start(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var reading, writing sync.WaitGroup
	for _, c := range clients {
		reading.Go(func() { c.run(ctx) })
	}
	for _, c := range clients {
		c.await(t, "LIVE") // the slot is there: what commits from now on concerns us
	}
	since, err := feedtest.CurrentLSN(ctx, db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	writes, stop := context.WithCancel(ctx)
	writing.Go(func() { keepWriting(writes, t, w) })
	for range kills {
		pause(ctx, time.Duration(100+dice.IntN(900))*time.Millisecond)
		v.kill()
		v.look(t, db)
		v.start(t)
	}
	stop()
	writing.Wait()
	finish(ctx, t, db, fx, clients)
	cancel()
	reading.Wait()
	v.kill()
	v.check(t, db, cdc.LSN(since))
	streams, err := ref.Run(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, streams, clients)
}

// reference is prepared to say what the clients should receive.
func reference(t *testing.T, db, target *pgtest.DB, fx *feedtest.Fixture, clients []*resumer) *feedtest.Reference {
	t.Helper()
	ref := &feedtest.Reference{Source: db.Admin, Target: target.Admin, Tables: fx.Tables(), Asked: fx.Asked()}
	for _, c := range clients {
		if c.tail {
			ref.Subscriptions = append(ref.Subscriptions, c.sub)
		}
	}
	if err := ref.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return ref
}

// finish waits until all clients have all there is.
func finish(ctx context.Context, t *testing.T, db *pgtest.DB, fx *feedtest.Fixture, clients []*resumer) {
	t.Helper()
	for _, c := range clients {
		c.converge(ctx, t, db)
	}
	end, err := fx.Finish(ctx, db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range clients {
		c.reach(t, uint64(end))
	}
}

func keepWriting(ctx context.Context, t *testing.T, w feedtest.Workload) {
	t.Helper()
	for ctx.Err() == nil {
		if _, err := w.Run(ctx); err != nil && ctx.Err() == nil {
			t.Errorf("workload: %v", err)
			return
		}
		w.Seed++
	}
}
