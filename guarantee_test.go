package rowtide_test

import (
	"context"
	"flag"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
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
// SELECTs returned before and after each commit. First they come and go as members of the teams that
// tasks belong to; then tables are emptied now and then, behind which nobody can tell what the rows
// were that came or went.
//
// Covers C18, C52, C86, C103, R07, R33, S44, S45, S46.
func TestEachSubscriberReceivesExactlyTheDifference(t *testing.T) {
	db := pgtest.New(t)
	fx := feedtest.NewFixture(db.Role(t, "web_user"), db.Role(t, "web_reader"))
	db.Exec(t, fx.DDL())
	target := pgtest.New(t, fx.DDL())
	workload := feedtest.Workload{URL: db.Admin, Seed: workloadSeed(t), Changes: *changes, Members: true, NoTruncate: true}
	if err := workload.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	ref := &feedtest.Reference{Source: db.Admin, Target: target.Admin, Tables: fx.Tables(), Subscriptions: fx.Subscriptions(), Asked: fx.Asked()}
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
	deliver(t, fx, workload, followers, func() { s.calm(t, db) })
	t.Logf("delivered in %s", time.Since(began).Round(time.Millisecond))
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

// calm waits until what was committed is dispatched, and nobody is still told whom it made a member.
func (s *service) calm(t *testing.T, db *pgtest.DB) {
	t.Helper()
	end, err := feedtest.CurrentLSN(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "UPDATE tickets SET note = 'behind it all'")
	admin := administer(t, s)
	position := regexp.MustCompile(`(?m)^rowtide_dispatched_position (\S+)`)
	eventually(t, "all is dispatched", func() bool {
		_, metrics := call(t, http.MethodGet, admin+"/metrics", "")
		at, err := strconv.ParseFloat(position.FindStringSubmatch(metrics)[1], 64)
		return err == nil && at > float64(end)
	})
	eventually(t, "all are live", func() bool {
		_, connections := call(t, http.MethodGet, admin+"/connections", "")
		return !strings.Contains(connections, "catching-up")
	})
}

// deliver runs the workload while the followers read, until all have all.
func deliver(t *testing.T, fx *feedtest.Fixture, w feedtest.Workload, followers []*follower, calm func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, f := range followers {
		g.Go(func() error { return f.read(ctx) })
	}
	for range 2 {
		stats, err := w.Run(ctx)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("workload: %+v", stats)
		calm()
		w.Members, w.NoTruncate, w.Changes = false, false, w.Changes/2
		w.Seed++
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
