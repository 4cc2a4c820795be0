package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

const (
	followNotes = `subscription($after: Cursor) { notes(snapshot: true, after: $after) { kind row { id text } reason } }`
	mistaken    = `subscription { notes { kind nothing } }`
)

// stockClients are the clients that people use, each with the address that it takes.
var stockClients = map[string]struct { //nolint:gochecknoglobals // a table
	scheme string
	args   []string
}{
	"graphql-ws":                            {"ws", []string{"graphql-ws.mjs"}},
	"@apollo/client, WebSocket":             {"ws", []string{"apollo-ws.mjs"}},
	"@apollo/client, multipart":             {"http", []string{"apollo-http.mjs"}},
	"@urql/core":                            {"ws", []string{"urql.mjs"}},
	"relay-runtime":                         {"ws", []string{"relay.mjs"}},
	"graphql-sse":                           {"http", []string{"graphql-sse.mjs"}},
	"graphql-sse in single connection mode": {"http", []string{"graphql-sse.mjs", "single"}},
}

// A follower is a stock client that runs. What it printed is read as it comes.
type follower struct {
	name  string
	kinds chan string
	stop  func()
}

// Tries of a client: those of one that is to outlast a restart on a busy machine, and of one that is
// to give up. graphql-sse tries again whatever it was told, in single connection mode with another
// stream each time that it forgets to close, and would end at the limit of connections.
const patient, brief = 500, 20

// followWith starts a stock client; kinds are the kinds of its changes, or "error: …".
func followWith(t *testing.T, name, addr, token, query string, tries int) *follower {
	t.Helper()
	c := stockClients[name]
	args := append([]string{c.args[0], c.scheme + "://" + addr + "/graphql", token, query}, c.args[1:]...)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 3*time.Minute)
	node := exec.CommandContext(ctx, "node", args...) //nolint:gosec // from the table above
	node.Dir = filepath.Join("..", "..", "internal", "stockclients")
	node.Env = append(os.Environ(), "RETRIES="+strconv.Itoa(tries))
	node.Stderr = t.Output()
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatalf("%v: run npm ci in internal/stockclients, or make test", err)
	}
	f := &follower{name: name, kinds: make(chan string, 100)}
	go func() {
		defer close(f.kinds)
		readKinds(out, f.kinds)
	}()
	f.stop = sync.OnceFunc(func() {
		_ = in.Close()
		for range f.kinds {
			continue // until it has ended
		}
		_ = node.Wait()
		cancel()
	})
	t.Cleanup(f.stop)
	return f
}

func readKinds(out io.Reader, to chan<- string) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var line struct {
			Data *struct {
				Notes struct{ Kind string }
			}
			Error, Errors json.RawMessage
		}
		switch err := json.Unmarshal(lines.Bytes(), &line); {
		case err != nil || line.Error != nil || line.Errors != nil:
			to <- "error: " + lines.Text()
		case line.Data != nil:
			to <- line.Data.Notes.Kind
		}
	}
}

// wait reads up to a kind, and gives those before.
func (f *follower) wait(t *testing.T, kind string) []string {
	t.Helper()
	late := time.After(2 * time.Minute)
	var before []string
	for {
		select {
		case k, ok := <-f.kinds:
			switch {
			case !ok:
				t.Fatalf("%s ended after %v, want %s", f.name, before, kind)
			case strings.HasPrefix(k, kind):
				return append(before, k)
			case strings.HasPrefix(k, "error"):
				t.Fatalf("%s: %s", f.name, k)
			}
			before = append(before, k)
		case <-late:
			t.Fatalf("%s: after two minutes only %v, want %s", f.name, before, kind)
		}
	}
}

// deploy runs the program at an address, and gives what stops it as an operator would.
func deploy(t *testing.T, addr string, args []string) (stop func()) {
	t.Helper()
	cmd := exec.Command(build(t), append([]string{"serve", "--listen", addr}, args...)...) //nolint:noctx,gosec // it is ended by a signal
	cmd.Stderr = t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		var exit *exec.ExitError
		if err := cmd.Wait(); errors.As(err, &exit) {
			t.Errorf("the service ended with %v", err)
		}
	})
	t.Cleanup(stop)
	late := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get("http://" + addr + "/readyz") //nolint:noctx // to this machine
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return stop
			}
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("the service is not ready: %v", err)
		}
	}
}

// installedNotes is a database that setup was run in, with a table to follow, and what serve takes.
func installedNotes(t *testing.T) (db *pgtest.DB, role string, args []string) {
	t.Helper()
	db = pgtest.New(t, `
CREATE TABLE notes (id int PRIMARY KEY, text text NOT NULL);
COMMENT ON TABLE notes IS '@subscribe(rowSecurity: NOT_REQUIRED)';
INSERT INTO notes VALUES (0, 'old')`)
	role = db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: db.Admin, Roles: []string{role}, Login: "login_" + db.Name, Slot: "slot_" + db.Name, Yes: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dropLogin(t, db) })
	return db, role, []string{"--database-url", report.DatabaseURL, "--roles", role, "--jwt-secret", testSecret, "--slot", "slot_" + db.Name}
}

// TestStockClientsFollowTheProgram has every stock client follow the program as it is installed:
// a subscription from end to end, a deploy (SIGTERM, and a new process) that it gets over by its
// cursor with nothing told twice or missed, and an error.
func TestStockClientsFollowTheProgram(t *testing.T) {
	t.Parallel()
	db, role, args := installedNotes(t)
	addr, token := freePort(t), tokenOf(t, testSecret, role, time.Hour)
	stop := deploy(t, addr, args)

	var all []*follower
	for name := range stockClients {
		all = append(all, followWith(t, name, addr, token, followNotes, patient))
	}
	for _, f := range all {
		if got := strings.Join(f.wait(t, "LIVE"), " "); got != "RESET SNAPSHOT LIVE" {
			t.Errorf("%s began with %s", f.name, got)
		}
	}
	db.Exec(t, "INSERT INTO notes VALUES (1, 'a')")
	for _, f := range all {
		f.wait(t, "INSERT")
	}
	stop()
	db.Exec(t, "INSERT INTO notes VALUES (2, 'while it was away')")
	deploy(t, addr, args)
	for _, f := range all {
		// LIVE tells a client that it was reconnected; whether it comes before or behind what
		// was missed hangs on when that was dispatched.
		if got := strings.TrimPrefix(strings.Join(f.wait(t, "INSERT"), " "), "LIVE "); got != "INSERT" {
			t.Errorf("%s came back with %s, want what it missed and nothing twice", f.name, got)
		}
		f.stop()
	}
	all = all[:0]
	for name := range stockClients {
		all = append(all, followWith(t, name, addr, token, mistaken, brief))
	}
	for _, f := range all {
		if got := f.wait(t, "error"); !strings.Contains(got[0], "nothing") && !strings.Contains(got[0], "400") {
			t.Errorf("%s was told %s of a mistake", f.name, got[0])
		}
		f.stop()
	}
}
