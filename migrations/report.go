package migrations

import (
	"fmt"
	"strings"
)

// A State says what became of a Step.
type State uint8

// The states of a step. The zero State is invalid.
const (
	// Done: it was done now.
	Done State = iota + 1
	// Already: it was so before.
	Already
	// Planned: a dry run printed what would be done.
	Planned
	// Skipped: it was left out and can be; Why says what that means.
	Skipped
	// Refused: it was not done and somebody has to act; Why says what and how.
	Refused
)

// String is the word for people.
func (s State) String() string {
	switch s {
	case Done:
		return "done"
	case Already:
		return "already"
	case Planned:
		return "planned"
	case Skipped:
		return "skipped"
	case Refused:
		return "refused"
	}
	return "invalid"
}

// A Step is one thing that setup, sync or down had to do.
type Step struct {
	What  string
	SQL   []string
	State State
	Why   string
}

// String is one line.
func (s Step) String() string {
	line := fmt.Sprintf("%-8s %s", s.State, s.What)
	if s.Why != "" {
		line += ": " + s.Why
	}
	return line
}

// A Report lists what was done.
type Report struct {
	Steps []Step
	// Notes are about the server, for people: nothing has to be done about them now.
	Notes []string

	// Host is who runs the server. Setup alone sets it.
	Host Host
	// Login is the service login, and DatabaseURL how it connects. Setup alone sets them.
	Login       string
	DatabaseURL string
	// Password is set where Setup generated it. It is nowhere else in plain text.
	Password string
}

// String is a line for each step and note.
func (r Report) String() string {
	var b strings.Builder
	for _, s := range r.Steps {
		b.WriteString(s.String() + "\n")
	}
	for _, n := range r.Notes {
		b.WriteString("note     " + n + "\n")
	}
	return b.String()
}

// Changed tells whether anything was done.
func (r Report) Changed() bool {
	for _, s := range r.Steps {
		if s.State == Done {
			return true
		}
	}
	return false
}

// A RefusedError tells that not all could be done; the rest was.
type RefusedError struct{ Steps []Step }

// Error names the first step and counts the others.
func (e *RefusedError) Error() string {
	s := e.Steps[0]
	line := s.What + ": " + s.Why
	if n := len(e.Steps) - 1; n > 0 {
		line += fmt.Sprintf(" (and %d more)", n)
	}
	return line
}

// refused is the error of a report, nil where nothing was refused.
func (r Report) refused() error {
	var e RefusedError
	for _, s := range r.Steps {
		if s.State == Refused {
			e.Steps = append(e.Steps, s)
		}
	}
	if e.Steps == nil {
		return nil
	}
	return &e
}
