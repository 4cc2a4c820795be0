package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A resumer follows one subscription and comes back with its last cursor whenever the socket
// ends, as the stock clients do. With a snapshot it keeps the rows, by the whole rule; without,
// it keeps every frame, and nothing but a cursor brings it back.
type resumer struct {
	v    *victim
	sub  *feedtest.Subscription
	tail bool // without a snapshot

	mu     sync.Mutex
	have   *feedtest.Materialiser
	frames []sent // of a tail
	parts  []part // of the frames, where a tail was told to begin anew
	last   uint64 // the commit of its last TRUNCATE
	mark   int    // the last mark that it was shown
	kinds  map[string]int
	back   int       // how often it connected
	asleep time.Time // it reads nothing until then
	conn   *client.Client
	err    error
	moved  chan struct{} // has a token when a frame has come
}

// A sent frame is kept as it was sent, since a long run has a million, with the number of its connection.
type sent struct {
	payload []byte
	conn    int
}

// The mark is a document of its own, whose amount says what it marks.
const (
	markID    = 1
	markOwner = "u01"
)

// resumers follow every table for three of the principals, twice: with a snapshot and without.
func resumers(v *victim, fx *feedtest.Fixture) []*resumer {
	var out []*resumer
	who := map[string]bool{}
	for _, s := range fx.Subscriptions() {
		if !who[s.Principal.Name] && len(who) == 3 {
			continue
		}
		who[s.Principal.Name] = true
		for _, tail := range []bool{false, true} {
			out = append(out, &resumer{v: v, sub: s, tail: tail, have: feedtest.NewMaterialiser(), kinds: map[string]int{}, moved: make(chan struct{}, 1)})
		}
	}
	return out
}

func (r *resumer) name() string {
	if r.tail {
		return r.sub.Name + ", without a snapshot"
	}
	return r.sub.Name
}

func (r *resumer) run(ctx context.Context) {
	cursor := ""
	for ctx.Err() == nil {
		err := r.follow(ctx, &cursor)
		var closed *client.Closed
		if errors.As(err, &closed) && !closed.Retryable() {
			r.fail(err)
		}
		r.mu.Lock()
		failed := r.err
		r.mu.Unlock()
		if failed != nil {
			return
		}
		pause(ctx, time.Duration(100+rand.IntN(200))*time.Millisecond) //nolint:gosec // so that not all dial at once
	}
}

func (r *resumer) fail(err error) {
	r.mu.Lock()
	r.err = err
	r.mu.Unlock()
	r.tell()
}

func (r *resumer) tell() {
	select {
	case r.moved <- struct{}{}:
	default:
	}
}

func (r *resumer) follow(ctx context.Context, cursor *string) error {
	r.sleep(ctx)
	token, err := rowtide.Token(rowtide.Config{JWTSecret: testSecret}, r.sub.Principal.Role, []byte(r.sub.Principal.ClaimsJSON()), time.Hour)
	if err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := client.Dial(dial, "ws://"+r.v.dial+"/graphql", token)
	if err != nil {
		return err
	}
	defer c.CloseNow() //nolint:errcheck // it is over
	r.mu.Lock()
	r.conn = c
	r.back++
	r.mu.Unlock()
	if err := c.Subscribe(ctx, "1", r.sub.Query(r.arguments(*cursor)...), nil); err != nil {
		return err
	}
	for {
		m, err := c.Next(ctx)
		if err != nil {
			return err
		}
		if m.Type != "next" {
			return r.refused(m, cursor)
		}
		f, err := feedtest.ParseFrame(m.Payload, r.sub.Table.Field)
		if err != nil {
			r.fail(err)
			return err
		}
		r.apply(f, m.Payload)
		if r.tail && *cursor == "" {
			r.live(ctx)
		}
		*cursor = f.Cursor // none while a snapshot is on its way
		r.sleep(ctx)
	}
}

func (r *resumer) arguments(cursor string) []string {
	var out []string
	if r.tail {
		out = append(out, "progress: true") // few of the changes may concern it, and the window is bounded in bytes
	} else {
		out = append(out, "snapshot: true")
	}
	if cursor != "" {
		out = append(out, `after: "`+cursor+`"`)
	}
	return out
}

// A part of a tail's frames begins at one of them. Behind live, a position, it should have everything.
type part struct {
	first int
	live  uint64
}

// live notes where the WAL ends once a tail that has begun anew is live.
func (r *resumer) live(ctx context.Context) {
	if len(r.parts) == 0 {
		return // its beginning is that of the whole test
	}
	if at, err := feedtest.CurrentLSN(ctx, r.v.admin); err == nil {
		r.mu.Lock()
		r.parts[len(r.parts)-1].live = uint64(at)
		r.mu.Unlock()
		r.tell()
	}
}

// refused takes the end of a subscription. Where Postgres was away while an image had to be judged
// nothing of it was sent, and the last cursor is good. Where membership may have changed, and by what is
// not known any more, a tail begins anew.
func (r *resumer) refused(m client.Message, cursor *string) error {
	err := errors.New(m.Type + " " + string(m.Payload))
	var problems []struct {
		Extensions struct{ Code, Reason string }
	}
	if json.Unmarshal(m.Payload, &problems) == nil && len(problems) == 1 {
		switch problems[0].Extensions.Reason {
		case "policy_unavailable":
			return err
		case "membership":
			*cursor = ""
			r.mu.Lock()
			r.parts = append(r.parts, part{first: len(r.frames)})
			r.mu.Unlock()
			return err
		}
	}
	r.fail(err)
	return err
}

// sleep reads nothing for as long as it was told to.
func (r *resumer) sleep(ctx context.Context) {
	r.mu.Lock()
	d := time.Until(r.asleep)
	r.mu.Unlock()
	if d > 0 {
		pause(ctx, d)
	}
}

// doze makes it a slow client; where it vanishes, its socket goes too.
func (r *resumer) doze(d time.Duration, vanishes bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asleep = time.Now().Add(d)
	if vanishes && r.conn != nil {
		_ = r.conn.CloseNow()
	}
}

func (r *resumer) apply(f *feedtest.Frame, payload []byte) {
	r.mu.Lock()
	if r.tail {
		r.frames = append(r.frames, sent{payload, r.back})
	} else {
		r.have.Apply(f)
	}
	if string(f.Row["id"]) == fmt.Sprintf("%q", strconv.Itoa(markID)) {
		_, _ = fmt.Sscanf(string(f.Row["amount"]), `"%d`, &r.mark)
	}
	if f.Kind == feedtest.Truncate {
		r.last = uint64(f.Commit())
	}
	r.kinds[f.Kind]++
	r.mu.Unlock()
	r.tell()
}

// until waits for a condition, which is asked for under the lock when a frame has come.
func (r *resumer) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.After(5 * time.Minute) // a machine may have much else to do
	for {
		r.mu.Lock()
		done, failed := ok(), r.err
		r.mu.Unlock()
		if done {
			return
		}
		if failed != nil {
			t.Fatalf("%s: %v", r.name(), failed)
		}
		select {
		case <-r.moved:
		case <-late:
			t.Fatalf("%s: did not come about: %s", r.name(), what)
		}
	}
}

// await waits for a frame of a kind.
func (r *resumer) await(t *testing.T, kind string) {
	t.Helper()
	r.until(t, kind, func() bool { return r.kinds[kind] > 0 })
}

// converge waits until the client has what its SELECT returns.
func (r *resumer) converge(ctx context.Context, t *testing.T, db *pgtest.DB) {
	t.Helper()
	if r.tail {
		return
	}
	want, err := r.sub.Select(ctx, db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	var differences []string
	defer func() {
		for _, d := range differences {
			t.Log(d)
		}
	}()
	r.until(t, "the client has what its SELECT returns", func() bool {
		differences = r.have.Compare(r.sub, want)
		return len(differences) == 0
	})
}

// reach waits until a tail has the TRUNCATE that comes behind an LSN, the last of all frames.
func (r *resumer) reach(t *testing.T, end uint64) {
	t.Helper()
	if !r.tail {
		return
	}
	r.until(t, "the last frame", func() bool {
		n := len(r.parts)
		return r.last > end || n > 0 && r.parts[n-1].live > end // it began anew behind it
	})
}

// inParts are the frames of a tail. Those that one change of membership gives share a cursor, and who
// resumes behind it gets all of them once more.
func (r *resumer) inParts(t *testing.T) []feedtest.Part {
	t.Helper()
	out := make([]feedtest.Part, 1, len(r.parts)+1)
	conn := 0 // of the frame before
	for i, s := range r.frames {
		for n := len(out) - 1; n < len(r.parts) && r.parts[n].first == i; n++ {
			out = append(out, feedtest.Part{Live: pglogrepl.LSN(r.parts[n].live)})
		}
		f, err := feedtest.ParseFrame(s.payload, r.sub.Table.Field)
		if err != nil {
			t.Fatal(err)
		}
		p := &out[len(out)-1]
		if s.conn != conn && (f.Kind == feedtest.Enter || f.Kind == feedtest.Leave) {
			p.Frames = slices.DeleteFunc(p.Frames, func(o *feedtest.Frame) bool {
				return o.Cursor == f.Cursor && (o.Kind == feedtest.Enter || o.Kind == feedtest.Leave)
			})
		}
		conn = s.conn
		p.Frames = append(p.Frames, f)
	}
	return out
}

// judge compares what the tails got with what the reference says: nothing is lost, nothing comes
// twice behind a cursor, nothing is out of order, nothing leaks.
func judge(t *testing.T, streams []*feedtest.Stream, clients []*resumer) {
	t.Helper()
	judged, frames, back, anew := 0, 0, 0, 0
	for _, r := range clients {
		back += r.back
	}
	for _, want := range streams {
		for _, r := range clients {
			if !r.tail || r.sub.Name != want.Subscription.Name {
				continue
			}
			judged++
			frames += len(r.frames)
			anew += len(r.parts)
			for _, failure := range feedtest.JudgeParts(want, r.inParts(t)) {
				t.Errorf("%s: %s", r.name(), failure)
			}
		}
	}
	t.Logf("judged %d frames on %d subscriptions, whose clients connected %d times and began anew %d times", frames, judged, back, anew)
	if judged != len(streams) {
		t.Errorf("judged %d of %d subscriptions", judged, len(streams))
	}
}
