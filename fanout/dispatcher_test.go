package fanout_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

// What is hidden is not even found by the index, so for S44 alone see TestTransitionIsTheRuleOfTheDesign.
//
// Covers S45.
func TestHiddenImagesAreNeverSent(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann := w.follow(d, "ann", "")
	w.write(put(1, "bob", "private"))
	w.write(put(1, "ann", "public"))
	w.write(put(1, "bob", "private again"))
	w.write(del(1))
	w.write(put(2, "ann", "end"))
	ann.expect("ENTER 1 public", "LEAVE 1 public->", "INSERT 2 end")
	for _, m := range ann.got {
		if m.Kind == "ENTER" && m.Old != nil || m.Kind == "LEAVE" && (m.Row != nil || m.Key == nil) {
			t.Errorf("%s with row %v, old %v, key %v", m.Kind, m.Row, m.Old, m.Key)
		}
	}
}

// Covers C87.
func TestUpdateOfWhatTheRoleMayNotReadSendsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann := w.follow(d, "ann", "")
	w.write(put(1, "ann", "a"))
	secret := row(1, "ann", "a")
	secret[3] = cdc.TextValue("another")
	w.write(write{1, secret})
	w.write(put(1, "ann", "b"))
	ann.expect("INSERT 1 a", "UPDATE 1 a-> b")
	if got := ann.got[2].Changed; !slices.Equal(got, []string{"note"}) {
		t.Errorf("changed is %v", got)
	}
}

func TestKindsFilterChangesButNotControl(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann := w.follow(d, "ann", "kinds: [DELETE, LEAVE]")
	w.write(put(1, "ann", "a"), put(2, "ann", "a"))
	w.write(put(1, "ann", "b"))
	w.write(put(1, "bob", "b"))
	w.write(del(2))
	ann.expect("LEAVE 1 b->", "DELETE 2 a->")
}

// Covers S40, S41, R25.
func TestWhereIsAskedBehindThePolicies(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann := w.follow(d, "ann", `where: {note: {eq: "a"}}`)
	// Evaluated on bob's row, where cannot be told: the note is not in the image.
	hidden := put(1, "bob", "a")
	hidden.row[2] = cdc.UnchangedValue()
	w.write(hidden)
	w.write(put(2, "ann", "b"))
	w.write(put(2, "ann", "a"))
	w.write(put(2, "ann", "c"))
	w.write(put(3, "ann", "a"))
	ann.expect("ENTER 2 a", "LEAVE 2 a->", "INSERT 3 a")
	own := put(4, "ann", "a")
	own.row[2] = cdc.UnchangedValue()
	w.write(own)
	ann.expectResync("undecodable")
}

// Covers S47.
func TestWhatCannotBeJudgedConcernsItsSubscriberAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.verdict = func(p *authz.Principal, image cdc.Row) authz.Verdict {
		if p.Subject == "bob" && image[2].Text() == "poison" {
			return authz.Undecided
		}
		return policy(p, image)
	}
	d := w.start(fanout.Config{})
	ann, bob, heals := w.follow(d, "ann", ""), w.follow(d, "bob", ""), w.subscribe(d, "bob", "snapshot: true")
	heals.expect("RESET", "LIVE")
	w.write(put(1, "ann", "poison"))
	w.write(put(2, "ann", "b"), put(3, "bob", "b"))
	ann.expect("INSERT 1 poison", "INSERT 2 b")
	bob.expectResync("policy_unavailable")
	heals.expect("RESET policy_unavailable")
	for m := ""; m != "LIVE"; {
		x, err := heals.read(t.Context())
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		m = x.String()
	}
	w.write(put(3, "bob", "c"))
	for heals.rows["3"] != "c" {
		if _, err := heals.read(t.Context()); err != nil {
			t.Fatalf("read: %v", err)
		}
	}
}

// A forgotten verdict is no permission.
func TestJudgeThatForgetsShowsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.verdict = func(*authz.Principal, cdc.Row) authz.Verdict { return 0 }
	d := w.start(fanout.Config{})
	ann := w.follow(d, "ann", "")
	w.write(put(1, "ann", "a"))
	ann.expectResync("policy_unavailable")
	if len(ann.got) != 1 {
		t.Errorf("it was sent %v", ann.got)
	}
}

// Covers R32, C48.
func TestChangeWithoutItsOldImageResyncs(t *testing.T) {
	t.Parallel()
	for _, op := range []cdc.Op{cdc.Update, cdc.Delete} {
		w := newWorld(t, membus.Config{})
		d := w.start(fanout.Config{})
		ann, inserts := w.follow(d, "ann", ""), w.follow(d, "ann", "kinds: [INSERT]")
		keyOnly := *w.relation
		keyOnly.Identity = cdc.IdentityDefault
		e := cdc.Event{Op: op, Relation: &keyOnly, Old: row(1, "ann", "a"), New: row(1, "ann", "b")}
		if op == cdc.Delete {
			e.New = nil
		}
		w.publishEvents(e)
		ann.expectResync("undecodable")
		w.write(put(2, "ann", "c"))
		inserts.expect("INSERT 2 c") // it never wanted to know
	}
}

// Covers C57.
func TestTruncateGoesToEverySubscriberOfTheTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann, bob := w.follow(d, "ann", ""), w.follow(d, "bob", "where: {note: {eq: \"x\"}}")
	w.publishEvents(cdc.Event{Op: cdc.Truncate, Relation: w.relation})
	ann.expect("TRUNCATE")
	bob.expect("TRUNCATE")
	if m := ann.got[1]; m.RowID != "" || m.Key != nil || m.Cursor == nil || m.Transaction == nil {
		t.Errorf("truncate is %+v", m)
	}
}

// Covers C66.
func TestGapResyncsWhoIsConcernedWithItsReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	other := &cdc.Relation{OID: 99, Schema: "public", Name: "other"}
	ann, heals := w.follow(d, "ann", ""), w.subscribe(d, "ann", "snapshot: true")
	heals.expect("RESET", "LIVE")
	w.publishEvents(cdc.Event{Op: cdc.Gap, Relation: other, Reason: "transaction_size"})
	w.write(put(1, "ann", "a"))
	ann.expect("INSERT 1 a")
	heals.expect("INSERT 1 a")
	w.publishEvents(cdc.Event{Op: cdc.Gap, Relation: w.relation, Reason: "transaction_size"})
	ann.expectResync("transaction_size")
	heals.expect("RESET transaction_size", "SNAPSHOT 1 a", "LIVE")
	second := w.follow(d, "ann", "")
	w.publishEvents(cdc.Event{Op: cdc.Gap, Reason: "slot_lost"})
	second.expectResync("slot_lost")
	heals.expect("RESET slot_lost", "SNAPSHOT 1 a", "LIVE")
}

// Covers C108.
func TestLastIsTrueOfTheLastFrameOfATransactionAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann := w.follow(d, "ann", "")
	// Bob's rows fill the last batches: that ann's second row is her last is known only then.
	w.publish(t.Context(), 1, put(1, "ann", "a"), put(2, "ann", "a"), put(3, "bob", "a"), put(4, "bob", "a"))
	w.publish(t.Context(), 1, put(3, "bob", "b"))
	w.publish(t.Context(), 10, put(1, "ann", "b"))
	ann.expect("INSERT 1 a", "INSERT 2 a", "UPDATE 1 a-> b")
	for i, want := range []bool{false, true, true} {
		if got := ann.got[i+1].Transaction; got == nil || got.Last == nil || *got.Last != want {
			t.Errorf("frame %d: last is %v, want %v", i+1, got.Last, want)
		}
	}
	if ann.got[1].Transaction.ID != ann.got[2].Transaction.ID || ann.got[2].Transaction.ID == ann.got[3].Transaction.ID {
		t.Error("transaction ids do not tell transactions apart")
	}
}

// Covers C116.
func TestSubscribersOfOneChangeShareItsBytesAndCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.verdict = func(*authz.Principal, cdc.Row) authz.Verdict { return authz.Visible }
	d := w.start(fanout.Config{})
	a, b := w.follow(d, "ann", "").sub, w.follow(d, "bob", "").sub
	w.write(put(1, "ann", "a"))
	x, y := next(t, a), next(t, b)
	if &x[0] != &y[0] {
		t.Errorf("two subscribers got copies: %s %s", x, y)
	}
	if m := decode(t, x); m.Cursor == nil || len(*m.Cursor) != 32 {
		t.Errorf("cursor is %v", m.Cursor)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.asked); n != 1 {
		t.Errorf("the Judge was asked %d times for one batch", n)
	}
}

func TestJudgeIsAskedOnceForEachDistinctPrincipal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	for _, user := range []string{"ann", "ann", "bob", "ann"} {
		w.follow(d, user, "")
	}
	c := w.follow(d, "ann", "")
	w.write(put(1, "ann", "a"), put(2, "bob", "b"))
	w.publishEvents(cdc.Event{Op: cdc.Insert, Relation: &cdc.Relation{OID: 99}, New: cdc.Row{}})
	w.write(put(1, "ann", "b"))
	c.expect("INSERT 1 a", "UPDATE 1 a-> b")
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) != 2 {
		t.Fatalf("%d questions, want 2: a table without subscribers is not judged", len(w.asked))
	}
	if q := w.asked[0]; len(q.Principals) != 2 || len(q.Images) != 2 || q.XID == 0 {
		t.Errorf("question with %d principals, %d images, xid %d", len(q.Principals), len(q.Images), q.XID)
	}
}

// Covers C22.
func TestEverythingThatCommitsAfterLiveArrives(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{MaxLag: 4 << 10}) // the writer waits for the dispatcher
	w.write(put(1000, "ann", "0"))
	d := w.start(fanout.Config{})
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() { // others write all the time
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				w.publish(context.Background(), 1, put(2000+i%7, "bob", "x"+string(rune('a'+i%26))), put(3000, "bob", string(rune('a'+i%25))))
			}
		}
	}()
	rounds := 2000
	if testing.Short() {
		rounds = 200
	}
	for i := range rounds {
		c := w.follow(d, "ann", "")
		note := "n" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676))
		w.publish(t.Context(), 1, put(1000, "ann", note))
		m, err := c.read(t.Context())
		if err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
		for m.Row["note"] != note { // what committed just before LIVE may come too
			if m, err = c.read(t.Context()); err != nil {
				t.Fatalf("round %d: %v", i, err)
			}
		}
		c.sub.Close()
	}
	close(stop)
	<-done
}

// Covers C110, S13.
func TestSlowSubscriptionEndsAndSlowsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	w.write(put(1, "ann", "0"))
	d := w.start(fanout.Config{Limits: fanout.Limits{QueueBytes: 4000}})
	slow, quick := w.follow(d, "ann", ""), w.follow(d, "ann", "")
	want := []string{}
	for i := range 40 {
		w.write(put(100+i, "ann", "a"))
		m, err := quick.read(t.Context())
		if err != nil {
			t.Fatalf("quick: %v", err)
		}
		want = append(want, m.String())
	}
	if _, err := slow.expectEnd(); !errors.Is(err, fanout.ErrSlow) {
		t.Fatalf("slow: %v, want ErrSlow", err)
	}
	again := w.subscribe(d, "ann", `after: "`+slow.last+`"`)
	var got []string
	for len(got) < len(want) {
		m, err := again.read(t.Context())
		if err != nil {
			t.Fatalf("resume: %v", err)
		}
		if m.Kind != "LIVE" {
			got = append(got, m.String())
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("resumed with %s\nwant %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// Covers C114.
func TestProgressTellsAFresherCursorInSilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		w.write(put(1, "bob", "0"))
		d := w.start(fanout.Config{ProgressInterval: 5 * time.Second})
		c, silent := w.follow(d, "ann", "progress: true, kinds: [INSERT]"), w.follow(d, "ann", "")
		first := c.last
		w.write(put(1, "bob", "1"))
		c.expect("PROGRESS")
		if c.last == first {
			t.Error("the cursor is no fresher")
		}
		<-time.After(time.Minute) // nothing has moved
		w.write(put(2, "ann", "a"))
		c.expect("INSERT 2 a")
		<-time.After(time.Minute) // the frame has told of the last position but one
		w.write(put(1, "bob", "2"))
		c.expect("PROGRESS")
		silent.expect("INSERT 2 a")
		d2 := w.subscribe(d, "ann", `after: "`+c.last+`"`)
		d2.expect("LIVE")
		c.sub.Close()
		silent.sub.Close()
		d2.sub.Close()
		w.stop()
		_ = w.bus.Close()
	})
}

// Covers C117.
func TestDrainFlushesWhatIsQueued(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, membus.Config{})
		d := w.start(fanout.Config{})
		c := w.follow(d, "ann", "")
		for i := range 10 {
			w.write(put(i, "ann", "a"))
		}
		synctest.Wait() // all is dispatched
		done := make(chan error, 1)
		go func() { done <- d.Drain(context.Background()) }()
		synctest.Wait() // it has told everybody, and waits for the reader
		if _, err := d.Subscribe(t.Context(), principal("ann", time.Time{}), request("")); !errors.Is(err, fanout.ErrDraining) {
			t.Errorf("subscribe while draining: %v", err)
		}
		n, err := c.expectEnd()
		if n != 10 || !errors.Is(err, fanout.ErrDraining) {
			t.Errorf("%d frames and then %v, want 10 and ErrDraining", n, err)
		}
		c.sub.Close()
		if err := <-done; err != nil {
			t.Errorf("drain: %v", err)
		}
		w.stop()
		_ = w.bus.Close()
	})
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	c := w.follow(d, "ann", "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Drain(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("drain: %v, want context.Canceled", err)
	}
	if n, err := c.expectEnd(); n != 0 || !errors.Is(err, fanout.ErrDraining) {
		t.Errorf("%d frames and then %v: what is queued was to be dropped", n, err)
	}
}

func TestQueryIsAnsweredAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	r, err := d.Subscribe(t.Context(), principal("ann", time.Time{}), schema.Request{Query: "{ __typename }"})
	if err != nil || r.Subscription != nil || string(r.Result) != `{"data":{"__typename":"Query"}}` {
		t.Errorf("got %s, %v", r.Result, err)
	}
}

func TestRoleThatIsNotServedIsForbidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	_, err := d.Subscribe(t.Context(), authz.NewPrincipal("nobody", "", nil, time.Time{}), request(""))
	if f := fanout.Explain(err); f.Code != schema.Forbidden {
		t.Errorf("got %v", err)
	}
}
