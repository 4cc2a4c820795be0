package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestMain is the load process too: the scenarios start the binary that they are in.
func TestMain(m *testing.M) {
	if os.Getenv(loadEnv) != "" {
		if err := Load(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(pgtest.Main(m))
}

// Every scenario runs to its end, small, and checks what its clients get.
func TestScenariosMeasureSomething(t *testing.T) {
	for name, scenario := range map[string]Scenario{
		"latency":  &Latency{Rounds: 10, Subscribers: 3},
		"snapshot": &Snapshot{Rounds: 1, Rows: 2000, Together: 3},
		"resume":   &Resume{Rounds: 1, Changes: 2000, Clients: 3},
		"drain":    &Drain{Rounds: 1, Changes: 1000},
		"fanout":   &Fanout{Rounds: 1, Sockets: 10, Rows: 200},
		"target":   &Target{PerSecond: 500, Seconds: 1, Subscribers: 6, PerSocket: 3, PerTransaction: 10},
		"rls":      &RLS{Changes: 10, Subscriptions: []int{1, 200}},
		"idle":     &Idle{Sockets: 20, Further: 2},
		"churn":    &Churn{Times: 200, Sockets: 5},
		"abuse":    &Abuse{Subscribers: 3, Seconds: 1, Foes: 2},
		"poison":   &Poison{Subscribers: 2, PerSecond: 5, Seconds: 1},
	} {
		t.Run(name, func(t *testing.T) {
			profiles := filepath.Join(t.TempDir(), "profiles")
			r, err := Run(t.Context(), scenario, profiles)
			if err != nil {
				t.Fatal(err)
			}
			if written, err := os.ReadDir(profiles); err != nil || len(written) == 0 && name != "abuse" && name != "poison" {
				t.Errorf("%d profiles, %v", len(written), err)
			}
			if r.Scenario != name || len(r.Series) == 0 || len(r.Ratios) == 0 {
				t.Errorf("got %+v", r)
			}
			var text, chart bytes.Buffer
			if err := errors.Join(r.Print(&text), r.Chart(&chart)); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(text.String(), r.Series[0].Name) {
				t.Errorf("the table lacks %q:\n%s", r.Series[0].Name, &text)
			}
			wellFormed(t, &chart)
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
}

func wellFormed(t *testing.T, svg io.Reader) {
	t.Helper()
	d := xml.NewDecoder(svg)
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatalf("chart: %v", err)
		}
	}
}

// wire is what a service would send on one subscription: LIVE, then rows.
func wire(ids ...int) []byte {
	e := encode(slices.Max(append(ids, 1)))
	var b []byte
	for _, id := range ids {
		from := 0
		if id > 1 {
			from = e.ends[id-2]
		}
		b = append(b, e.wire[from:e.ends[id-1]]...)
	}
	return b
}

func TestClientsNoticeWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		data []byte
		rows int
		ok   bool
	}{
		"in order":      {wire(1, 2, 3), 3, true},
		"missing":       {wire(1, 3), 1, false},
		"twice":         {wire(1, 1), 1, false},
		"backwards":     {wire(2, 1), 1, false},
		"half a frame":  {wire(1, 2)[:len(wire(1, 2))-5], 1, true},
		"closed":        {[]byte{0x88, 2, 0x03, 0xF4}, 0, false},
		"an error":      {append([]byte{0x81, 34}, `{"id":"1","type":"error","payload"`...), 0, false},
		"no such thing": {append([]byte{0x81, 2}, "{}"...), 0, false},
	} {
		s := &socket{c: &clients{}, last: make([]int64, 1)}
		_, rows, err := s.frames(c.data)
		if rows != c.rows || (err == nil) != c.ok {
			t.Errorf("%s: %d rows, %v", name, rows, err)
		}
	}
}

func TestHistogramIsExactToThreePercent(t *testing.T) {
	t.Parallel()
	var a, b histogram
	for i := range int64(100_000) {
		a.add(i)
	}
	b.take(&a)
	for _, q := range []float64{0.001, 0.5, 0.99} {
		want := q * 100_000
		if got := b.at(q); got < 0.96*want || got > 1.001*want {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if b.at(1) != 99_999 || a.at(1) != 0 || a.at(0.5) != 0 {
		t.Errorf("most %g, emptied %g %g", b.at(1), a.at(1), a.at(0.5))
	}
}

func TestASeriesHasTheMediansOfItsRounds(t *testing.T) {
	t.Parallel()
	r := newResult("x", "", 3, "one", "two")
	for _, v := range []float64{5, 1, 3} {
		r.sample("ours", v, nan)
		r.sample("theirs", 10*v, 20*v)
	}
	if r.at("ours", 0) != 3 || !math.IsNaN(r.at("ours", 1)) || r.at("theirs", 1) != 60 || len(r.Series) != 2 {
		t.Errorf("%+v", r.Series)
	}
}

func TestWhatIsLeftOpenHasItsDefault(t *testing.T) {
	t.Parallel()
	s := &RLS{Changes: 7}
	if err := fill(s); err != nil || s.Changes != 7 || !slices.Equal(s.Subscriptions, []int{1, 10, 100, 1000, 10_000, 100_000}) {
		t.Errorf("%+v, %v", s, err)
	}
}
