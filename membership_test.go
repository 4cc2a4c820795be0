package rowtide_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A holder is what a client that follows some subscriptions with snapshots holds, and the frames
// that it was sent.
type holder struct {
	subs []*feedtest.Subscription

	mu     sync.Mutex
	tables []*feedtest.Materialiser
	frames [][]*feedtest.Frame
	resets map[string]int // by reason
	moved  chan struct{}  // closed, and made anew, with each frame
	err    error
}

// hold follows a principal's subscriptions, each with a snapshot, until the test ends.
func (s *service) hold(t *testing.T, p *feedtest.Principal, subs []*feedtest.Subscription) *holder {
	t.Helper()
	m := &holder{subs: subs, frames: make([][]*feedtest.Frame, len(subs)), resets: map[string]int{}, moved: make(chan struct{})}
	conn := s.dial(t, p.Role, p.Claims)
	for i, sub := range subs {
		m.tables = append(m.tables, feedtest.NewMaterialiser())
		if err := conn.Subscribe(t.Context(), strconv.Itoa(i), sub.Query("snapshot: true"), nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			msg, err := conn.Next(ctx)
			if err == nil && msg.Type != "next" {
				err = &unexpected{msg}
			}
			m.take(msg.ID, msg.Payload, err)
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return m
}

func (m *holder) take(id string, payload []byte, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	defer func() {
		close(m.moved)
		m.moved = make(chan struct{})
	}()
	if err != nil {
		m.err = err
		return
	}
	i, _ := strconv.Atoi(id)
	f, err := feedtest.ParseFrame(payload, m.subs[i].Table.Field)
	if err != nil {
		m.err = err
		return
	}
	m.tables[i].Apply(f)
	m.frames[i] = append(m.frames[i], f)
	if f.Kind == feedtest.Reset && f.Reason != "" {
		m.resets[f.Reason]++
	}
}

// await waits until subscription i holds what its SELECT returns.
func (m *holder) await(t *testing.T, i int, rows feedtest.Rows) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		m.mu.Lock()
		failures, moved, err := m.tables[i].Compare(m.subs[i], rows), m.moved, m.err
		m.mu.Unlock()
		if len(failures) == 0 {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", m.subs[i].Name, err)
		}
		select {
		case <-moved:
		case <-deadline:
			t.Fatalf("%s is not what its SELECT returns: %s", m.subs[i].Name, strings.Join(failures, "\n"))
		}
	}
}

// TestMembershipChangesReachWhoeverTheyConcern has people join and leave teams while the tasks of
// these change, in one transaction and in many. What everybody receives is, frame by frame, the
// difference of what their SELECT returns before and after each commit, those rows included that the
// commit did not write. Where tables are emptied meanwhile some begin anew; they too end up with what
// their SELECT returns, and no frame has an image that no SELECT before or after its commit returned.
//
// Covers R28, R29, R31, S56.
func TestMembershipChangesReachWhoeverTheyConcern(t *testing.T) {
	t.Run("exactly", func(t *testing.T) {
		membershipChanges(t, feedtest.Workload{Changes: *changes / 20, NoTruncate: true}, 1)
	})
	t.Run("where tables are emptied", func(t *testing.T) {
		membershipChanges(t, feedtest.Workload{Changes: min(*changes/20, 1500)}, 0)
	})
}

// membershipChanges wants a share of the subscriptions to be exact from the beginning to the end.
func membershipChanges(t *testing.T, workload feedtest.Workload, share float64) {
	t.Helper()
	db := pgtest.New(t)
	fx := feedtest.NewFixture(db.Role(t, "web_user"), db.Role(t, "web_reader"))
	db.Exec(t, fx.DDL())
	target := pgtest.New(t, fx.DDL())
	workload.URL, workload.Seed, workload.MaxRows, workload.Members = db.Admin, workloadSeed(t), 30, true
	if err := workload.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	var subs []*feedtest.Subscription
	for _, s := range fx.Subscriptions() {
		if s.Table.Name == "tasks" {
			subs = append(subs, s)
		}
	}
	cfg := settings(t, db, fx.User, fx.Reader)
	cfg.QueueBytes = 256 << 20
	ref := &feedtest.Reference{Source: db.Admin, Target: target.Admin, Tables: fx.Tables(), Subscriptions: subs, Full: true}
	if err := ref.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := start(t, cfg)
	from, err := feedtest.CurrentLSN(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	var holders []*holder
	for _, p := range fx.Principals() {
		var own []*feedtest.Subscription
		for _, sub := range subs {
			if sub.Principal == p {
				own = append(own, sub)
			}
		}
		m := s.hold(t, p, own)
		for i, sub := range own {
			rows, err := sub.Select(t.Context(), db.Admin)
			if err != nil {
				t.Fatal(err)
			}
			m.await(t, i, rows)
		}
		holders = append(holders, m)
	}
	for range 2 {
		stats, err := workload.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("workload: %+v", stats)
		// Whoever the subscribers were working with, they lose them all, and find others.
		db.Exec(t, "BEGIN; TRUNCATE members; INSERT INTO members SELECT t, 'u0' || u FROM generate_series(1, 6) t, generate_series(1, 9) u WHERE (t + u) % 4 = 0; COMMIT")
		db.Exec(t, "TRUNCATE members")
		db.Exec(t, "INSERT INTO members SELECT t, 'u0' || u FROM generate_series(1, 6) t, generate_series(1, 9) u WHERE (t + u) % 3 = 0")
		workload.Seed++
	}
	for _, m := range holders {
		for i, sub := range m.subs {
			rows, err := sub.Select(t.Context(), db.Admin)
			if err != nil {
				t.Fatal(err)
			}
			m.await(t, i, rows)
		}
	}
	streams, err := ref.Run(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	judgeHolders(t, streams, holders, share)
}

// judgeHolders holds what everybody was sent against what it should have been: frame by frame, all that
// changed, and of those who had to begin anew, nothing that did not.
func judgeHolders(t *testing.T, streams []*feedtest.Stream, holders []*holder, share float64) {
	t.Helper()
	frames, exact, resets := 0, 0, map[string]int{}
	for _, m := range holders {
		for reason, n := range m.resets {
			resets[reason] += n
		}
		for i, sub := range m.subs {
			for _, want := range streams {
				if want.Subscription != sub {
					continue
				}
				begun := 0
				for _, f := range m.frames[i] {
					switch {
					case f.Kind == feedtest.Reset:
						begun++
					case f.Transaction != nil:
						frames++
					}
				}
				failures := judgeParts(want, m.frames[i])
				if begun == 1 {
					exact++
					live := slices.IndexFunc(m.frames[i], func(f *feedtest.Frame) bool { return f.Kind == feedtest.Live })
					failures = feedtest.Judge(want, m.frames[i][live:])
				}
				for _, failure := range failures {
					t.Errorf("%s: %s", sub.Name, failure)
				}
			}
		}
	}
	t.Logf("%d frames of changes, %d subscriptions of %d exact from the beginning to the end, resets %v, expected %v", frames, exact, len(streams), resets, feedtest.Kinds(streams))
	if frames < 100 || float64(exact) < share*float64(len(streams)) {
		t.Error("there was too little to judge, or too many began anew")
	}
}

// judgeParts judges frames of which some are missing where the subscription began anew.
func judgeParts(want *feedtest.Stream, frames []*feedtest.Frame) []string {
	visible, complete := feedtest.NewVisibilityValidator(want), feedtest.NewCompletenessValidator(want)
	for _, f := range frames {
		visible.Note(f)
		complete.Note(f)
	}
	return append(visible.Failures(), slices.DeleteFunc(complete.Failures(), func(s string) bool { return strings.HasPrefix(s, "missing: ") || strings.HasPrefix(s, "…") })...)
}
