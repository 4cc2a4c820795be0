package main

import (
	"bufio"
	"context"
	"io"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestDevPrintsATokenForEachRole serves a database with nothing but its superuser's URL: the roles
// that may read an annotated table are found, and each gets a token.
func TestDevPrintsATokenForEachRole(t *testing.T) {
	t.Parallel()
	db := pgtest.On(t, pgtest.Cluster(t, testcontainers.Config{})) // --dev makes a login of a fixed name
	role, other := db.Role(t, "web_user"), db.Role(t, "other")
	db.Exec(t, `CREATE TABLE notes (id int PRIMARY KEY); COMMENT ON TABLE notes IS '@subscribe(rowSecurity: NOT_REQUIRED)'; GRANT SELECT ON notes TO `+role)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, to := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"serve", "--dev", "--database-url", db.Admin, "--listen", "127.0.0.1:0"}, to, t.Output())
		_ = to.Close()
	}()
	lines := bufio.NewScanner(out)
	var said []string
	for lines.Scan() {
		if said = append(said, lines.Text()); len(said) == 2 {
			cancel()
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if len(said) != 2 || said[0] != "Token of "+role+":" || strings.Count(said[1], ".") != 2 {
		t.Errorf("want a token of %s and none of %s, got %q", role, other, said)
	}
}
