package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
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
	for name, run := range map[string]func(context.Context) (*Result, error){
		"latency": func(ctx context.Context) (*Result, error) {
			return Latency(ctx, LatencyConfig{Rounds: 10, Subscribers: 3, Profile: t.TempDir()})
		},
		"snapshot": func(ctx context.Context) (*Result, error) {
			return Snapshot(ctx, SnapshotConfig{Rounds: 1, Rows: 2000, Together: 3})
		},
		"resume": func(ctx context.Context) (*Result, error) {
			return Resume(ctx, ResumeConfig{Rounds: 1, Changes: 2000, Clients: 3})
		},
		"drain": func(ctx context.Context) (*Result, error) { return Drain(ctx, DrainConfig{Rounds: 1, Changes: 1000}) },
		"fanout": func(ctx context.Context) (*Result, error) {
			return Fanout(ctx, FanoutConfig{Rounds: 1, Sockets: 10, Rows: 200})
		},
		"target": func(ctx context.Context) (*Result, error) {
			return Target(ctx, TargetConfig{Rate: 500, Seconds: 1, Subscribers: 6, PerSocket: 3, PerTransaction: 10})
		},
		"rls": func(ctx context.Context) (*Result, error) {
			return RLS(ctx, RLSConfig{Changes: 10, Subscriptions: []int{1, 200}})
		},
		"idle":  func(ctx context.Context) (*Result, error) { return Idle(ctx, IdleConfig{Sockets: 20, Further: 2}) },
		"churn": func(ctx context.Context) (*Result, error) { return Churn(ctx, ChurnConfig{Times: 200, Sockets: 5}) },
		"abuse": func(ctx context.Context) (*Result, error) {
			return Abuse(ctx, AbuseConfig{Subscribers: 3, Seconds: 1, Foes: 2})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := run(t.Context())
			if err != nil {
				t.Fatal(err)
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
