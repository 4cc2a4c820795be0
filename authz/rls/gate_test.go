package rls_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestNothingIsJudgedBeforeTheCommitIsVisible holds a commit between its record in the WAL, which
// is streamed, and the moment when other sessions see it: it waits for a standby that does not
// exist. Policies that ask other tables would see the state before it.
//
// Covers C121, R39.
func TestNothingIsJudgedBeforeTheCommitIsVisible(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, c)
	w := worldOf(t, db, []string{db.Role(t, "role0")})
	w.exec(t, three+`CREATE TABLE member (who text); GRANT SELECT ON member TO {0}; CREATE POLICY p ON t USING (owner IN (SELECT who FROM member))`)
	tab := w.table(t, "t")
	impatient := w.newJudge(t, func(c *rls.Config) { c.VisibilityWait = 50 * time.Millisecond })

	w.run(t, "ALTER SYSTEM SET synchronous_standby_names = '*'")
	w.run(t, "SELECT pg_reload_conf()")
	writer := connect(t, db.Admin)
	eventually(t, writer, "current_setting('synchronous_standby_names') = '*'")
	if _, err := writer.Exec(t.Context(), "BEGIN; INSERT INTO public.member VALUES ('u1'); INSERT INTO public.t VALUES (4, 'u1', 4)").ReadAll(); err != nil {
		t.Fatal(err)
	}
	var xid uint32
	if _, err := fmt.Sscan(string(writer.ExecParams(t.Context(), "SELECT pg_current_xact_id()::xid", nil, nil, nil, nil).Read().Rows[0][0]), &xid); err != nil {
		t.Fatal(err)
	}
	committed := make(chan error, 1)
	go func() {
		_, err := writer.Exec(t.Context(), "COMMIT").ReadAll()
		committed <- err
	}()
	eventually(t, w.admin, "EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')")

	q := authz.Question{XID: xid, Table: tab, Images: []cdc.Row{texts("4", "u1", "4")}, Principals: []*authz.Principal{w.as(0, u1)}}
	if v, err := impatient.Judge(t.Context(), q); err != nil || v[0][0] != authz.Undecided {
		t.Errorf("at the end of patience: %v, %v", v, err)
	}
	w.audited(t, "undecided visibility 1")
	forgotten := q
	forgotten.XID = 0
	if v, err := w.judge.Judge(t.Context(), forgotten); err != nil || v[0][0] != authz.Undecided {
		t.Errorf("without a transaction: %v, %v", v, err)
	}

	judged := later(t.Context(), w.judge, q)
	read := make(chan []cdc.Row, 1)
	go func() {
		var rows []cdc.Row
		err := w.judge.Snapshot(t.Context(), authz.Reading{Principal: w.as(0, u1), Table: tab, Readable: []bool{true, true, true}, Settled: []uint32{xid}}, func(s cdc.Snapshot) error {
			if !s.Sees(xid) {
				t.Error("the snapshot does not see the transaction")
			}
			return nil
		}, func(r cdc.Row) error { rows = append(rows, r); return nil })
		if err != nil {
			t.Error(err)
		}
		read <- rows
	}()
	for _, name := range []string{"rowtide judge", "rowtide snapshot"} { // both have looked, and look again
		eventually(t, w.admin, "EXISTS (SELECT FROM pg_stat_activity WHERE application_name = '"+name+"' AND query = 'SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text')")
	}
	select {
	case o := <-judged:
		t.Errorf("judged before the commit is visible: %v", o.verdicts)
	case rows := <-read:
		t.Errorf("read before the commit is visible: %v", rows)
	default:
	}
	w.run(t, "ALTER SYSTEM RESET synchronous_standby_names")
	w.run(t, "SELECT pg_reload_conf()")
	if err := <-committed; err != nil {
		t.Fatal(err)
	}
	if o := <-judged; o.err != nil || o.verdicts[0][0] != authz.Visible {
		t.Errorf("behind the gate: %v, %v", o.verdicts, o.err)
	}
	if rows := <-read; len(rows) != 2 {
		t.Errorf("the snapshot has %v", rows)
	}
}
