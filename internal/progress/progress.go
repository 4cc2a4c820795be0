// Package progress shows people who wait how far something is: a bar on a terminal, and nothing
// at all elsewhere, where it would only fill logs.
package progress

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"
)

// A Bar counts bytes. Its methods may be called from one goroutine at a time.
type Bar struct {
	out   io.Writer // nil shows nothing
	label string
	total int64 // 0 where it is not known
	done  int64
	drawn time.Time
	now   func() time.Time
}

// every is how often a bar is drawn at most.
const every = 100 * time.Millisecond

// New makes a bar for so many bytes, 0 where nobody knows. It is shown where w is a terminal.
func New(w io.Writer, label string, total int64) *Bar {
	if f, ok := w.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		w = nil
	}
	return &Bar{out: w, label: label, total: total, now: time.Now}
}

// Write counts bytes, so that a Bar can stand beside a file in an io.MultiWriter.
func (b *Bar) Write(p []byte) (int, error) {
	b.done += int64(len(p))
	if now := b.now(); b.out != nil && now.Sub(b.drawn) >= every {
		b.drawn = now
		_, _ = io.WriteString(b.out, "\r"+b.line())
	}
	return len(p), nil
}

// Done takes the bar away.
func (b *Bar) Done() {
	if b.out != nil && !b.drawn.IsZero() {
		_, _ = io.WriteString(b.out, "\r\x1b[K")
	}
}

const wide = 30

func (b *Bar) line() string {
	const mega = 1 << 20
	if b.total <= 0 {
		return fmt.Sprintf("%s %.1f MB", b.label, float64(b.done)/mega)
	}
	full := int(min(b.done, b.total) * wide / b.total)
	return fmt.Sprintf("%s [%s%s] %.1f of %.1f MB", b.label, strings.Repeat("#", full), strings.Repeat(".", wide-full),
		float64(b.done)/mega, float64(b.total)/mega)
}
