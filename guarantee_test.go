package rowtide_test

import (
	"context"
	"flag"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

//nolint:gochecknoglobals // flags of the test binary
var (
	changes = flag.Int("changes", 100_000, "row changes of the workload")
	seed    = flag.Uint64("seed", 0, "seed of the workload; 0 takes one from the clock")
)

// TestEachSubscriberReceivesExactlyTheDifference is the contract: what each of twenty principals
// receives during a concurrent workload is, frame by frame, what Postgres says that their
// SELECTs returned before and after each commit.
//
// Covers C18, C52, C86, C103, R07, R33, S44, S45, S46.
func TestEachSubscriberReceivesExactlyTheDifference(t *testing.T) {
	db := pgtest.New(t)
	fx := feedtest.NewFixture(db.Role(t, "web_user"), db.Role(t, "web_reader"))
	db.Exec(t, fx.DDL())
	target := pgtest.New(t, fx.DDL())
	workload := feedtest.Workload{URL: db.Admin, Seed: workloadSeed(t), Changes: *changes}
	if err := workload.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ref := &feedtest.Reference{Source: db.Admin, Target: target.Admin, Tables: fx.Tables(), Subscriptions: fx.Subscriptions()}
	if err := ref.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}

	cfg := settings(t, db, fx.User, fx.Reader)
	cfg.QueueBytes = 256 << 20 // what is tested is what arrives, not how fast this test reads
	s := start(t, cfg)
	var followers []*follower
	for _, p := range fx.Principals() {
		subs := slices.DeleteFunc(fx.Subscriptions(), func(s *feedtest.Subscription) bool { return s.Principal.Name != p.Name })
		followers = append(followers, s.follow(t, p, subs))
	}
	from, err := feedtest.CurrentLSN(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}

	began := time.Now()
	stats := deliver(t, fx, workload, followers)
	t.Logf("workload: %+v, delivered in %s", stats, time.Since(began).Round(time.Millisecond))
	s.stop()

	streams, err := ref.Run(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("reference: %d commits, %d changes", ref.Commits, ref.Changes)
	judge(t, streams, followers)
}

func workloadSeed(t *testing.T) uint64 {
	t.Helper()
	n := *seed
	if n == 0 {
		n = uint64(time.Now().UnixNano())
	}
	t.Logf("seed: -seed %d", n)
	return n
}

// deliver runs the workload while the followers read, until all have all.
func deliver(t *testing.T, fx *feedtest.Fixture, w feedtest.Workload, followers []*follower) feedtest.Stats {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range followers {
		g.Go(func() error { return f.read(ctx) })
	}
	stats, err := w.Run(ctx)
	if err != nil {
		t.Fatal(err)
	}
	end, err := fx.Finish(ctx, w.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range followers {
		f.end <- uint64(end)
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return stats
}

func judge(t *testing.T, streams []*feedtest.Stream, followers []*follower) {
	t.Helper()
	judged, frames := 0, 0
	for _, want := range streams {
		for _, f := range followers {
			for i, sub := range f.subs {
				if sub.Name != want.Subscription.Name {
					continue
				}
				got := f.frames(t, i)
				judged++
				frames += len(got)
				for _, failure := range feedtest.Judge(want, got) {
					t.Errorf("%s: %s", sub.Name, failure)
				}
			}
		}
	}
	t.Logf("judged %d frames on %d subscriptions", frames, judged)
	if judged != len(streams) {
		t.Errorf("judged %d of %d subscriptions", judged, len(streams))
	}
}
