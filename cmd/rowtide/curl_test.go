package main

import (
	"bufio"
	"context"
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A stream is curl with a subscription, and what it printed.
type stream struct {
	t      *testing.T
	name   string
	lines  *bufio.Scanner
	cursor string
}

// result is one result, however it is wrapped.
type result struct {
	Data *struct {
		Notes struct{ Kind string }
	}
	Extensions struct{ Cursor *string }
	Errors     json.RawMessage
}

// curl runs curl -N until the stream ends, or the test does.
func curl(t *testing.T, name, accept, addr, token string, request map[string]any, more ...string) *stream {
	t.Helper()
	body, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"-sN", "--max-time", "180", "http://" + addr + "/graphql", "-H", "Authorization: Bearer " + token,
		"-H", "Content-Type: application/json", "-H", "Accept: " + accept, "-d", string(body),
	}, more...)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	cmd := exec.CommandContext(ctx, "curl", args...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); _ = cmd.Wait() })
	return &stream{t: t, name: name, lines: bufio.NewScanner(out)}
}

// next gives the next result: a line of data in an event stream, a line of JSON in a part. It is
// false where the stream has ended.
func (s *stream) next() (result, bool) {
	s.t.Helper()
	for s.lines.Scan() {
		line := strings.TrimPrefix(strings.TrimSuffix(s.lines.Text(), "\r"), "data: ")
		if !strings.HasPrefix(line, "{") || line == "{}" {
			continue // a header, a boundary, a heartbeat
		}
		var r struct {
			result
			Payload *result
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("%s: %s: %v", s.name, line, err)
		}
		if r.Payload != nil {
			r.result = *r.Payload
		}
		if c := r.Extensions.Cursor; c != nil {
			s.cursor = *c
		}
		return r.result, true
	}
	return result{}, false
}

// kinds reads the kinds of changes up to one.
func (s *stream) kinds(last string) string {
	s.t.Helper()
	var kinds []string
	for {
		r, ok := s.next()
		if !ok || r.Data == nil {
			s.t.Fatalf("%s: after %v came %s, want %s", s.name, kinds, r.Errors, last)
		}
		if kinds = append(kinds, r.Data.Notes.Kind); r.Data.Notes.Kind == last {
			return strings.Join(kinds, " ")
		}
	}
}

// TestCurlFollowsTheProgram is curl -N against the program as it is installed, over both transports
// that it can speak: a subscription from end to end, a deploy that it gets over by its cursor, an
// error.
func TestCurlFollowsTheProgram(t *testing.T) {
	t.Parallel()
	db, role, args := installedNotes(t)
	addr, token := freePort(t), tokenOf(t, testSecret, role, time.Hour)
	stop := deploy(t, addr, args)
	accepts := map[string]string{"events": "text/event-stream", "multipart": "multipart/mixed;subscriptionSpec=1.0"}
	streams := map[string]*stream{}
	for name, accept := range accepts {
		s := curl(t, name, accept, addr, token, map[string]any{"query": followNotes})
		if got := s.kinds("LIVE"); got != "RESET SNAPSHOT LIVE" {
			t.Errorf("%s began with %s", name, got)
		}
		streams[name] = s
	}
	db.Exec(t, "INSERT INTO notes VALUES (1, 'a')")
	for name, s := range streams {
		if got := s.kinds("INSERT"); got != "INSERT" {
			t.Errorf("%s went on with %s", name, got)
		}
	}
	stop()
	for name, s := range streams {
		for more := true; more; { // a clean end: what it says besides is for the client to read
			var r result
			if r, more = s.next(); r.Data != nil {
				t.Errorf("%s: %s came while the service ended", name, r.Data.Notes.Kind)
			}
		}
	}
	db.Exec(t, "INSERT INTO notes VALUES (2, 'while it was away')")
	deploy(t, addr, args)
	resumed := map[string]*stream{
		"events":    curl(t, "events", accepts["events"], addr, token, map[string]any{"query": followNotes}, "-H", "Last-Event-ID: "+streams["events"].cursor),
		"multipart": curl(t, "multipart", accepts["multipart"], addr, token, map[string]any{"query": followNotes, "variables": map[string]any{"after": streams["multipart"].cursor}}),
	}
	for name, s := range resumed {
		if got := strings.TrimPrefix(s.kinds("INSERT"), "LIVE "); got != "INSERT" {
			t.Errorf("%s came back with %s, want what it missed and nothing twice", name, got)
		}
	}
	for name, accept := range accepts {
		r, ok := curl(t, name, accept, addr, token, map[string]any{"query": mistaken}).next()
		if !ok || !strings.Contains(string(r.Errors), "GRAPHQL_VALIDATION_FAILED") {
			t.Errorf("%s was told %s of a mistake", name, r.Errors)
		}
	}
}
