package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// programPath is where build puts the command: one for the tests of this process.
func programPath() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("rowtide-test-%d", os.Getpid()), "rowtide")
}

// compiled compiles the command, the first time that it is called.
var compiled = sync.OnceValue(func() error {
	out, err := exec.Command("go", "build", "-o", programPath(), ".").CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// build gives the path of the command, compiled once for all tests.
func build(t *testing.T) string {
	t.Helper()
	if err := compiled(); err != nil {
		t.Fatal(err)
	}
	return programPath()
}

// What a demo printed.
type printed struct {
	graphql, postgres, token string
	tried                    string // the query of the command to try
}

// startDemo runs a demo in a folder of its own and reads what it prints.
func startDemo(t *testing.T, folder string) (*exec.Cmd, printed) {
	t.Helper()
	cmd := exec.Command(build(t), "demo", "--listen", "127.0.0.1:0", "--every", "20ms") //nolint:noctx // it is ended by a signal, which is what is tested
	cmd.Env = append(os.Environ(), "TMPDIR="+folder)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	late := time.AfterFunc(30*time.Second, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var text strings.Builder
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		text.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "Ctrl-C") {
			go io.Copy(io.Discard, out) //nolint:errcheck // until it ends
			return cmd, parsePrinted(t, text.String())
		}
	}
	t.Fatalf("the demo did not say within 30 s how to try it; it said:\n%s", text.String())
	return nil, printed{}
}

func parsePrinted(t *testing.T, text string) printed {
	t.Helper()
	find := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(text)
		if m == nil {
			t.Fatalf("the demo printed nothing like %s:\n%s", pattern, text)
		}
		return m[1]
	}
	return printed{
		graphql: find(`(ws://\S+/graphql)`), postgres: find(`(postgres://\S+)`),
		token: find(`Token of ana:\n(\S+)`), tried: find(`'(subscription [^']*)'`),
	}
}

// TestDemoFeedsAStockClient runs the demo as a newcomer does, follows it with the stock
// graphql-ws client for one of its users until what the client has is what the database shows
// that user, and ends it: nothing is left behind.
func TestDemoFeedsAStockClient(t *testing.T) {
	folder := t.TempDir()
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // the server runs as another user
		t.Fatal(err)
	}
	for dir := filepath.Dir(folder); dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // likewise
			t.Fatal(err)
		}
	}
	cmd, p := startDemo(t, folder)
	follow(t, p)

	began := time.Now()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after SIGTERM the demo ended with %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("ending took %s, want at most 5 s", took)
	}
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("the demo left %v behind (%v)", left, err)
	}
	if conn, err := pgx.Connect(t.Context(), p.postgres); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the demo's Postgres still answers")
	}
}

// follow runs the client until it has seen changes, holds the writer up, and waits until the
// client has what the database has.
func follow(t *testing.T, p printed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	query := `subscription($after: Cursor) { tasks(snapshot: true, after: $after) { kind rowId row { id title state private } } }`
	node := exec.CommandContext(ctx, "node", "graphql-ws.mjs", p.graphql, p.token, query)
	node.Dir = filepath.Join("..", "..", "internal", "stockclients")
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
	c := &table{rows: map[string]task{}, kinds: map[string]int{}}
	lines := bufio.NewScanner(out)
	for c.changes() < 100 && lines.Scan() {
		c.apply(t, lines.Bytes())
	}
	c.settle(ctx, t, p.postgres, lines)
	_ = in.Close()
	if err := node.Wait(); err != nil {
		t.Errorf("the client ended with %v", err)
	}
	for _, kind := range []string{"RESET", "SNAPSHOT", "LIVE", "UPDATE"} {
		if c.kinds[kind] == 0 {
			t.Errorf("no frame of kind %s came: %v", kind, c.kinds)
		}
	}
}

type task struct {
	ID      string
	Title   string
	State   string
	Private bool
}

// A table is what the client's whole rule makes of the frames.
type table struct {
	rows  map[string]task
	kinds map[string]int
}

func (c *table) changes() int {
	n := 0
	for _, k := range []string{"INSERT", "UPDATE", "DELETE", "ENTER", "LEAVE"} {
		n += c.kinds[k]
	}
	return n
}

func (c *table) apply(t *testing.T, line []byte) {
	t.Helper()
	var r struct {
		Connected bool
		Error     json.RawMessage
		Data      struct {
			Tasks struct {
				Kind  string
				RowID string
				Row   *task
			}
		}
	}
	if err := json.Unmarshal(line, &r); err != nil || r.Error != nil {
		t.Fatalf("the client says: %s", line)
	}
	f := r.Data.Tasks
	c.kinds[f.Kind]++
	switch {
	case f.Kind == "RESET" || f.Kind == "TRUNCATE":
		clear(c.rows)
	case f.Row != nil:
		c.rows[f.RowID] = *f.Row
	case f.RowID != "":
		delete(c.rows, f.RowID)
	}
}

// settle waits, with the writer locked out, until the client's table is what a SELECT under the
// user's role and claims returns.
func (c *table) settle(ctx context.Context, t *testing.T, postgres string, lines *bufio.Scanner) {
	t.Helper()
	conn, err := pgx.Connect(ctx, postgres)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // it only holds a lock
	if _, err := tx.Exec(ctx, "LOCK TABLE tasks IN EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	want := visible(ctx, t, tx)
	for !c.is(want) {
		if !lines.Scan() {
			t.Fatalf("the client has %v, the database %v", c.rows, want)
		}
		c.apply(t, lines.Bytes())
	}
}

func visible(ctx context.Context, t *testing.T, tx pgx.Tx) map[task]bool {
	t.Helper()
	_, err := tx.Exec(ctx, `SET LOCAL ROLE web_user; SET LOCAL "request.jwt.claims" = '{"sub":"ana"}'`)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(ctx, "SELECT id::text, title, state::text, private FROM tasks")
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[task])
	if err != nil {
		t.Fatal(err)
	}
	want := map[task]bool{}
	for _, r := range list {
		want[r] = true
	}
	return want
}

func (c *table) is(want map[task]bool) bool {
	if len(c.rows) != len(want) {
		return false
	}
	for _, r := range c.rows {
		if !want[r] {
			return false
		}
	}
	return true
}

// TestDemoPrintsACommandThatWorks runs the command that the demo says to try.
func TestDemoPrintsACommandThatWorks(t *testing.T) {
	folder := filepath.Join(os.TempDir(), "rowtide-demo-test")
	if err := os.MkdirAll(folder, 0o755); err != nil { //nolint:gosec // the server runs as another user
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	_, p := startDemo(t, folder)
	if _, err := url.Parse(p.graphql); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, to := io.Pipe()
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{"subscribe", "--url", p.graphql, "--token", p.token, p.tried}, to, t.Output())
	}()
	lines := bufio.NewScanner(out)
	for !strings.Contains(lines.Text(), "LIVE") && lines.Scan() {
		continue
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"kind"`) {
		t.Errorf("no change came behind LIVE: %q", lines.Text())
	}
	cancel()
	_ = out.Close() // what it still writes goes nowhere
	if err := <-done; err != nil && !errors.Is(err, io.ErrClosedPipe) {
		t.Error(err)
	}
}
