// Package bench measures Rowtide against a baseline in the same run: the figures that count are
// ratios, since machines differ and are noisy. Each scenario starts a Postgres of its own.
package bench

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"time"
)

// A Result is what a scenario measured, for people (Print) and programs (JSON).
type Result struct {
	Scenario string   `json:"scenario"`
	Postgres string   `json:"postgres"`
	Rounds   int      `json:"rounds"`
	Series   []Series `json:"series"`
	// Ratios compare a series' median to that of the baseline.
	Ratios map[string]float64 `json:"ratios"`
}

// A Series is one kind of latency. Durations are in microseconds.
type Series struct {
	Name string  `json:"name"`
	P50  float64 `json:"p50_us"`
	P90  float64 `json:"p90_us"`
	P99  float64 `json:"p99_us"`
	Max  float64 `json:"max_us"`
}

func newSeries(name string, d []time.Duration) Series {
	slices.SortFunc(d, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	at := func(q float64) float64 {
		if len(d) == 0 {
			return 0
		}
		return float64(d[min(len(d)-1, int(q*float64(len(d))))].Nanoseconds()) / 1e3
	}
	return Series{Name: name, P50: at(0.5), P90: at(0.9), P99: at(0.99), Max: at(1)}
}

// Print writes the result as a table.
func (r *Result) Print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s, PostgreSQL %s, %d rounds (microseconds)\n%-44s %9s %9s %9s %9s\n",
		r.Scenario, r.Postgres, r.Rounds, "", "p50", "p90", "p99", "max"); err != nil {
		return err
	}
	for _, s := range r.Series {
		if _, err := fmt.Fprintf(w, "%-44s %9.0f %9.0f %9.0f %9.0f\n", s.Name, s.P50, s.P90, s.P99, s.Max); err != nil {
			return err
		}
	}
	names := make([]string, 0, len(r.Ratios))
	for n := range r.Ratios {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		if _, err := fmt.Fprintf(w, "ratio of medians, %s: %.2f\n", n, r.Ratios[n]); err != nil {
			return err
		}
	}
	return nil
}
