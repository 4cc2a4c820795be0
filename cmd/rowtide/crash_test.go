package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/internal/client"
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
// and clients that obey the whole rule end with what their SELECT returns.
//
// Covers C01, C06.
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
	v := newVictim(t, db, fx)
	defer v.kill()
	v.start(t)
	clients := resumers(v, fx)
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
	pause(ctx, time.Second)
	stop()
	writing.Wait()
	for _, c := range clients {
		c.converge(ctx, t, db)
	}
	cancel()
	reading.Wait()
	v.kill()
	v.check(t, db, cdc.LSN(since))
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

// A resumer follows one subscription with a snapshot, and comes back with its last cursor
// whenever the socket ends, as the stock clients do.
type resumer struct {
	v   *victim
	sub *feedtest.Subscription

	mu    sync.Mutex
	have  *feedtest.Materialiser
	kinds map[string]int
	err   error
	moved chan struct{} // has a token when a frame has come
}

// resumers follow every table for three of the principals.
func resumers(v *victim, fx *feedtest.Fixture) []*resumer {
	var out []*resumer
	who := map[string]bool{}
	for _, s := range fx.Subscriptions() {
		if !who[s.Principal.Name] && len(who) == 3 {
			continue
		}
		who[s.Principal.Name] = true
		out = append(out, &resumer{v: v, sub: s, have: feedtest.NewMaterialiser(), kinds: map[string]int{}, moved: make(chan struct{}, 1)})
	}
	return out
}

func (r *resumer) run(ctx context.Context) {
	cursor := ""
	for ctx.Err() == nil {
		err := r.follow(ctx, &cursor)
		var closed *client.Closed
		if errors.As(err, &closed) && !closed.Retryable() {
			r.fail(err)
			return
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func (r *resumer) fail(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

func (r *resumer) follow(ctx context.Context, cursor *string) error {
	token, err := rowtide.Token(rowtide.Config{JWTSecret: testSecret}, r.sub.Principal.Role, []byte(r.sub.Principal.ClaimsJSON()), time.Hour)
	if err != nil {
		return err
	}
	c, err := client.Dial(ctx, "ws://"+r.v.addr+"/graphql", token)
	if err != nil {
		return err
	}
	defer c.CloseNow() //nolint:errcheck // it is over
	arguments := []string{"snapshot: true"}
	if *cursor != "" {
		arguments = append(arguments, `after: "`+*cursor+`"`)
	}
	if err := c.Subscribe(ctx, "1", r.sub.Query(arguments...), nil); err != nil {
		return err
	}
	for {
		m, err := c.Next(ctx)
		if err != nil {
			return err
		}
		if m.Type != "next" {
			err := errors.New(m.Type + " " + string(m.Payload))
			r.fail(err)
			return err
		}
		f, err := feedtest.ParseFrame(m.Payload, r.sub.Table.Field)
		if err != nil {
			r.fail(err)
			return err
		}
		r.apply(f)
		*cursor = f.Cursor // none while a snapshot is on its way
	}
}

func (r *resumer) apply(f *feedtest.Frame) {
	r.mu.Lock()
	r.have.Apply(f)
	r.kinds[f.Kind]++
	r.mu.Unlock()
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

// await waits for a frame of a kind.
func (r *resumer) await(t *testing.T, kind string) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		n, err := r.kinds[kind], r.err
		r.mu.Unlock()
		if n > 0 {
			return
		}
		select {
		case <-r.moved:
		case <-late:
			t.Fatalf("%s: no %s came: %v", r.sub.Name, kind, err)
		}
		if err != nil {
			t.Fatalf("%s: %v", r.sub.Name, err)
		}
	}
}

// converge waits until the client has what its SELECT returns.
func (r *resumer) converge(ctx context.Context, t *testing.T, db *pgtest.DB) {
	t.Helper()
	want, err := r.sub.Select(ctx, db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	late := time.After(30 * time.Second)
	for {
		r.mu.Lock()
		differences, failed := r.have.Compare(r.sub, want), r.err
		r.mu.Unlock()
		if len(differences) == 0 {
			return
		}
		if failed != nil {
			t.Fatalf("%s: %v", r.sub.Name, failed)
		}
		select {
		case <-r.moved:
		case <-late:
			t.Fatalf("%s: the client differs from its SELECT: %v", r.sub.Name, differences)
		}
	}
}
