package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// The commands of a newcomer who is told what is missing at every step.
func TestDoctorLeadsFromABareDatabaseToOneThatCanBeServed(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_slot_wal_keep_size": "-1"}})
	db := pgtest.On(t, c, `CREATE TABLE tasks (id int PRIMARY KEY);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE ROLE web_user NOLOGIN;
GRANT SELECT ON tasks TO web_user`)
	args := []string{"doctor", "--admin-url", db.Admin, "--roles", "web_user"}
	out, err := ran(t, args...)
	const want = `fatal    server: max_slot_wal_keep_size is unlimited: while the service is down, WAL fills the disk
   fix: ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'
   fix: SELECT pg_reload_conf()
fatal    schema rowtide: the database is not set up for Rowtide
   fix: rowtide setup --admin-url URL --roles web_user
fatal    publication rowtide: it does not exist, so nothing is streamed
   fix: rowtide sync --admin-url URL --publication rowtide
fatal    publication rowtide_insert: it does not exist, so nothing is streamed
   fix: rowtide sync --admin-url URL --publication rowtide
warning  database: no table is annotated, so none is served
   fix: COMMENT ON TABLE … IS '@subscribe'
note     slot rowtide: it does not exist yet: serve makes it
`
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if err == nil || exitCode(err) != 1 || err.Error() != "doctor: 4 findings that must be mended" {
		t.Errorf("it ended with %v", err)
	}

	db.Exec(t, `ALTER SYSTEM SET max_slot_wal_keep_size = '16GB'`)
	db.Exec(t, `SELECT pg_reload_conf()`)
	db.Exec(t, `COMMENT ON TABLE tasks IS '@subscribe'`)
	ranQuietly(t, "setup", "--admin-url", db.Admin, "--roles", "web_user")
	if out, err = ran(t, args...); err != nil || out != "note     slot rowtide: it does not exist yet: serve makes it\n" {
		t.Errorf("%v\n%s", err, out)
	}
	db.Exec(t, `SELECT pg_create_logical_replication_slot('rowtide', 'pgoutput')`)
	if out, err = ran(t, args...); err != nil || out != "All is well.\n" {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = ran(t, append(args, "--json")...); err != nil || out != "[]\n" {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDoctorPrintsJSON(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	out, err := ran(t, "doctor", "--admin-url", db.Admin, "--roles", "nobody_at_all", "--json")
	if err == nil {
		t.Error("it ended well")
	}
	var findings []struct {
		Severity, Check, Object, Message string
		Fix                              []string
	}
	if err := json.Unmarshal([]byte(out), &findings); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	for _, f := range findings {
		if f.Check == "role" && f.Severity == "fatal" && f.Object == "role nobody_at_all" && strings.Join(f.Fix, "") == "CREATE ROLE nobody_at_all NOLOGIN" {
			return
		}
	}
	t.Errorf("the role is not told of in %s", out)
}

// ranQuietly is ran for commands that tell of their steps.
func ranQuietly(t *testing.T, args ...string) {
	t.Helper()
	var out, errOut strings.Builder
	if err := run(t.Context(), args, &out, &errOut); err != nil {
		t.Fatalf("%v\n%s", err, &errOut)
	}
}
