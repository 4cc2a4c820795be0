package livetable

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func values(id, title string) map[string]json.RawMessage {
	text, err := json.Marshal(title)
	if err != nil {
		panic(err)
	}
	return map[string]json.RawMessage{"id": json.RawMessage(id), "title": text}
}

func shown(t *Table, wide, high int, now time.Time) string {
	return strings.Join(t.Lines(wide, high, Style{}, now), "\n")
}

func TestRowsComeChangeAndLeaveVisibly(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	table := New("subscription { tasks }", []string{"id", "title"})
	for _, step := range []struct {
		change  Change
		after   time.Duration
		want    string // the rows
		changes int
	}{
		{Change{Kind: "RESET"}, 0, "", 0},
		{Change{Kind: "SNAPSHOT", RowID: "a", Row: values("1", "one")}, 0, "  1   one", 0},
		{Change{Kind: "SNAPSHOT", RowID: "b", Row: values("2", "two")}, 0, "  1   one|  2   two", 0},
		{Change{Kind: "LIVE"}, 0, "  1   one|  2   two", 0},
		{Change{Kind: "INSERT", RowID: "c", Row: values("3", "three")}, time.Second, "  1   one|  2   two|+ 3   three", 1},
		{Change{Kind: "UPDATE", RowID: "a", Row: values("1", "uno")}, time.Second, "~ 1   uno|  2   two|+ 3   three", 2},
		{Change{Kind: "LEAVE", RowID: "b"}, time.Second, "~ 1   uno|- 2   two|+ 3   three", 3},
		{Change{Kind: "PROGRESS"}, time.Second, "~ 1   uno|- 2   two|  3   three", 3},
		{Change{Kind: "PROGRESS"}, 2 * time.Second, "  1   uno|  3   three", 3},
		{Change{Kind: "DELETE", RowID: "unknown"}, 0, "  1   uno|  3   three", 4},
		{Change{Kind: "DELETE", RowID: "a"}, 0, "- 1   uno|  3   three", 5},
		{Change{Kind: "ENTER", RowID: "a", Row: values("1", "eins")}, 0, "+ 1   eins|  3   three", 6},
		{Change{Kind: "TRUNCATE"}, 0, "- 1   eins|- 3   three", 7},
		{Change{Kind: "PROGRESS"}, time.Hour, "", 7},
		{Change{Kind: "INSERT", RowID: "c", Row: values("3", "three")}, 0, "+ 3   three", 8},
		{Change{Kind: "RESET"}, 0, "", 8},
	} {
		now = now.Add(step.after)
		table.Apply(step.change, now)
		lines := table.Lines(60, 20, Style{}, now)
		if diff := cmp.Diff(step.want, strings.Join(lines[2:len(lines)-2], "|")); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.change.Kind, diff)
		}
		if said := lines[len(lines)-2]; !strings.HasSuffix(said, fmt.Sprintf(" %d changes", step.changes)) {
			t.Errorf("after %s it says %q, want %d changes", step.change.Kind, said, step.changes)
		}
	}
}

func TestATableFitsIntoTheTerminal(t *testing.T) {
	t.Parallel()
	table := New("subscription { tasks }", []string{"id", "title", "other"})
	now := time.Unix(0, 0)
	for i := range 30 {
		r := values(fmt.Sprint(i), strings.Repeat("wide 広 ", i))
		table.Apply(Change{Kind: "INSERT", RowID: fmt.Sprint(i), Row: r}, now.Add(time.Duration(i)*time.Second))
	}
	for wide := 8; wide < 200; wide += 7 {
		for _, high := range []int{5, 10, 60} {
			lines := table.Lines(wide, high, Style{}, now.Add(30*time.Second))
			if len(lines) > high {
				t.Errorf("%d lines in %d", len(lines), high)
			}
			for _, l := range lines {
				if got := cellsWide(l); got > wide {
					t.Errorf("a line of %d cells in %d: %s", got, wide, l)
				}
			}
		}
	}
	if got := shown(table, 80, 8, now.Add(30*time.Second)); !strings.Contains(got, "+ 29") || !strings.Contains(got, "26 rows that were still for longer") {
		t.Errorf("the latest rows are not the ones that are shown:\n%s", got)
	}
}

func TestValuesCannotSteerTheTerminal(t *testing.T) {
	t.Parallel()
	evil := "a\x1b[31m\r\n\b\x7f\u009b2J\u202eb\xff"
	table := New(evil, []string{"id", "title"})
	table.Apply(Change{Kind: "INSERT", RowID: "1", Row: values("1", evil)}, time.Unix(0, 0))
	table.Say(evil)
	for i, l := range table.Lines(200, 20, Style{}, time.Unix(0, 0)) {
		if strings.ContainsAny(l, "\x1b\r\n\b\x7f\u009b\u202e\u0007") {
			t.Errorf("line %d can: %q", i, l)
		}
	}
}

func TestARowIsForgottenWhereThereAreTooMany(t *testing.T) {
	t.Parallel()
	table := New("", []string{"id"})
	now := time.Unix(0, 0)
	for i := range maxRows + 5 {
		table.Apply(Change{Kind: "INSERT", RowID: fmt.Sprint(i), Row: values(fmt.Sprint(i), "")}, now.Add(time.Duration(i)))
	}
	if len(table.rows) != maxRows || len(table.byID) != maxRows || table.byID["0"] != nil || table.byID[fmt.Sprint(maxRows)] == nil {
		t.Errorf("%d rows are kept", len(table.rows))
	}
	if got := shown(table, 100, 6, now); !strings.Contains(got, "5 were forgotten") {
		t.Errorf("that is not told:\n%s", got)
	}
}

func TestShowLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	sorry := errors.New("sorry")
	table := New("title", []string{"id"})
	screen := Screen{Out: &out, Size: func() (int, int) { return 40, 10 }}
	err := screen.Show(t.Context(), table, func(context.Context) error {
		table.Apply(Change{Kind: "INSERT", RowID: "1", Row: values("1", "")}, time.Now())
		return sorry
	})
	if !errors.Is(err, sorry) {
		t.Errorf("it ended with %v", err)
	}
	_, rest, ok := strings.Cut(out.String(), leave)
	if !strings.HasPrefix(out.String(), enter) || !ok || rest != "title\n  id\n+ 1\n1 rows, 1 changes\n" {
		t.Errorf("it wrote %q", out.String())
	}
	broken := Screen{Out: &brokenPipe{left: 1}, Size: screen.Size}
	err = broken.Show(t.Context(), table, func(ctx context.Context) error { <-ctx.Done(); return nil })
	if !errors.Is(err, errBroken) {
		t.Errorf("a terminal that is gone ended it with %v", err)
	}
}

var errBroken = errors.New("broken")

type brokenPipe struct{ left int }

func (b *brokenPipe) Write(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}
