package rls_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// bytes is what is kept; it must be what is counted.
func (f *follower) bytes(t *testing.T) int {
	t.Helper()
	counted, found := f.g.KeptBytes()
	if counted != found {
		t.Errorf("%d bytes are counted, %d are kept", counted, found)
	}
	return counted
}

// judged is the verdict on an image of a team behind a transaction.
func (f *follower) judged(t *testing.T, tab *schema.Table, commit cdc.LSN, team string) authz.Verdict {
	t.Helper()
	got, err := f.g.Judge(t.Context(), authz.Question{
		XID: f.settled(t), Commit: commit, AsOf: true, Table: tab, Principals: []*authz.Principal{f.as(0, "", "app.a", "u1")}, Images: []cdc.Row{texts("1", team)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return got[0][0]
}

// What happened to the tables that policies ask is known for a while, and then takes no memory any
// more: what is asked about from then is not guessed. Nothing is kept for policies that are gone.
func TestTheHistoryOfWhatPoliciesAskGrowsOldAndGoes(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld).follow(t, "t", "members")
	f.exec(t, "INSERT INTO members SELECT n, 'u' || n FROM generate_series(1, 10) n")
	tab := f.use(t, "t")[0]
	before := f.bytes(t)
	var commits []cdc.LSN
	for range 20 {
		f.exec(t, "UPDATE members SET team = team + 1")
		f.pump(t, func(b *cdc.Batch) {
			if b.Last && b.XID != 0 {
				commits = append(commits, b.Commit)
			}
		})
	}
	first, last := commits[0], commits[len(commits)-1]
	if grown := f.bytes(t); grown < 2*before {
		t.Errorf("%d bytes before, %d with the history", before, grown)
	}
	if v := f.judged(t, tab, first, "2"); v != authz.Visible {
		t.Errorf("as of the first change: %d", v)
	}
	f.g.Age(time.Now().Add(time.Hour))
	f.g.Age(time.Now().Add(2 * time.Hour))
	if aged := f.bytes(t); aged > before+before/2 {
		t.Errorf("%d bytes before, %d when the history is gone", before, aged)
	}
	if v := f.judged(t, tab, first, "2"); v != authz.Undecided {
		t.Errorf("as of what nobody remembers: %d", v)
	}
	f.exec(t, "UPDATE members SET team = 1")
	f.pump(t, func(b *cdc.Batch) { last = b.Commit })
	was := f.g.Evaluations()["set"]
	if v := f.judged(t, tab, last, "1"); v != authz.Visible {
		t.Errorf("as of the last change: %d", v)
	}
	if n := f.g.Evaluations()["set"] - was; n != 1 {
		t.Errorf("%d verdicts are counted", n)
	}
	if got, want := f.g.Stats().Sets, (rls.SetStats{Kept: 1, Bytes: f.bytes(t)}); got != want {
		t.Errorf("it says %+v, want %+v", got, want)
	}
	f.exec(t, "DROP POLICY p ON t; CREATE POLICY p ON t USING (true)")
	f.use(t, "t")
	if left := f.bytes(t); left != 0 {
		t.Errorf("%d bytes are kept for nobody", left)
	}
}

// What policies ask takes no more memory than it may: beyond, Postgres is asked, and whoever is
// concerned is told that it is judged in another way.
func TestWhatPoliciesAskIsKeptWithinItsBound(t *testing.T) {
	t.Parallel()
	const most = 40_000
	f := newWorld(t, 1, keepWorld).followWithin(t, most, "t", "members")
	f.exec(t, "INSERT INTO members VALUES (1, 'u1')")
	tab := f.use(t, "t")[0]
	who := []*authz.Principal{f.as(0, "", "app.a", "u1")}
	told := 0
	for n := range 20 {
		f.exec(t, "INSERT INTO members SELECT g, 'u' || g FROM generate_series(1, 20) g WHERE "+[]string{"true", "g > 1"}[n%2]+"; UPDATE members SET team = team + 1")
		var commits []cdc.LSN
		f.pump(t, func(b *cdc.Batch) { commits = append(commits, b.Commit) })
		if size := f.bytes(t); size > most {
			t.Fatalf("%d bytes are kept, %d may be", size, most)
		}
		for _, c := range commits {
			if f.g.Affected(tab, c, who)[0] == authz.Unknown {
				told++
				break
			}
		}
	}
	if told == 0 {
		t.Error("nobody is told that Postgres is asked from now on")
	}
	if why, _ := f.g.Unkept(tab, f.names[0]); !strings.Contains(why, "more than 40000 bytes") && !strings.Contains(why, "takes more than") {
		t.Errorf("it is not kept, since %q", why)
	}
	if got := f.g.Stats().Sets; got.Refused != 1 || got.Kept != 0 {
		t.Errorf("it says %+v", got)
	}
}
