package graphqlhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/graphqlhttp"
)

// A single is a reserved stream.
type single struct {
	w     *world
	token string // of the stream
	user  string
}

func (w *world) reserve(user string) *single {
	w.t.Helper()
	status, _, token := w.ask(call{method: http.MethodPut, token: user})
	if status != http.StatusCreated || token == "" {
		w.t.Fatalf("reserve: %d %s", status, token)
	}
	return &single{w: w, token: token, user: user}
}

func (s *single) header() map[string]string {
	return map[string]string{"X-GraphQL-Event-Stream-Token": s.token, "Accept": "*/*"}
}

// operate asks for an operation and gives the status.
func (s *single) operate(user, id, query, variables string) (int, string) {
	s.w.t.Helper()
	body := fmt.Sprintf(`{"query":%q,"variables":%s,"extensions":{"operationId":%q}}`, query, variables, id)
	status, _, answer := s.w.ask(call{token: user, header: s.header(), body: body})
	return status, answer
}

func (s *single) begin(id, variables string) {
	s.w.t.Helper()
	const query = `subscription($after: Cursor, $snapshot: Boolean) { todos(after: $after, snapshot: $snapshot) { kind row { id note } cursor } }`
	if status, body := s.operate(s.user, id, query, variables); status != http.StatusAccepted {
		s.w.t.Fatalf("begin %s: %d %s", id, status, body)
	}
}

// connect opens the stream as a browser's EventSource does: without a token of its own.
func (s *single) connect() *reader {
	s.w.t.Helper()
	return newReader(s.w.t, s.w.do(call{method: http.MethodGet, path: "/?token=" + s.token, header: map[string]string{"Accept": asEvents}}))
}

func (s *single) end(user, id string) int {
	s.w.t.Helper()
	status, _, _ := s.w.ask(call{method: http.MethodDelete, path: "/?operationId=" + id, token: user, header: s.header()})
	return status
}

// TestOneStreamCarriesSeveralOperations goes through PROTOCOL.md's single connection mode.
func TestOneStreamCarriesSeveralOperations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	s := w.reserve("ann")
	s.begin("early", `{}`) // what comes before the stream waits for it
	r := s.connect()
	r.expect("event: next\ndata: {\"id\":\"early\",\"payload\":", `"LIVE"`)
	if status, body := s.operate("ann", "q\n\"", "{ rowtide { version } }", "{}"); status != http.StatusAccepted {
		t.Fatalf("query: %d %s", status, body)
	}
	r.expect(`{"id":"q\n\"","payload":` + version + `}`)
	r.expect("event: complete\ndata: {\"id\":\"q\\n\\\"\"}")

	s.begin("late", `{}`)
	r.expect(`"late"`, `"LIVE"`)
	if status, body := s.operate("ann", "late", "{ __typename }", "{}"); status != http.StatusConflict {
		t.Errorf("an id that is there: %d %s, want 409", status, body)
	}
	if status := s.end("ann", "late"); status != http.StatusOK {
		t.Errorf("delete: %d", status)
	}
	s.begin("late", `{"after":"`+strings.Repeat("A", 32)+`","snapshot":true}`) // the id is free at once
	r.expect(`"late"`, `"RESET"`)
	r.expect(`"late"`, `"LIVE"`)
	s.end("ann", "late")
	w.put(1, "ann", `"x"`)
	r.expect(`"early"`, `"INSERT"`)
	w.put(1, "ann", `"y"`)
	if got := r.expect(`"early"`, `"UPDATE"`); eventID.MatchString(got) {
		t.Errorf("a stream of several operations has ids: %q", got)
	}
	for name, got := range map[string]int{
		"no operation":    s.end("ann", ""),
		"one that is not": s.end("ann", "nowhere"),
	} {
		if want := map[string]int{"no operation": 400, "one that is not": 200}[name]; got != want {
			t.Errorf("end %s: %d, want %d", name, got, want)
		}
	}
	for name, c := range map[string]struct {
		id, query string
		status    int
	}{
		"without an id": {"", "{ __typename }", 400}, "invalid": {"v", "{ nothing }", 400}, "no document": {"v", "{", 400},
		"with a cursor that is not held": {"v", `subscription { todos(after: "x") { kind } }`, 409},
	} {
		if status, body := s.operate("ann", c.id, c.query, "{}"); status != c.status {
			t.Errorf("an operation %s: %d %s, want %d", name, status, body, c.status)
		}
	}
}

// TestAStreamBelongsToWhoReservedIt and is opened once. Others cannot write to it, not even who
// has read its name in a log.
func TestAStreamBelongsToWhoReservedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	s := w.reserve("ann")
	if status, _, body := w.ask(call{method: "GET", token: "bob", header: map[string]string{"Accept": asEvents, "X-GraphQL-Event-Stream-Token": s.token}}); status != 403 {
		t.Errorf("another's stream: %d %s, want 403", status, body)
	}
	r := s.connect()
	if status, _, body := w.ask(call{method: "GET", path: "/?token=" + s.token, header: map[string]string{"Accept": asEvents}}); status != 409 {
		t.Errorf("a second stream: %d %s, want 409", status, body)
	}
	for _, user := range []string{"bob", ""} {
		if status, body := s.operate(user, "1", "{ __typename }", "{}"); status != 403 {
			t.Errorf("%q began an operation on ann's stream: %d %s, want 403", user, status, body)
		}
		if status := s.end(user, "1"); status != 403 {
			t.Errorf("%q ended an operation on ann's stream: %d, want 403", user, status)
		}
	}
	r.resp.body.Close()
	stranger := single{w: w, token: strings.Repeat("A", 26), user: "ann"}
	if status, body := stranger.operate("ann", "1", "{ __typename }", "{}"); status != 404 {
		t.Errorf("a stream that is not: %d %s, want 404", status, body)
	}
	if status, _, body := w.ask(call{method: "DELETE", path: "/?operationId=1", token: "ann"}); status != 404 {
		t.Errorf("no stream: %d %s, want 404", status, body)
	}
}

// TestReservationsAreBounded in number, time and operations.
//
// Covers S11.
func TestReservationsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{Reservations: 2, Subscriptions: 2, ReserveTimeout: 200 * time.Millisecond}, fanout.Limits{})
	s := w.reserve("ann")
	lapsing := w.reserve("bob")
	if status, _, body := w.ask(call{method: "PUT", token: "ann"}); status != 429 {
		t.Errorf("a third reservation: %d %s, want 429", status, body)
	}
	s.begin("1", "{}")
	s.begin("2", "{}")
	if status, body := s.operate("ann", "3", "{ __typename }", "{}"); status != 422 || !strings.Contains(body, "LIMIT_EXCEEDED") {
		t.Errorf("a third operation: %d %s, want 422", status, body)
	}
	r := s.connect()
	r.expect(`"LIVE"`)
	r.expect(`"LIVE"`)
	// bob's lapses, which makes room; the one that was taken stays.
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if status, _ := lapsing.operate("bob", "1", "{ __typename }", "{}"); status == http.StatusNotFound {
			break
		}
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("a reservation did not lapse")
		}
		s.end("ann", "1")
		lapsing.end("bob", "1")
	}
	w.put(1, "ann", `"x"`)
	r.expect(`"INSERT"`)
	w.reserve("bob")
}

// TestATokenThatEndsEndsItsSingleStream, be there operations or not.
//
// Covers S27.
func TestATokenThatEndsEndsItsSingleStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	w.reserve("ann 200ms").connect().expectEnd()
	s := w.reserve("ann 500ms")
	s.begin("1", "{}")
	r := s.connect()
	r.expect(`"LIVE"`)
	r.expectEnd()
}

// TestAStreamThatIsLeftLeavesNothing: its operations end and its name is free.
func TestAStreamThatIsLeftLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{Heartbeat: 5 * time.Millisecond}, fanout.Limits{})
	s := w.reserve("ann")
	s.begin("1", "{}")
	r := s.connect()
	r.expect(`"LIVE"`)
	r.resp.body.Close()
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.end("ann", "x") != http.StatusNotFound {
		select {
		case <-tick.C:
		case <-deadline.Done():
			t.Fatal("the stream is still there")
		}
	}
	if err := w.d.Drain(deadline); err != nil { // none of its subscriptions is left to wait for
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, r.resp.body)
}
