package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

const followTasks = `subscription { tasks(snapshot: true) { kind row { id title } } }`

// A terminal shows what a program draws.
type terminalScreen struct {
	file *os.File
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

// openTerminal runs a program in a terminal of its own.
func openTerminal(t *testing.T, cmd *exec.Cmd, wide, high uint16) *terminalScreen {
	t.Helper()
	cmd.Env = append(cmd.Env, "TERM=xterm")
	file, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: high, Cols: wide})
	if err != nil {
		t.Fatal(err)
	}
	s := &terminalScreen{file: file, more: make(chan struct{}, 1)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := file.Read(buf)
			s.mu.Lock()
			s.text.Write(buf[:n])
			s.mu.Unlock()
			select {
			case s.more <- struct{}{}:
			default:
			}
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait(); _ = file.Close(); <-done })
	return s
}

// shown is the last screenful that was drawn, without colours.
func (s *terminalScreen) shown() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := strings.Split(s.text.String(), "\x1b[H")
	return regexp.MustCompile("\x1b\\[[0-9;?]*[a-zA-Z]").ReplaceAllString(all[len(all)-1], "")
}

// await waits until the screen matches.
func (s *terminalScreen) await(t *testing.T, pattern string) {
	t.Helper()
	late := time.After(time.Minute)
	for !regexp.MustCompile(pattern).MatchString(s.shown()) {
		select {
		case <-s.more:
		case <-late:
			t.Fatalf("the screen never matched %s:\n%s", pattern, s.shown())
		}
	}
}

// TestSubscribeShowsALiveTable follows a subscription in a terminal while rows appear, change and
// leave, the terminal is resized, and the service is killed and comes back.
func TestSubscribeShowsALiveTable(t *testing.T) {
	t.Parallel()
	w := ready(t)
	addr := freePort(t)
	service, _ := w.serveAt(t, addr)
	w.db.Exec(t, `INSERT INTO tasks VALUES (1, 'ana', 'first'), (2, 'ben', 'not ana''s'), (3, 'ana', E'evil \x1b[2J')`)

	cmd := w.command(context.WithoutCancel(t.Context()), t, "subscribe", "--url", "ws://"+addr+"/graphql",
		"--role", w.words["role"], "--claims", `{"sub":"ana"}`, followTasks)
	screen := openTerminal(t, cmd, 90, 12)
	screen.await(t, `(?s)1   first.*3   evil \\u001b\[2J.*2 rows, 0 changes.*live`)
	if strings.Contains(screen.shown(), "not ana") {
		t.Error("ana sees a row of ben's")
	}
	w.db.Exec(t, `INSERT INTO tasks VALUES (4, 'ana', 'fourth')`)
	screen.await(t, `\+ 4   fourth`)
	w.db.Exec(t, `UPDATE tasks SET title = 'changed' WHERE id = 4`)
	screen.await(t, `~ 4   changed`)
	w.db.Exec(t, `UPDATE tasks SET owner = 'ben' WHERE id = 4`)
	screen.await(t, `- 4   changed`)
	screen.await(t, `2 rows, 3 changes`)
	w.db.Exec(t, `INSERT INTO tasks SELECT n, 'ana', 'row ' || n FROM generate_series(10, 30) n`)
	screen.await(t, `23 rows, 24 changes; 15 rows that were still for longer are not shown`)
	if err := pty.Setsize(screen.file, &pty.Winsize{Rows: 40, Cols: 60}); err != nil {
		t.Fatal(err)
	}
	screen.await(t, `23 rows, 24 changes\s`)

	if err := service.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = service.Wait()
	screen.await(t, `connection lost`)
	w.db.Exec(t, `UPDATE tasks SET title = 'while it was away' WHERE id = 1`)
	again, _ := w.serveAt(t, addr)
	screen.await(t, `(?s)1   while it was away.*23 rows.*live`)
	w.db.Exec(t, `DELETE FROM tasks WHERE id = 1`)
	screen.await(t, `- 1   while`)

	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	screen.await(t, `22 rows`) // what stays behind, on the terminal as it was
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	_ = again.Process.Signal(os.Interrupt)
	if err := again.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
}

// TestSubscribePrintsEachResultOnce pipes a subscription through a restart of the service: each
// change is on one line, in order, and none is missing.
func TestSubscribePrintsEachResultOnce(t *testing.T) {
	t.Parallel()
	w := ready(t)
	addr := freePort(t)
	service, _ := w.serveAt(t, addr)
	cmd := w.command(context.WithoutCancel(t.Context()), t, "subscribe", "--url", "ws://"+addr+"/graphql",
		"--role", w.words["role"], "--claims", `{"sub":"ana"}`, `subscription { tasks(snapshot: true) { kind row { title } } }`)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(out)
	read := func(want string) {
		t.Helper()
		if !lines.Scan() || !strings.Contains(lines.Text(), want) {
			t.Fatalf("want a line with %s, got %s", want, lines.Text())
		}
	}
	read(`"RESET"`)
	read(`"LIVE"`)
	w.db.Exec(t, `INSERT INTO tasks VALUES (1, 'ana', 'one')`)
	read(`"row":{"title":"one"}`)
	if err := service.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = service.Wait()
	w.db.Exec(t, `INSERT INTO tasks VALUES (2, 'ana', 'two')`)
	again, _ := w.serveAt(t, addr)
	// Behind its cursor where that is still held, else anew.
	for lines.Scan() && !strings.Contains(lines.Text(), `"title":"two"`) {
		continue
	}
	w.db.Exec(t, `INSERT INTO tasks VALUES (3, 'ana', 'three')`)
	for lines.Scan() && !strings.Contains(lines.Text(), `"title":"three"`) {
		if strings.Contains(lines.Text(), `"title"`) {
			t.Errorf("a change came twice: %s", lines.Text())
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	_ = again.Process.Signal(os.Interrupt)
	if err := again.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
}
