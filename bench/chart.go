package bench

import (
	"fmt"
	"html"
	"io"
	"math"
)

// Sizes of a chart, in pixels.
const (
	chartWidth  = 720
	chartLabels = 300
	chartBar    = 22
	chartGap    = 10
	chartHead   = 56
)

// Chart draws one column of the result as bars, or its curves, in SVG that reads on light and dark pages.
func (r *Result) Chart(w io.Writer) error {
	if len(r.Curves) > 0 {
		return r.chartCurves(w)
	}
	most := 0.0
	for _, s := range r.Series {
		if v := float64(s.Values[r.Charted]); !math.IsNaN(v) {
			most = max(most, v)
		}
	}
	height := chartHead + len(r.Series)*(chartBar+chartGap) + chartGap
	p := &printer{w: w}
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n", chartWidth, height)
	p.printf("<style>text{fill:#24292f}.bar{fill:#2f6feb}.small{fill:#57606a}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}}</style>\n")
	p.printf(`<text x="8" y="22" font-size="15" font-weight="600">%s: %s</text>`+"\n", html.EscapeString(r.Scenario), html.EscapeString(r.Columns[r.Charted]))
	p.printf(`<text class="small" x="8" y="42">PostgreSQL %s, %d CPUs, median of %d rounds</text>`+"\n", html.EscapeString(r.Postgres), r.CPUs, r.Rounds)
	for i, s := range r.Series {
		v := float64(s.Values[r.Charted])
		y := chartHead + i*(chartBar+chartGap)
		length := 0.0
		if most > 0 && !math.IsNaN(v) {
			length = v / most * (chartWidth - chartLabels - 90)
		}
		p.printf(`<text x="%d" y="%d" text-anchor="end">%s</text>`, chartLabels-8, y+16, html.EscapeString(s.Name))
		p.printf(`<rect class="bar" x="%d" y="%d" width="%.1f" height="%d" rx="3"/>`, chartLabels, y, length, chartBar)
		p.printf(`<text x="%s" y="%d">%s</text>`+"\n", fmt.Sprintf("%.1f", chartLabels+length+6), y+16, figure(v))
	}
	p.printf("</svg>\n")
	return p.err
}
