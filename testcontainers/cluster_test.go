package testcontainers_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/testcontainers"
)

// start starts a cluster in a folder that is checked to be empty when the test has ended.
func start(t *testing.T, cfg testcontainers.Config) *testcontainers.Cluster {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = reachableDir(t)
	}
	c, err := testcontainers.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(t.Context()); err != nil {
			t.Errorf("stop: %v", err)
		}
		if left, _ := filepath.Glob(filepath.Join(cfg.Dir, "*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	return c
}

// reachableDir is a folder that the server's user may enter: t.TempDir's parent is closed to it.
func reachableDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rowtide-test-") //nolint:usetesting // as said above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func query(t *testing.T, url, sql string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(t.Context())
	var v string
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func TestClusterHasTheSettingsOfTests(t *testing.T) {
	t.Parallel()
	began := time.Now()
	c := start(t, testcontainers.Config{Settings: map[string]string{"work_mem": "5MB", "application_name": `it's a \ test`}})
	t.Logf("started in %v", time.Since(began))
	url := c.URL("postgres", "postgres")
	for name, want := range map[string]string{
		"wal_level": "logical", "max_connections": "200", "max_wal_senders": "50", "max_replication_slots": "50",
		"fsync": "off", "synchronous_commit": "on", "autovacuum": "on", "listen_addresses": "127.0.0.1",
		"work_mem": "5MB", "server_encoding": "UTF8",
	} {
		if got := query(t, url, "SHOW "+name); got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
	if got, want := query(t, url, "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"), `it's a \ test`; got != want {
		t.Errorf("application_name = %q, want %q", got, want)
	}
}

func TestRestartKeepsAddressAndData(t *testing.T) {
	t.Parallel()
	c := start(t, testcontainers.Config{})
	url := c.URL("postgres", "postgres")
	for _, mode := range []string{"fast", "immediate", "smart", "kill"} {
		query(t, url, "SELECT pg_create_logical_replication_slot('after_"+mode+"', 'pgoutput')::text")
		before := c.Pid()
		if err := c.StopMode(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
		if c.Pid() != 0 {
			t.Fatalf("%s: pid %d after the stop", mode, c.Pid())
		}
		if err := c.Restart(t.Context()); err != nil {
			t.Fatalf("restart after %s: %v", mode, err)
		}
		if pid := c.Pid(); pid == 0 || pid == before {
			t.Fatalf("%s: pid %d, before %d", mode, pid, before)
		}
	}
	if got := c.URL("postgres", "postgres"); got != url {
		t.Errorf("address changed from %s to %s", url, got)
	}
	if got := query(t, url, "SELECT count(*)::text FROM pg_replication_slots"); got != "4" {
		t.Errorf("%s of 4 slots are left", got)
	}
}

func TestPasswordIsAskedForWhereConfigured(t *testing.T) {
	t.Parallel()
	c := start(t, testcontainers.Config{Password: "it's 100% secret"})
	if got := query(t, c.URL("postgres", "postgres"), "SELECT current_user::text"); got != "postgres" {
		t.Errorf("user %q", got)
	}
	conn, err := pgx.Connect(t.Context(), strings.Replace(c.URL("postgres", "postgres"), "100%25", "99%25", 1))
	if err == nil {
		conn.Close(t.Context())
		t.Fatal("connected with a wrong password")
	}
}

func TestStopEndsProcessAndRemovesFolder(t *testing.T) {
	t.Parallel()
	c := start(t, testcontainers.Config{})
	pid := c.Pid()
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if alive(pid) {
		t.Error("the server still runs")
	}
	if _, err := os.Stat(c.Dir()); !os.IsNotExist(err) {
		t.Errorf("folder: %v", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("second stop: %v", err)
	}
	if err := c.Restart(t.Context()); err == nil {
		t.Error("restarted after Stop")
	}
}

func TestFailedStartTellsWhyAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := reachableDir(t)
	_, err := testcontainers.Start(t.Context(), testcontainers.Config{Dir: dir, Settings: map[string]string{"wal_level": "nonsense"}})
	if err == nil || !strings.Contains(err.Error(), `invalid value for parameter "wal_level": "nonsense"`) {
		t.Errorf("error %v does not name the setting", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStopModeReturnsWhenItsContextEnds(t *testing.T) {
	t.Parallel()
	c := start(t, testcontainers.Config{})
	conn, err := pgx.Connect(t.Context(), c.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	// Smart shutdown waits for the client above.
	if err := c.StopMode(ctx, "smart"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if c.Pid() == 0 {
		t.Error("the server has ended")
	}
	if err := c.StopMode(t.Context(), "sideways"); err == nil {
		t.Error("an unknown mode was taken")
	}
}

// Root's server runs as another user. A folder that this user cannot reach is named, with the fix.
func TestFolderClosedToTheServersUserIsNamed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir() // its parent is open to us alone
	c, err := testcontainers.Start(t.Context(), testcontainers.Config{Dir: dir})
	if os.Geteuid() != 0 {
		if err != nil {
			t.Fatalf("our own folder: %v", err)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), filepath.Dir(dir)+": choose another folder with TMPDIR") {
		t.Errorf("error %v", err)
	}
}

// The children of a killed postmaster write on until they notice. Their folder goes all the same.
func TestStopAfterACrashUnderLoadRemovesFolder(t *testing.T) {
	t.Parallel()
	c := start(t, testcontainers.Config{}) // whose cleanup looks for what is left
	conn, err := pgx.Connect(t.Context(), c.URL("postgres", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	writing := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "CREATE TABLE a AS SELECT repeat('x', 1000) FROM generate_series(1, 2000000)")
		writing <- err
	}()
	eventually(t, 10*time.Second, "the table is written", func() bool {
		files, _ := filepath.Glob(filepath.Join(c.DataDir(), "pg_wal", "0*"))
		return len(files) > 2
	})
	if err := c.StopMode(t.Context(), "kill"); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-writing; err == nil {
		t.Error("the statement outlived its server")
	}
}
