package bench

import (
	"fmt"
	"html"
	"io"
	"math"
)

// A Curve is one column of a result as a number grows.
type Curve struct {
	Name string
	X, Y []float64
}

// curve takes a column of series that were measured for numbers.
func curve(name string, numbers []int, of []Series, column int) Curve {
	c := Curve{Name: name}
	for i, n := range numbers {
		c.X, c.Y = append(c.X, float64(n)), append(c.Y, float64(of[i].Values[column]))
	}
	return c
}

// Sizes of curves, in pixels.
const (
	curvesLeft, curvesRight = 70, 40
	curvesTop, curvesHigh   = 60, 300
	curvesLegend            = 22
)

// A scale is a logarithmic axis from one power of ten to another.
type scale struct {
	from, to     int
	start, width float64
}

func (s scale) at(v float64) float64 {
	return s.start + s.width*(math.Log10(v)-float64(s.from))/float64(max(s.to-s.from, 1))
}

func scaleOf(curves []Curve, values func(Curve) []float64, start, width float64) scale {
	least, most := math.Inf(1), 0.0
	for _, c := range curves {
		for _, v := range values(c) {
			least, most = min(least, v), max(most, v)
		}
	}
	return scale{int(math.Floor(math.Log10(least))), int(math.Ceil(math.Log10(most))), start, width}
}

// chartCurves draws the curves over logarithmic axes.
func (r *Result) chartCurves(w io.Writer) error {
	colors := []string{"#2f6feb", "#1a7f37", "#bf8700", "#cf222e", "#8250df"}
	x := scaleOf(r.Curves, func(c Curve) []float64 { return c.X }, curvesLeft, chartWidth-curvesLeft-curvesRight)
	y := scaleOf(r.Curves, func(c Curve) []float64 { return c.Y }, curvesTop+curvesHigh, -curvesHigh)
	p := &printer{w: w}
	bottom := curvesTop + curvesHigh
	p.printf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="13">`+"\n",
		chartWidth, bottom+50+len(r.Curves)*curvesLegend)
	p.printf("<style>text{fill:#24292f}.small{fill:#57606a}.grid{stroke:#8c959f;stroke-opacity:.35}polyline{fill:none;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.small{fill:#9198a1}}</style>\n")
	p.printf(`<text x="8" y="22" font-size="15" font-weight="600">%s: %s</text>`+"\n", html.EscapeString(r.Scenario), html.EscapeString(r.Columns[r.Charted]))
	p.printf(`<text class="small" x="8" y="42">PostgreSQL %s, %d CPUs, across %s; both axes are logarithmic</text>`+"\n", html.EscapeString(r.Postgres), r.CPUs, html.EscapeString(r.Across))
	for n := x.from; n <= x.to; n++ {
		at := x.at(math.Pow10(n))
		p.printf(`<line class="grid" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/><text class="small" x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", at, at, curvesTop, bottom, at, bottom+18, figure(math.Pow10(n)))
	}
	for n := y.from; n <= y.to; n++ {
		at := y.at(math.Pow10(n))
		p.printf(`<line class="grid" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text class="small" x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", curvesLeft, chartWidth-curvesRight, at, at, curvesLeft-6, at+4, figure(math.Pow10(n)))
	}
	for i, c := range r.Curves {
		color := colors[i%len(colors)]
		p.printf(`<polyline stroke="%s" points="`, color)
		for k := range c.X {
			p.printf("%.1f,%.1f ", x.at(c.X[k]), y.at(c.Y[k]))
		}
		p.printf(`"/>`)
		at := bottom + 42 + i*curvesLegend
		p.printf(`<rect x="%d" y="%d" width="14" height="4" fill="%s"/><text x="%d" y="%d">%s</text>`+"\n", curvesLeft, at-6, color, curvesLeft+22, at,
			html.EscapeString(fmt.Sprintf("%s: %s … %s", c.Name, figure(c.Y[0]), figure(c.Y[len(c.Y)-1]))))
	}
	p.printf("</svg>\n")
	return p.err
}
