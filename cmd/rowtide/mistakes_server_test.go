package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// theServerSettings has a server of its own, which is restarted with one setting after another.
func theServerSettings() section {
	var cluster *testcontainers.Cluster
	var all *testing.T // the section's: what is set up lasts as long as it
	begin := func(t *testing.T) *world {
		t.Helper()
		all = t
		cluster = pgtest.Cluster(t, testcontainers.Config{})
		return withDatabaseOn(t, pgtest.On(t, cluster))
	}
	with := func(settings ...string) func(*testing.T, *world) {
		return func(t *testing.T, w *world) {
			t.Helper()
			w.db.Exec(t, "ALTER SYSTEM RESET ALL")
			for _, s := range settings {
				w.db.Exec(t, "ALTER SYSTEM SET "+s)
			}
			w.db.Pool(t).Reset() // its connections would be found dead
			if err := cluster.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	taken := func(t *testing.T, w *world) {
		t.Helper()
		with("max_replication_slots = 1")(t, w)
		w.db.Exec(t, "SELECT pg_create_physical_replication_slot('standby')")
	}
	free := func(t *testing.T, w *world) {
		t.Helper()
		w.db.Exec(t, "SELECT pg_drop_replication_slot('standby')")
	}
	const setup = "setup --admin-url $admin --roles $role"
	return section{title: "The settings of the server", world: begin, mistakes: []mistake{
		{name: "A wal_level of replica, at setup", before: with("wal_level = replica"), args: setup},
		{name: "No replication slot is left, at setup", before: taken, args: setup, after: free},
		{name: "No WAL sender is left, at setup", before: with("max_wal_senders = 0"), args: setup},
		{name: "A wal_level of replica", before: func(t *testing.T, w *world) {
			t.Helper()
			with()(t, w)
			w.setUp(all)
			with("wal_level = replica")(t, w)
		}, args: serve},
		{name: "No replication slot is left", before: taken, args: serve, after: free},
		{name: "Replication slots are switched off", before: with("max_replication_slots = 0"), args: serve},
		{name: "No WAL sender is left", before: with("max_wal_senders = 0"), args: serve},
		{name: "No connection is left", before: with("max_wal_senders = 50", "max_connections = 5", "superuser_reserved_connections = 4"), args: serve},
	}}
}

// thePooler has PgBouncer in front of the server: as it is installed, and told to let pass what
// it does not know.
func thePooler() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := ready(t)
		strict, lenient := pgbouncer(t, w, ""), pgbouncer(t, w, "search_path, client_min_messages, extra_float_digits, replication")
		for name, port := range map[string]string{"strict": strict, "lenient": lenient} {
			w.words["service_"+name] = strings.ReplaceAll(w.words["service"], address(w.db.Admin), port)
			w.words["admin_"+name] = strings.ReplaceAll(w.db.Admin, address(w.db.Admin), port)
			w.show(port, "127.0.0.1:6432")
		}
		return w
	}
	return section{title: "A pooler instead of the server", world: begin, mistakes: []mistake{
		{name: "serve through PgBouncer", args: "serve --database-url $service_strict --roles $role"},
		{name: "serve through a PgBouncer that lets everything pass", args: "serve --database-url $service_lenient --roles $role"},
		{name: "setup through PgBouncer", args: "setup --admin-url $admin_strict --roles $role"},
		{name: "setup through a PgBouncer that lets everything pass", args: "setup --admin-url $admin_lenient --roles $role"},
		{name: "serve --dev through PgBouncer", args: "serve --dev --database-url $admin_strict --roles $role"},
		{name: "migrate through PgBouncer", args: "migrate down --admin-url $admin_lenient"},
	}}
}

// pgbouncer runs PgBouncer until the test ends, and gives its address.
func pgbouncer(t *testing.T, w *world, ignored string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rowtide-pgbouncer-") //nolint:usetesting // t.TempDir lies where only root may enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // PgBouncer does not run as root
		t.Fatal(err)
	}
	addr := freePort(t)
	_, port, _ := strings.Cut(addr, ":")
	_, server, _ := strings.Cut(address(w.db.Admin), ":")
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // likewise
			t.Fatal(err)
		}
		return path
	}
	users := write("users", fmt.Sprintf("%q \"\"\n%q \"\"\n", testcontainers.Superuser, w.login()))
	config := write("pgbouncer.ini", "[databases]\n* = host=127.0.0.1 port="+server+"\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = "+port+
		"\nunix_socket_dir =\nauth_type = trust\nauth_file = "+users+"\npool_mode = transaction\nignore_startup_parameters = "+ignored+"\n")
	args := []string{config}
	if os.Geteuid() == 0 {
		args = []string{"-u", "nobody", config}
	}
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/pgbouncer") // where not everybody's PATH leads
	}
	if err != nil {
		t.Fatalf("%v: run tools/needs pgbouncer, or make test", err)
	}
	cmd := exec.Command(bin, args...) //nolint:noctx,gosec // it is ended below
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	awaitPort(t, addr)
	return addr
}

// awaitPort waits until somebody listens at an address.
func awaitPort(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			_ = c.Close()
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

// running has a service that runs, at $address.
func running(t *testing.T) *world {
	t.Helper()
	w := ready(t)
	w.start(t)
	return w
}

// start runs a service until the test ends, and gives what it logs until it is ready.
func (w *world) start(t *testing.T) []string {
	t.Helper()
	addr := freePort(t)
	w.word("address", addr, "127.0.0.1:8080")
	cmd, logged := w.serveAt(t, addr)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			t.Errorf("the service ended with %v", err)
		}
	})
	return logged
}

// serveAt starts a service, which is the caller's to end, and waits until clients may come.
func (w *world) serveAt(t *testing.T, addr string) (*exec.Cmd, []string) {
	t.Helper()
	cmd := w.command(context.WithoutCancel(t.Context()), t, "serve", "--database-url", w.words["service"], "--roles", w.words["role"], "--listen", addr)
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(said)
	var logged []string
	for lines.Scan() {
		logged = append(logged, lines.Text())
		if strings.Contains(lines.Text(), "ready for clients") {
			break
		}
	}
	if len(logged) == 0 {
		t.Fatal("the service said nothing")
	}
	go func() {
		for lines.Scan() { // else it would stand still
			continue
		}
	}()
	return cmd, logged
}
