package fanout_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

// A club is a world whose policy shows rows of an owner to those who have joined him: a member sees the
// rows of some owners, and which changes with transactions.
type club struct {
	*world
	mu      sync.Mutex
	joins   []join
	unknown bool // what the policy asks begins to be followed with each transaction
	// atNear is called before rows are read.
	atNear func()
	near   int
	end    cdc.LSN
	moved  chan struct{}
}

// A join has a member see an owner's rows from a transaction on, or not any more.
type join struct {
	commit        cdc.LSN
	member, owner string
	leaves        bool
}

func newClub(t *testing.T) *club {
	t.Helper()
	return &club{world: newWorld(t, membus.Config{}), moved: make(chan struct{})}
}

func (c *club) begin(config fanout.Config) *fanout.Dispatcher {
	config.Judge = c
	return c.start(config)
}

// change commits a transaction that changes who sees whom and writes rows.
func (c *club) change(joins []join, writes ...write) {
	c.t.Helper()
	c.mu.Lock()
	c.world.mu.Lock()
	for _, j := range joins {
		j.commit = c.commit + 16 // what publish gives
		c.joins = append(c.joins, j)
	}
	c.world.mu.Unlock()
	c.mu.Unlock()
	c.publish(c.t.Context(), 2, writes...)
	c.commitAll()
}

func joined(member, owner string) []join { return []join{{member: member, owner: owner}} }
func left(member, owner string) []join   { return []join{{member: member, owner: owner, leaves: true}} }

func (c *club) sees(p *authz.Principal, image cdc.Row, at cdc.LSN) bool {
	seen := false
	for _, j := range c.joins {
		if j.commit <= at && j.member == p.Subject && j.owner == image[1].Text() {
			seen = !j.leaves
		}
	}
	return seen
}

func (c *club) Judge(ctx context.Context, q authz.Question) ([][]authz.Verdict, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([][]authz.Verdict, len(q.Principals))
	for i, p := range q.Principals {
		for k, image := range q.Images {
			at := q.Commit
			if q.Old[k] {
				at--
			}
			out[i] = append(out[i], map[bool]authz.Verdict{true: authz.Visible, false: authz.Hidden}[c.sees(p, image, at)])
		}
	}
	return out, ctx.Err()
}

func (c *club) Narrow(*schema.Table, *authz.Principal) []authz.Equality { return nil }
func (c *club) Use(*schema.Catalog)                                     {}
func (c *club) Lost()                                                   {}

func (c *club) Follow(b *cdc.Batch) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = b.Commit
	close(c.moved)
	c.moved = make(chan struct{})
	return slices.ContainsFunc(c.joins, func(j join) bool { return j.commit == b.Commit })
}

func (c *club) Handles(_ *schema.Table, p *authz.Principal) []string { return []string{p.Subject} }

func (c *club) Reached(_ *schema.Table, commit cdc.LSN) (handles []string, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, j := range c.joins {
		if j.commit == commit {
			handles = append(handles, j.member)
		}
	}
	return handles, false
}

func (c *club) Affected(_ *schema.Table, commit cdc.LSN, principals []*authz.Principal) []authz.Effect {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make([]authz.Effect, len(principals))
	for i, p := range principals {
		if slices.ContainsFunc(c.joins, func(j join) bool { return j.commit == commit && j.member == p.Subject }) {
			if out[i] = authz.RowsMoved; c.unknown {
				out[i] = authz.Unknown
			}
		}
	}
	return out
}

// Near gives all rows that are visible, and sees to it that the stream goes on.
func (c *club) Near(ctx context.Context, _ *schema.Table, _ cdc.LSN, _ []*authz.Principal, settled []uint32, most int) (cdc.LSN, []cdc.Row, error) {
	if c.atNear != nil {
		c.atNear()
	}
	c.world.mu.Lock()
	if !c.seesLocked(settled) {
		c.world.mu.Unlock()
		return 0, nil, errors.New("the snapshot does not see what was dispatched")
	}
	var rows []cdc.Row
	for _, r := range c.states[c.visible] {
		rows = append(rows, r)
	}
	end := c.commit + 1
	c.near++
	c.world.mu.Unlock()
	if len(rows) > most {
		return 0, nil, errors.New("too many")
	}
	c.publish(ctx, 1)
	c.commitAll()
	return end, rows, nil
}

func (c *club) Await(context.Context, *schema.Table, string) error { return nil }

func (c *club) Covers(ctx context.Context, _ *schema.Table, _ string, commit cdc.LSN) (bool, error) {
	for {
		c.mu.Lock()
		end, moved := c.end, c.moved
		c.mu.Unlock()
		if end >= commit {
			return true, nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
	}
}

// What happens between the change of a membership and the reading of the rows it concerns counts as
// what came later: each row enters and leaves as it was at that transaction.
//
// Covers R31.
func TestRowsEnterAndLeaveAsTheyWereAtTheChangeOfMembership(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	c.write(put(1, "red", "stays"), put(2, "red", "moves"), put(3, "red", "goes"), put(5, "blue", "comes"), put(6, "blue", "other"), put(7, "red", "own"))
	c.atNear = sync.OnceFunc(func() {
		c.write(put(2, "blue", "moved"), put(5, "red", "came"))
		c.write(del(3), put(4, "red", "new"))
		c.write(put(4, "red", "newer"), put(3, "red", "again"))
		c.publish(t.Context(), 1, put(1, "red", "unseen")) // it is streamed before it is visible
	})
	d := c.begin(fanout.Config{})
	ann := c.follow(d, "ann", "")
	c.change(joined("ann", "red"), put(7, "red", "written"))
	ann.expect(
		"ENTER 7 written", "ENTER 1 stays", "ENTER 2 moves", "ENTER 3 goes",
		"LEAVE 2 moves->", "ENTER 5 came", "DELETE 3 goes->", "INSERT 4 new", "UPDATE 4 new-> newer", "INSERT 3 again", "UPDATE 1 stays-> unseen",
	)
	c.change(left("ann", "red"), put(1, "red", "unseen by ann"))
	ann.expect("LEAVE 1 unseen->", "LEAVE 3 again->", "LEAVE 4 newer->", "LEAVE 5 came->", "LEAVE 7 written->")
}

// Nobody else waits for the rows of a change of membership; two changes follow each other.
func TestOthersDoNotWaitForAChangeOfMembership(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	c.change(joined("bob", "red"), put(1, "red", "a"), put(2, "blue", "b"))
	release := make(chan struct{})
	c.atNear = func() { <-release }
	d := c.begin(fanout.Config{})
	ann, bob := c.follow(d, "ann", ""), c.follow(d, "bob", "")
	c.change(joined("ann", "red"))
	c.change(append(joined("ann", "blue"), left("ann", "red")...))
	c.write(put(1, "red", "c"), put(2, "blue", "d"))
	bob.expect("UPDATE 1 a-> c")
	if n := len(ann.got); n != 1 {
		t.Errorf("%d frames before the rows were read", n)
	}
	close(release)
	ann.expect("ENTER 1 a", "LEAVE 1 a->", "ENTER 2 b", "UPDATE 2 b-> d")
}

// Frames of one change share a cursor: whoever resumes from one of them gets them all again, and behind
// them what followed. The last of them is the transaction's.
func TestAResumeInAChangeOfMembershipRepeatsIt(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	c.write(put(1, "red", "a"), put(2, "red", "b"), put(3, "red", "c"))
	d := c.begin(fanout.Config{})
	ann := c.follow(d, "ann", "")
	c.change(joined("ann", "red"), put(3, "red", "d"), put(4, "red", "e"))
	c.write(put(1, "red", "f"))
	want := []string{"ENTER 3 d", "INSERT 4 e", "ENTER 1 a", "ENTER 2 b", "UPDATE 1 a-> f"}
	ann.expect(want...)
	if a, b := *ann.got[3].Cursor, *ann.got[4].Cursor; a != b {
		t.Errorf("frames of one change have cursors %s and %s", a, b)
	}
	for i, m := range ann.got[1:] {
		if last := *m.Transaction.Last; last != (i >= 3) {
			t.Errorf("%s: last is %t", m, last)
		}
	}
	for i, from := range []int{0, 1, 2, 2, 2, 5} { // LIVE is the first
		again := c.subscribe(d, "ann", `after: "`+*ann.got[i].Cursor+`"`)
		again.expect(want[from:]...)
		again.expect("LIVE")
		again.sub.Close()
	}
}

// What is held while the rows are read may be more than fits: then it is read again from the bus, with
// the change of membership in it.
func TestAChangeOfMembershipOutlivesWhatIsHeld(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	c.change(joined("bob", "blue"), put(1, "red", "a"))
	release := make(chan struct{})
	c.atNear = func() { <-release }
	d := c.begin(fanout.Config{Limits: fanout.Limits{HeldBytes: 500}})
	ann, bob := c.follow(d, "ann", ""), c.follow(d, "bob", "")
	c.change(joined("ann", "red"), put(2, "red", "b"))
	want := []string{"INSERT 2 b", "ENTER 1 a"}
	for i := range 10 {
		c.write(put(10+i, "red", "x"))
		want = append(want, ann.inserted(10+i))
	}
	c.write(put(3, "blue", "y"))
	bob.expect("INSERT 3 y")
	close(release)
	ann.expect(want...)
}

func (c *client) inserted(id int) string {
	return message{Kind: "INSERT", Key: map[string]any{"id": id}, Row: map[string]any{"note": "x"}}.String()
}

// Where it cannot be told exactly, and only then, the subscription begins anew.
func TestAChangeOfMembershipThatIsNotExactResyncs(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(*club){
		"the table was emptied": func(c *club) {
			c.atNear = func() { c.publishEvents(cdc.Event{Op: cdc.Truncate, Relation: c.relation}) }
		},
		"changes are missing": func(c *club) {
			c.atNear = func() { c.publishEvents(cdc.Event{Op: cdc.Gap, Relation: c.relation, Reason: "transaction_size"}) }
		},
		"it is judged in another way from here on": func(c *club) { c.unknown = true },
		"there are too many rows": func(c *club) {
			for from := 0; from < 10_001; from += 1000 {
				var writes []write
				for i := range 1000 {
					writes = append(writes, put(100+from+i, "green", "x"))
				}
				c.write(writes...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newClub(t)
			c.write(put(1, "red", "a"))
			spoil(c)
			d := c.begin(fanout.Config{})
			ann := c.follow(d, "ann", "")
			c.change(joined("ann", "red"))
			_, err := ann.expectEnd()
			var e *schema.Error
			if !errors.As(err, &e) || e.Code != schema.ResyncRequired {
				t.Fatalf("the subscription ended with %v", err)
			}
			if name != "changes are missing" && e.Reason != "membership" {
				t.Errorf("the reason is %s", e.Reason)
			}
		})
	}
}

// A change of membership that shows nothing sends nothing, and one that nobody's kinds ask for is not
// looked into.
func TestAChangeOfMembershipWithoutRowsIsSilent(t *testing.T) {
	t.Parallel()
	c := newClub(t)
	c.write(put(1, "red", "a"))
	d := c.begin(fanout.Config{})
	ann, deletes := c.follow(d, "ann", ""), c.follow(d, "bob", "kinds: [DELETE]")
	c.change(joined("ann", "green"))
	c.write(put(2, "green", "b"))
	ann.expect("INSERT 2 b")
	c.change(joined("bob", "green"))
	c.write(del(2))
	deletes.expect("DELETE 2 b->")
	ann.expect("DELETE 2 b->")
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	if c.near != 1 {
		t.Errorf("rows were read %d times", c.near)
	}
}

var _ fanout.Follower = (*club)(nil)
