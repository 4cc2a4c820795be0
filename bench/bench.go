// Package bench measures Rowtide against a baseline in the same run: the figures that count are
// ratios, since machines differ and are noisy. Each Scenario starts a Postgres of its own, and a
// process of the same binary (Load) that plays the clients: it checks what it gets, frame by
// frame, and its work does not count as the service's.
package bench

import (
	"cmp"
	"fmt"
	"io"
	"math"
	"runtime"
	"slices"
	"time"
)

// A Result is what a scenario measured, for people (Print, Chart) and programs (JSON).
type Result struct {
	Scenario string `json:"scenario"`
	Postgres string `json:"postgres"`
	CPUs     int    `json:"cpus"`
	Rounds   int    `json:"rounds"`
	// Columns name the values of each series, with their units.
	Columns []string `json:"columns"`
	Series  []Series `json:"series"`
	Ratios  []Ratio  `json:"ratios"`
	// Notes say what the figures do not.
	Notes []string `json:"notes,omitempty"`
	// Charted is the column that Chart draws: as bars, or the Curves where there are any, Across some number.
	Charted int     `json:"-"`
	Curves  []Curve `json:"-"`
	Across  string  `json:"-"`

	rounds map[string][][]float64 // of sample
}

// A Series is what was measured of one thing: the median of the rounds for each of the Columns.
// A value that was not measured is NaN, in JSON null.
type Series struct {
	Name   string   `json:"name"`
	Values []Figure `json:"values"`
}

// A Figure is a measured value.
type Figure float64

// MarshalJSON writes what was not measured as null.
func (f Figure) MarshalJSON() ([]byte, error) {
	if math.IsNaN(float64(f)) {
		return []byte("null"), nil
	}
	return fmt.Appendf(nil, "%.6g", float64(f)), nil
}

// A Ratio compares two figures of the same run.
type Ratio struct {
	Name  string `json:"name"`
	Value Figure `json:"value"`
	// Goal is what it should be.
	Goal string `json:"goal,omitempty"`
}

// nan is a value that was not measured.
var nan = math.NaN()

func newResult(scenario, postgres string, rounds int, columns ...string) *Result {
	return &Result{Scenario: scenario, Postgres: postgres, CPUs: runtime.NumCPU(), Rounds: rounds, Columns: columns}
}

func (r *Result) add(name string, values ...float64) {
	s := Series{Name: name}
	for _, v := range values {
		s.Values = append(s.Values, Figure(v))
	}
	r.Series = append(r.Series, s)
}

// sample adds what one round measured: the series has the medians of its rounds.
func (r *Result) sample(name string, values ...float64) {
	if _, known := r.rounds[name]; !known {
		r.add(name, values...)
	}
	if r.rounds == nil {
		r.rounds = map[string][][]float64{}
	}
	r.rounds[name] = append(r.rounds[name], values)
	series := r.series(name)
	for i := range values {
		var column []float64
		for _, round := range r.rounds[name] {
			column = append(column, round[i])
		}
		series.Values[i] = Figure(median(column))
	}
}

func (r *Result) series(name string) *Series {
	i := slices.IndexFunc(r.Series, func(s Series) bool { return s.Name == name })
	return &r.Series[i]
}

// at is the value of a series in a column.
func (r *Result) at(name string, column int) float64 { return float64(r.series(name).Values[column]) }

func (r *Result) ratio(name string, value float64, goal string) {
	r.Ratios = append(r.Ratios, Ratio{name, Figure(value), goal})
}

// Print writes the result as a table.
func (r *Result) Print(w io.Writer) error {
	p := &printer{w: w}
	p.printf("%s, PostgreSQL %s, %d CPUs, %d rounds\n%-46s", r.Scenario, r.Postgres, r.CPUs, r.Rounds, "")
	for _, c := range r.Columns {
		p.printf(" %*s", max(len(c), 10), c)
	}
	p.printf("\n")
	for _, s := range r.Series {
		p.printf("%-46s", s.Name)
		for i, v := range s.Values {
			p.printf(" %*s", max(len(r.Columns[i]), 10), figure(float64(v)))
		}
		p.printf("\n")
	}
	for _, x := range r.Ratios {
		p.printf("%s: %s", x.Name, figure(float64(x.Value)))
		if x.Goal != "" {
			p.printf(" (goal: %s)", x.Goal)
		}
		p.printf("\n")
	}
	for _, n := range r.Notes {
		p.printf("%s\n", n)
	}
	return p.err
}

// A printer keeps the first error.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) printf(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// figure writes three significant digits at least, and whole numbers where those are more.
func figure(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v):
		return "-"
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// percentiles gives p50, p90, p99 and the maximum, in microseconds.
func percentiles(d []time.Duration) []float64 {
	slices.SortFunc(d, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	out := make([]float64, 0, 4)
	for _, q := range []float64{0.5, 0.9, 0.99, 1} {
		v := nan
		if len(d) > 0 {
			v = float64(d[min(len(d)-1, int(q*float64(len(d))))].Nanoseconds()) / 1e3
		}
		out = append(out, v)
	}
	return out
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
