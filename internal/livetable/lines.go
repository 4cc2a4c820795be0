package livetable

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"golang.org/x/text/width"
)

// A Style says how lines may look. The zero Style is plain text.
type Style struct{ Color bool }

// SGR codes (ECMA-48, 8.3.117).
const (
	bold   = "1"
	faint  = "2"
	struck = "9"
	red    = "31"
	green  = "32"
	yellow = "33"
)

func (s Style) paint(text string, codes ...string) string {
	if !s.Color || len(codes) == 0 {
		return text
	}
	return "\x1b[" + strings.Join(codes, ";") + "m" + text + "\x1b[0m"
}

// Lines are the table within a terminal's size: a title, the columns, the rows, and what is to be
// said. Where there is no room for all rows those that changed last are shown.
func (t *Table) Lines(wide, high int, style Style, now time.Time) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleLocked(now)
	t.dirty = false
	rows, hidden := t.shownLocked(max(high-frame, 1))
	widths := t.widthsLocked(rows, wide)
	lines := []string{style.paint(clip(t.title, wide), bold), style.paint(line("  ", t.columns, widths), faint)}
	for _, r := range rows {
		lines = append(lines, r.line(widths, style))
	}
	for _, said := range []string{t.summaryLocked(hidden), t.status + " · + new  ~ changed  - gone · Ctrl-C ends"} {
		lines = append(lines, style.paint(clip(said, wide), faint))
	}
	return lines
}

// frame is the number of lines that are no rows.
const frame = 4

func (t *Table) summaryLocked(hidden int) string {
	n := len(t.byID)
	for _, r := range t.rows {
		if r.mark == gone {
			n--
		}
	}
	said := fmt.Sprintf("%d rows, %d changes", n, t.changes)
	if hidden > 0 {
		said += fmt.Sprintf("; %d rows that were still for longer are not shown", hidden)
	}
	if t.forgot > 0 {
		said += fmt.Sprintf("; %d were forgotten", t.forgot)
	}
	return said
}

// shownLocked are the rows for which there is room.
func (t *Table) shownLocked(room int) (rows []*row, hidden int) {
	if len(t.rows) <= room {
		return t.rows, 0
	}
	rows = slices.Clone(t.rows)
	slices.SortStableFunc(rows, func(a, b *row) int { return b.since.Compare(a.since) })
	return rows[:room], len(rows) - room
}

// least is what a column keeps when others need room.
const least = 3

// widthsLocked gives each column what it needs, and takes from the widest where that is too much.
func (t *Table) widthsLocked(rows []*row, wide int) []int {
	widths := make([]int, len(t.columns))
	for i, c := range t.columns {
		widths[i] = cellsWide(c)
		for _, r := range rows {
			widths[i] = max(widths[i], cellsWide(r.cells[i]))
		}
	}
	for {
		sum, widest := 2, 0
		for i, w := range widths {
			sum += w + 2
			if w > widths[widest] {
				widest = i
			}
		}
		switch over := sum - 2 - wide; {
		case len(widths) == 0 || over <= 0:
			return widths
		case widths[widest] > least:
			widths[widest] = max(least, widths[widest]-over)
		default:
			return withoutLast(widths, over)
		}
	}
}

// withoutLast takes out columns from the end for which there is no room at all.
func withoutLast(widths []int, over int) []int {
	for i := len(widths) - 1; i >= 0 && over > 0; i-- {
		over -= widths[i] + 2
		widths[i] = 0
	}
	return widths
}

func (r *row) line(widths []int, style Style) string {
	switch r.mark {
	case came:
		return style.paint(line("+ ", r.cells, widths), green)
	case gone:
		return style.paint(line("- ", r.cells, widths), red, struck)
	case updated:
		var b strings.Builder
		b.WriteString(style.paint("~ ", yellow))
		for i, c := range r.cells {
			if widths[i] == 0 {
				continue
			}
			text := pad(c, widths[i])
			if r.changed[i] {
				text = style.paint(text, yellow, bold)
			}
			b.WriteString(text + "  ")
		}
		return strings.TrimRight(b.String(), " ")
	case still:
	}
	return line("  ", r.cells, widths)
}

func line(before string, cells []string, widths []int) string {
	var b strings.Builder
	b.WriteString(before)
	for i, c := range cells {
		if widths[i] == 0 {
			continue
		}
		b.WriteString(pad(c, widths[i]) + "  ")
	}
	return strings.TrimRight(b.String(), " ")
}

func pad(s string, wide int) string {
	s = clip(s, wide)
	return s + strings.Repeat(" ", wide-cellsWide(s))
}

// clip shortens a text to so many cells, and shows that it did.
func clip(s string, wide int) string {
	if cellsWide(s) <= wide {
		return s
	}
	var b strings.Builder
	used := 0
	for _, r := range s {
		if used+runeWide(r) > wide-1 {
			break
		}
		b.WriteRune(r)
		used += runeWide(r)
	}
	return b.String() + "…"
}

func cellsWide(s string) int {
	n := 0
	for _, r := range s {
		n += runeWide(r)
	}
	return n
}

// runeWide is how many cells a terminal gives to a character (Unicode UAX #11).
func runeWide(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me) {
		return 0
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// cell is a value as text.
func cell(v json.RawMessage) string {
	text := string(v)
	var s string
	if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' {
		text = s
	} else if b := (&bytes.Buffer{}); json.Compact(b, v) == nil {
		text = b.String()
	}
	return printable(text)
}

// printable escapes what could do anything but be read.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t' || r == ' ':
			b.WriteByte(' ')
		case unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
