package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rowtide/rowtide/internal/demo"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestGuide runs docs/guide.md from its first command to its last, against a server with the
// sample's five tables and a superuser, and compares what the commands print with what the page
// says that they do. -update writes the page anew.
func TestGuide(t *testing.T) {
	t.Parallel()
	runPage(t, "guide.md", filepath.Join("..", "..", "docs", "guide.md"), demo.Schema)
}

// TestReadme does the same with the README.
func TestReadme(t *testing.T) {
	t.Parallel()
	runPage(t, "README.md", filepath.Join("..", "..", "README.md"), `
CREATE ROLE web_user NOLOGIN;
CREATE TABLE todo_items (id int PRIMARY KEY, owner text NOT NULL, title text, done boolean NOT NULL DEFAULT false);
ALTER TABLE todo_items ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON todo_items FOR SELECT TO web_user USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT ON todo_items TO web_user;
INSERT INTO todo_items VALUES (1, 'ana', 'Read the README');`)
}

func runPage(t *testing.T, name, path, schema string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := newPage(t, schema)
	var b strings.Builder
	for _, block := range splitPage(string(text)) {
		b.WriteString(p.run(t, block))
	}
	p.end(t)
	if got := b.String(); got != string(text) {
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // it is part of the repository
				t.Fatal(err)
			}
			return
		}
		t.Errorf("%s says something else than the commands do; look at it, then write it with -update:\n%s", name, difference(string(text), got))
	}
}

// splitPage cuts a page at its fences: every other piece is the inside of a block, with the
// opening fence and without the closing one.
func splitPage(text string) []string {
	var out []string
	var piece strings.Builder
	inside := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			if !inside {
				out = append(out, piece.String())
				piece.Reset()
				piece.WriteString(line)
			} else {
				out = append(out, piece.String())
				piece.Reset()
				piece.WriteString(line)
			}
			inside = !inside
			continue
		}
		piece.WriteString(line)
	}
	return append(out, piece.String())
}

// A page is a run of the commands of one page, in a folder and with a server of its own.
type page struct {
	db     *pgtest.DB
	dir    string
	addr   string
	still  *strings.Replacer
	actual *strings.Replacer
	vars   []string // that commands set
	serve  *exec.Cmd
	follow *exec.Cmd
	lines  *bufio.Scanner // of what follow prints
}

func newPage(t *testing.T, schema string) *page {
	t.Helper()
	db := pgtest.On(t, pgtest.Cluster(t, testcontainers.Config{}), schema)
	p := &page{db: db, dir: t.TempDir(), addr: freePort(t)}
	host := address(db.Admin)
	p.actual = strings.NewReplacer("@localhost/app", "@"+host+"/"+db.Name+"?sslmode=disable", "127.0.0.1:8080", p.addr, "localhost:8080", p.addr)
	p.still = strings.NewReplacer("@"+host+"/"+db.Name+"?sslmode=disable", "@localhost/app", db.Name, "app", host, "localhost:5432", p.addr, "127.0.0.1:8080")
	if err := os.Symlink(build(t), filepath.Join(p.dir, "rowtide")); err != nil {
		t.Fatal(err)
	}
	return p
}

// run gives the piece as it should read.
func (p *page) run(t *testing.T, piece string) string {
	t.Helper()
	fence, rest, _ := strings.Cut(piece, "\n")
	switch fence {
	case "```sql":
		for _, statement := range strings.SplitAfter(rest, ";\n") { // each a transaction, as in psql
			p.db.Exec(t, statement)
		}
	case "```console":
		return fence + "\n" + p.console(t, rest)
	case "```json":
		return fence + "\n" + p.read(t, strings.Count(rest, "\n"))
	}
	return piece
}

// console runs the commands of a block, each behind $, one behind the other.
func (p *page) console(t *testing.T, block string) string {
	t.Helper()
	var b strings.Builder
	lines := strings.SplitAfter(block, "\n")
	for len(lines) > 0 && lines[0] != "" {
		command := ""
		for more := true; more && len(lines) > 0; lines = lines[1:] {
			command += lines[0]
			more = strings.HasSuffix(lines[0], "\\\n")
		}
		if !strings.HasPrefix(command, "$ ") {
			t.Fatalf("the block does not begin with a command: %q", command)
		}
		said := 0
		for said < len(lines) && lines[said] != "" && !strings.HasPrefix(lines[said], "$ ") {
			said++
		}
		b.WriteString(command + p.command(t, strings.TrimPrefix(command, "$ "), lines[:said]))
		lines = lines[said:]
	}
	return b.String()
}

// command runs one and gives what it printed, or as much of it as the page shows where it goes on.
func (p *page) command(t *testing.T, command string, shown []string) string {
	t.Helper()
	cmd := newWorld().command(context.WithoutCancel(t.Context()), t)
	cmd.Path, cmd.Args = "/bin/bash", []string{"bash", "-c", p.actual.Replace(command)}
	var env []string
	for _, e := range cmd.Env {
		if !strings.HasPrefix(e, "ROWTIDE_") {
			env = append(env, e)
		}
	}
	cmd.Env = append(append(env, p.vars...), "PATH="+p.dir+":"+os.Getenv("PATH"), "ROWTIDE_LISTEN="+p.addr, "ROWTIDE_ADMIN_LISTEN=off",
		"ROWTIDE_URL=ws://"+p.addr+"/graphql", "PGHOST=localhost", "PGUSER=postgres")
	cmd.Dir = p.dir
	switch {
	case strings.HasPrefix(command, "make "), strings.HasPrefix(command, "go install"):
		return strings.Join(shown, "") // tested for by TestTheReadmesTargetsAreThere
	case strings.HasPrefix(command, "rowtide serve"):
		return p.service(t, cmd, shown)
	case strings.HasPrefix(command, "rowtide subscribe"), strings.HasPrefix(command, "curl -N"):
		return p.subscription(t, cmd, len(shown))
	}
	variable := regexp.MustCompile(`^[A-Z]+=`).FindString(command)
	if variable != "" {
		cmd.Args[2] += "\nprintf %s \"$" + strings.TrimSuffix(variable, "=") + "\""
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", command, err, out)
	}
	if variable != "" {
		p.vars = append(p.vars, variable+string(out))
		return ""
	}
	return p.abridged(t, p.same(string(out)), shown)
}

// abridged is the output, or what the page shows of it where it leaves something out (…).
func (p *page) abridged(t *testing.T, said string, shown []string) string {
	t.Helper()
	if !slices.Contains(shown, "…\n") {
		return said
	}
	for _, l := range shown {
		if l != "…\n" && !strings.Contains(said, l) {
			t.Errorf("it does not print %s; it prints\n%s", l, said)
		}
	}
	return strings.Join(shown, "")
}

// service starts the service, and leaves it running. The page shows some of what it logs.
func (p *page) service(t *testing.T, cmd *exec.Cmd, shown []string) string {
	t.Helper()
	cmd.Args[2] = "exec " + cmd.Args[2]
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.serve = cmd
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	lines := bufio.NewScanner(log)
	said := ""
	for !strings.Contains(said, "ready for clients") && lines.Scan() {
		said += p.same(lines.Text() + "\n")
	}
	go func() {
		for lines.Scan() { // else it would stand still
			continue
		}
	}()
	for _, l := range shown {
		if !strings.Contains(said, l) {
			t.Errorf("the service does not log %s; it logs\n%s", l, said)
		}
	}
	return strings.Join(shown, "")
}

// subscription follows, and leaves that running.
func (p *page) subscription(t *testing.T, cmd *exec.Cmd, shown int) string {
	t.Helper()
	p.unfollow(t)
	cmd.Args[2] = "exec " + cmd.Args[2]
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.follow, p.lines = cmd, bufio.NewScanner(out)
	return p.read(t, shown)
}

// read gives the next lines of the subscription.
func (p *page) read(t *testing.T, n int) string {
	t.Helper()
	if p.follow == nil {
		t.Fatal("JSON is shown before a subscription")
	}
	late := time.AfterFunc(time.Minute, func() { _ = p.follow.Process.Kill() })
	defer late.Stop()
	var b strings.Builder
	for range n {
		if !p.lines.Scan() {
			t.Fatalf("the subscription ended behind:\n%s", &b)
		}
		b.WriteString(p.same(p.lines.Text() + "\n"))
	}
	return b.String()
}

func (p *page) unfollow(t *testing.T) {
	t.Helper()
	if p.follow != nil {
		_ = p.follow.Process.Signal(syscall.SIGINT)
		if err := p.follow.Wait(); err != nil && !strings.Contains(p.follow.Args[2], "curl") {
			t.Errorf("the subscription ended with %v", err)
		}
	}
}

func (p *page) end(t *testing.T) {
	t.Helper()
	p.unfollow(t)
	if p.serve == nil {
		t.Fatal("the page never started the service")
	}
	_ = p.serve.Process.Signal(syscall.SIGINT)
	if err := p.serve.Wait(); err != nil {
		t.Errorf("the service ended with %v", err)
	}
}

// same replaces what differs from run to run.
func (p *page) same(s string) string {
	for pattern, with := range map[string]string{
		`retry: \d+`:                            "retry: …",
		`time=\S+ `:                             "",
		`"(cursor|rowId)":"[^"]*"`:              `"$1":"…"`,
		`(postgres://rowtide:)[A-Z0-9]+@`:       "$1…@",
		`eyJ[\w-]+\.[\w-]+\.[\w-]+`:             "eyJhb…",
		`[0-9A-F]{1,8}/[0-9A-F]{1,8}`:           "0/16B3748",
		`(?m)^(id: )\S+$`:                       "$1…",
		`[0-9a-f]{64}`:                          "…",
		`\d{4}-\d\d-\d\d[T ][\d:.]+(Z|\+00:00)`: "2026-01-01T00:00:00Z",
	} {
		s = regexp.MustCompile(pattern).ReplaceAllString(s, with)
	}
	return p.still.Replace(s)
}
