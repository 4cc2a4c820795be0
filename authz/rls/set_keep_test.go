package rls_test

import (
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

const keepWorld = `CREATE TABLE t (id int PRIMARY KEY, team int); ALTER TABLE t ENABLE ROW LEVEL SECURITY; CREATE TABLE members (team int, who text);
	GRANT SELECT ON t, members TO {0}; CREATE POLICY p ON t USING (team IN (SELECT m.team FROM members m WHERE m.who = current_setting('app.a')));`

// A transaction that the snapshot saw comes by the stream too: it counts once, and the history
// knows what was before it.
//
// Covers R39.
func TestWhatSnapshotAndStreamBothTellCountsOnce(t *testing.T) {
	t.Parallel()
	f := newWorld(t, 1, keepWorld).follow(t, "t", "members")
	tab := f.load(t, "public")["t"]
	f.pump(t, nil)
	// It commits before the snapshot, and is fed behind it.
	f.exec(t, "INSERT INTO members VALUES (1, 'u1')")
	f.g.UseTables(tab)
	deadline := time.Now().Add(time.Minute)
	for !f.g.Read(tab, f.names[0]) {
		if time.Now().After(deadline) {
			t.Fatal("what the policy asks is not read")
		}
		f.settled(t)
	}
	f.exec(t, "INSERT INTO members VALUES (2, 'u1')")
	f.exec(t, "DELETE FROM members WHERE team = 1")
	var commits []cdc.LSN
	f.pump(t, func(b *cdc.Batch) {
		if len(b.Events) > 0 {
			commits = append(commits, b.Commit)
		}
	})
	if len(commits) != 3 {
		t.Fatalf("%d transactions", len(commits))
	}
	for i, letters := range []string{"hhvh", "vhvv", "vvhv"} {
		q := authz.Question{
			XID: f.settled(t), Commit: commits[i], Table: tab, Principals: []*authz.Principal{f.as(0, "", "app.a", "u1")},
			Images: []cdc.Row{texts("1", "1"), texts("2", "2"), texts("1", "1"), texts("2", "2")}, Old: []bool{true, true, false, false},
		}
		got, err := f.g.Judge(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		want(t, "as of the transaction", got[0], letters)
	}
}
