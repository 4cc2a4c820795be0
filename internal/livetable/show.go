package livetable

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// A Screen is a terminal.
type Screen struct {
	Out io.Writer
	// Size gives columns and lines at the moment. It is asked before each drawing: the terminal
	// may be resized at any time.
	Size  func() (wide, high int)
	Style Style
}

// every is how often it is looked whether something is to be drawn.
const every = 100 * time.Millisecond

// Control sequences that every terminal of today knows (xterm's alternate screen, ECMA-48).
const (
	enter     = "\x1b[?1049h\x1b[?25l" // another screen, without a cursor
	leave     = "\x1b[?25h\x1b[?1049l"
	home      = "\x1b[H"
	clearLine = "\x1b[K"
	clearRest = "\x1b[J"
)

// Show draws the table until follow returns, and then leaves the terminal as it was, with the
// last state of the table on it. The error is follow's.
func (s Screen) Show(ctx context.Context, t *Table, follow func(context.Context) error) error {
	if _, err := io.WriteString(s.Out, enter); err != nil {
		return fmt.Errorf("write to terminal: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- follow(ctx) }()
	ended, err := s.draw(t, done)
	if !ended { // it was drawing that failed
		cancel()
		<-done
	}
	wide, high := s.Size()
	lines := t.Lines(wide, max(high-1, frame+1), Style{}, time.Now())
	_, _ = io.WriteString(s.Out, leave+strings.Join(lines[:len(lines)-1], "\n")+"\n")
	return err
}

// draw draws until done gives how it ended, or until it cannot.
func (s Screen) draw(t *Table, done <-chan error) (ended bool, err error) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	wide, high := 0, 0
	for {
		w, h := s.Size()
		if now := time.Now(); t.stale(now) || w != wide || h != high {
			wide, high = w, h
			if _, err := io.WriteString(s.Out, screenful(t.Lines(w, h, s.Style, now))); err != nil {
				return false, fmt.Errorf("write to terminal: %w", err)
			}
		}
		select {
		case err := <-done:
			return true, err
		case <-tick.C:
		}
	}
}

func screenful(lines []string) string {
	return home + strings.Join(lines, clearLine+"\r\n") + clearLine + clearRest
}

// stale tells whether what was drawn is not the table any more.
func (t *Table) stale(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.settleLocked(now)
	return t.dirty
}
