package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Lines writes entries as lines of JSON.
type Lines struct{ w io.Writer }

// NewLines makes a Sink of a writer that appends.
func NewLines(w io.Writer) *Lines { return &Lines{w} }

// Write writes all entries with one call, so that lines of two processes do not mix.
func (s *Lines) Write(_ context.Context, entries []Entry) error {
	var out []byte
	for i := range entries {
		line, err := json.Marshal(&entries[i])
		if err != nil {
			return fmt.Errorf("write audit log: %w", err)
		}
		out = append(append(out, line...), '\n')
	}
	n, err := s.w.Write(out)
	if err == nil && n < len(out) {
		err = errors.New("short write")
	}
	if err != nil {
		return fmt.Errorf("write audit log: %w", err)
	}
	return nil
}
