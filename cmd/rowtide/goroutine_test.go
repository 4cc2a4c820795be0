package main

import (
	"bytes"
	"context"
	"testing"

	"go.uber.org/goleak"
)

// TestAStartThatFailsLeavesNoGoroutine runs the service in this process up to mistakes that it
// finds later and later: at the last one, all parts of it run.
func TestAStartThatFailsLeavesNoGoroutine(t *testing.T) {
	w := ready(t)
	w.otherLogin(t, "app_owner", "CONNECTION LIMIT -1")
	w.db.Exec(t, "ALTER TABLE tasks OWNER TO "+w.words["name"]+"; GRANT USAGE ON SCHEMA rowtide TO "+w.words["name"]+
		"; GRANT SELECT ON rowtide.installation TO "+w.words["name"])
	w.db.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'test_decoding')", w.slot())
	for _, m := range []struct{ name, url, role string }{
		{"the server is not there", "postgres://rowtide@" + freePort(t) + "/app", w.words["role"]},
		{"a superuser", w.db.Admin, w.words["role"]},
		{"a role that does not exist", w.words["service"], "web_usr"},
		{"the owner of the tables", w.words["other"], w.words["role"]},
		{"a slot of another plugin", w.words["service"], w.words["role"]},
	} {
		t.Run(m.name, func(t *testing.T) {
			before := goleak.IgnoreCurrent()
			var out, said bytes.Buffer
			err := run(context.WithoutCancel(t.Context()), []string{
				"serve", "--database-url", m.url, "--roles", m.role, "--jwt-secret", testSecret,
				"--slot", w.slot(), "--listen", "127.0.0.1:0",
			}, &out, &said)
			if err == nil || exitCode(err) != 1 {
				t.Errorf("it ended with %v", err)
			}
			if said.Len()+out.Len() > 0 {
				t.Errorf("it says more than its error:\n%s%s", &said, &out)
			}
			goleak.VerifyNone(t, before)
		})
	}
}
