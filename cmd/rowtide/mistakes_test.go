package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A mistake is something that people get wrong: what they type, and where they type it.
type mistake struct {
	name string
	// before makes the world in which the command is wrong. Defaults to nothing.
	before func(t *testing.T, w *world)
	// after puts the world in order again.
	after func(t *testing.T, w *world)
	// args is the command line. $name is a word of the world.
	args string
	// env is added to the environment: NAME=value, where $name is again a word of the world.
	env string
	// exit is the status. Defaults to 1.
	exit int
	// partly tells that the command does a part of its work all the same.
	partly bool
}

// A section is a part of the golden file: mistakes that are made in one world, one by one.
type section struct {
	title    string
	world    func(t *testing.T) *world
	mistakes []mistake
	// tell makes mistakes that are not of a command line, and tells of them.
	tell func(t *testing.T, w *world) string
}

// TestMistakes makes every mistake with the real program, as a process. Each time it says in
// one line what is wrong and what to do, ends with a status other than 0, and leaves the
// database as it was. The lines are in testdata/mistakes.golden.
func TestMistakes(t *testing.T) {
	sections := []section{
		theCommandLine(), theFile(), theConfiguration(), theServer(), theServerSettings(), thePooler(),
		theLogin(), theRoles(), theDatabase(), theSlot(), theAdministrator(),
		theTables(), theRunningService(), theSocket(),
	}
	said := make([]string, len(sections))
	t.Run("sections", func(t *testing.T) {
		for i, s := range sections {
			t.Run(s.title, func(t *testing.T) {
				t.Parallel()
				said[i] = s.make(t)
			})
		}
	})
	compareGolden(t, "mistakes.golden", preface+strings.Join(said, ""))
}

const preface = `What rowtide says when something is wrong: one line on standard error, and an exit status of 1,
or of 2 where the command line itself is wrong. ROWTIDE_JWT_SECRET is set throughout. Written by
go test ./cmd/rowtide -run TestMistakes -update
`

func (s section) make(t *testing.T) string {
	t.Helper()
	w := s.world(t)
	var b strings.Builder
	fmt.Fprintf(&b, "\n\n== %s ==\n", s.title)
	for _, m := range s.mistakes {
		t.Run(m.name, func(t *testing.T) {
			fmt.Fprintf(&b, "\n%s\n%s", m.name, w.make(t, m))
			if m.after != nil {
				m.after(t, w)
			}
		})
	}
	if s.tell != nil {
		b.WriteString(s.tell(t, w))
	}
	return b.String()
}

// make makes one mistake and gives the command and what it said, for the golden file.
func (w *world) make(t *testing.T, m mistake) string {
	t.Helper()
	if m.before != nil {
		m.before(t, w)
	}
	var args []string
	for _, a := range strings.Fields(m.args) {
		args = append(args, w.expand(t, a))
	}
	before := w.state(t)
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	cmd := w.command(ctx, t, args...)
	env := strings.Fields(w.expand(t, m.env))
	cmd.Env = append(cmd.Env, env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if want := max(m.exit, 1); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != want {
		t.Errorf("it ended with %v, want status %d; it said:\n%s%s", err, want, &said, &out)
	}
	if out.Len() > 0 && !m.partly {
		t.Errorf("it printed results:\n%s", &out)
	}
	checkLine(t, said.String(), m.partly)
	if after := w.state(t); after != before && !m.partly {
		t.Errorf("it left something behind:\n%s", difference(before, after))
	}
	return w.still(strings.Join(append(prefixed("  $ ", env), "  $ rowtide "+quoted(args)), "") + indented(said.String()))
}

func prefixed(prefix string, lines []string) []string {
	var out []string
	for _, l := range lines {
		out = append(out, prefix+"export "+l+"\n")
	}
	return out
}

// quoted puts words together as a shell takes them.
func quoted(args []string) string {
	var out []string
	for _, a := range args {
		if a == "" || strings.ContainsAny(a, " {}()'\"$&;") {
			a = "'" + a + "'"
		}
		out = append(out, a)
	}
	return strings.Join(out, " ")
}

func indented(s string) string {
	return "\n  " + strings.ReplaceAll(strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
}

// checkLine holds what was said to what every line of ours obeys: there is one, behind what is
// logged and what setup reports, and it is for people.
func checkLine(t *testing.T, said string, partly bool) {
	t.Helper()
	logged := `^time=\S+ level=`
	if partly {
		logged += `|^(done|already|planned|skipped|refused|note|problem) +`
	}
	lines := strings.Split(strings.TrimSuffix(said, "\n"), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "rowtide: ") {
		t.Errorf("the last line is not rowtide's: %q", last)
	}
	for _, l := range lines[:len(lines)-1] {
		if !regexp.MustCompile(logged).MatchString(l) {
			t.Errorf("a second line is printed: %q", l)
		}
	}
	for _, no := range []string{"failed to", "dial tcp", "%!", "<nil>", "panic", "context canceled", "secretword"} {
		if strings.Contains(said, no) {
			t.Errorf("it says %q:\n%s", no, said)
		}
	}
	if len(last) > 400 {
		t.Errorf("the line has %d bytes", len(last))
	}
}

func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil { //nolint:gosec // it is part of the repository
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: write it with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at it, then write it with -update:\n%s", path, difference(string(want), got))
	}
}

// difference lists the lines that only one of two texts has.
func difference(want, got string) string {
	var b strings.Builder
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, l := range w {
		if !slices.Contains(g, l) {
			b.WriteString("- " + l + "\n")
		}
	}
	for _, l := range g {
		if !slices.Contains(w, l) {
			b.WriteString("+ " + l + "\n")
		}
	}
	return b.String()
}
