package graphqlhttp_test

import (
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/graphqlhttp"
)

var eventID = regexp.MustCompile(`(?m)^id:(.*)$`)

// idOf gives the id of an event; it must have one, be it empty.
func idOf(t *testing.T, event string) string {
	t.Helper()
	m := eventID.FindStringSubmatch(event)
	if m == nil {
		t.Fatalf("event has no id: %q", event)
	}
	return strings.TrimSpace(m[1])
}

// TestEventsCarryTheirCursor follows a stream, loses it, and comes back as a browser does.
func TestEventsCarryTheirCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	r := w.stream(asEvents, "ann", `{}`, nil)
	if got := r.resp.header.Get("Content-Type"); got != "text/event-stream; charset=utf-8" {
		t.Errorf("Content-Type %q", got)
	}
	r.expect("event: next\n", `"kind":"LIVE"`)
	w.put(1, "bob", `"hidden"`)
	w.put(2, "ann", `"a"`)
	id := idOf(t, r.expect("event: next\n", `"kind":"INSERT"`, `{"id":2,"note":"a"}`))
	if len(id) != 32 {
		t.Errorf("id %q is no cursor", id)
	}
	r.resp.body.Close()
	w.put(2, "ann", `"b"`)

	r = w.stream(asEvents, "ann", `{"after":"not this"}`, map[string]string{"Last-Event-ID": id})
	r.expect(`"kind":"UPDATE"`, `"note":"b"`)
	r.expect(`"kind":"LIVE"`)

	// Within a snapshot there is nothing to resume from, whatever came before.
	r = w.stream(asEvents, "ann", `{"snapshot":true}`, nil)
	for _, kind := range []string{"RESET", "SNAPSHOT"} {
		if id := idOf(t, r.expect(`"kind":"`+kind+`"`)); id != "" {
			t.Errorf("%s has id %q, want an empty one", kind, id)
		}
	}
	if id := idOf(t, r.expect(`"kind":"LIVE"`)); id == "" {
		t.Error("LIVE has no id")
	}
}

// TestLastEventIDThatIsNotHeldResyncs: with a snapshot the stream heals, without it ends, and
// the id is cleared, so that a browser that comes back by itself starts anew.
func TestLastEventIDThatIsNotHeldResyncs(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	gone := map[string]string{"Last-Event-ID": strings.Repeat("A", 32)}
	r := w.stream(asEvents, "ann", `{"snapshot":true}`, gone)
	r.expect(`"kind":"RESET"`, `"reason":"retention"`)
	r.expect(`"kind":"LIVE"`)
	r = w.stream(asEvents, "ann", `{}`, gone)
	if id := idOf(t, r.expect("event: next\n", `"code":"RESYNC_REQUIRED"`, `"reason":"retention"`)); id != "" {
		t.Errorf("id %q", id)
	}
	r.expect("event: complete\ndata:")
	r.expectEnd()
}

// TestEventsAreWholeWhateverJSONHolds: a column of type json comes as it was written, and a line
// end in it would end the field.
//
// Covers S71.
func TestEventsAreWholeWhateverJSONHolds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	r := w.stream(asEvents, "ann", `{}`, nil)
	r.expect(`"kind":"LIVE"`)
	w.put(1, "ann", "{\n\"a\":\r\n\r\n1,\"b\":\"\u2028</script>\"}")
	got := r.expect("event: next\n")
	if _, data, _ := strings.Cut(got, "\ndata: "); !strings.Contains(data, `{ "a":    1,"b":"\u2028`) || strings.ContainsAny(data, "\r\n") || strings.Contains(data, "<") {
		t.Errorf("got data %q", data)
	}
}

// TestErrorsComeInTheStream: a browser's EventSource shows nothing of a refused request.
func TestErrorsComeInTheStream(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	for query, code := range map[string]string{"{": "GRAPHQL_PARSE_FAILED", "subscription { secrets { kind } }": "GRAPHQL_VALIDATION_FAILED"} {
		r := newReader(t, w.do(call{body: fmt.Sprintf(`{"query":%q}`, query), header: map[string]string{"Accept": asEvents}}))
		r.expect("event: next\n", `data: {"errors":[{`, code)
		r.expect("event: complete\ndata:")
		r.expectEnd()
	}
	r := newReader(t, w.do(call{body: ping, header: map[string]string{"Accept": asEvents}}))
	r.expect("event: next\n", "data: "+version)
	r.expect("event: complete\ndata:")
	r.expectEnd()
	for status, c := range map[int]call{
		401: {body: ping, token: "eve"},
		400: {body: "{"},
		415: {body: ping, header: map[string]string{"Content-Type": "text/plain"}},
	} {
		if c.header == nil {
			c.header = map[string]string{}
		}
		c.header["Accept"] = asEvents
		if got, typ, body := w.ask(c); got != status || !strings.HasPrefix(typ, asJSON) {
			t.Errorf("got %d %s %s, want %d", got, typ, body, status)
		}
	}
}

func TestPartsAsApolloReadsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	r := w.stream(asParts, "ann", `{}`, nil)
	if got := r.resp.header.Get("Content-Type"); got != `multipart/mixed;boundary="-";subscriptionSpec=1.0` {
		t.Errorf("Content-Type %q", got)
	}
	r.expect("Content-Type: application/json\r\n\r\n", `{"payload":{"data":{"todos":{"kind":"LIVE"`)
	w.put(1, "ann", `"a"`)
	r.expect(`{"payload":{"data":{"todos":{"kind":"INSERT"`)

	quoted := w.stream("multipart/mixed;subscriptionSpec=\"1.0\"", "ann", `{}`, nil)
	quoted.expect(`"LIVE"`)

	// What fails before there is a stream is an answer like any other.
	for code, body := range map[string]string{
		"GRAPHQL_VALIDATION_FAILED": `{"query":"subscription { secrets { kind } }"}`,
		"RESYNC_REQUIRED":           follow + `,"variables":{"after":"` + strings.Repeat("A", 32) + `"}}`,
	} {
		status, typ, got := w.ask(call{body: body, header: map[string]string{"Accept": asParts}})
		if status != 200 || !strings.HasPrefix(typ, asJSON) || !strings.Contains(got, code) {
			t.Errorf("got %d %s %s, want %s", status, typ, got, code)
		}
	}
	if status, _, _ := w.ask(call{body: follow + "}", header: map[string]string{"Accept": "multipart/mixed"}}); status != 406 {
		t.Errorf("multipart/mixed of another kind: got %d, want 406", status)
	}
	r = newReader(t, w.do(call{body: ping, header: map[string]string{"Accept": "multipart/mixed;subscriptionSpec=1.0"}}))
	r.expect(`{"payload":` + version + `}`)
	if m, ok := r.next(); ok || m != "--\r\n" {
		t.Errorf("got %q, want the last boundary", m)
	}

	// What ends the subscription comes beside the payload.
	w.dropTable()
	quoted.expectProtocolError("SCHEMA_CHANGED")
}

// expectProtocolError reads the error that ends a multipart stream.
func (r *reader) expectProtocolError(code string) {
	r.t.Helper()
	r.expect(`{"payload":null,"errors":[{"message":`, code)
	if m, ok := r.next(); ok || m != "--\r\n" {
		r.t.Errorf("got %q, want the last boundary", m)
	}
}

// TestSilenceIsFilled reads what a stream says when there is nothing to say.
func TestSilenceIsFilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{Heartbeat: 5 * time.Millisecond}, fanout.Limits{})
	r := w.stream(asParts, "ann", `{}`, nil)
	r.expect(`"LIVE"`)
	for range 3 {
		r.expect("Content-Type: application/json\r\n\r\n{}")
	}
	r = w.stream(asEvents, "ann", `{}`, nil)
	r.expect(`"LIVE"`)
	for i := 0; i < 3; {
		b := make([]byte, 100)
		n, err := r.resp.body.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		i += strings.Count(string(b[:n]), ":\n\n")
	}
}

// TestATokenThatEndsEndsItsStreams: nothing more is sent, and the client should come back with
// another token.
//
// Covers S27.
func TestATokenThatEndsEndsItsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	r := w.stream(asEvents, "ann 300ms", `{}`, nil)
	r.expect(`"LIVE"`)
	r.expectEnd() // without a complete
	r = w.stream(asParts, "ann 300ms", `{}`, nil)
	r.expect(`"LIVE"`)
	r.expectProtocolError("UNAUTHENTICATED")
	if status, _, body := w.ask(call{body: follow + "}", token: "ann -1s", header: map[string]string{"Accept": asEvents}}); status != 401 {
		t.Errorf("a token that has ended: got %d %s, want 401", status, body)
	}
}

// TestDrainSendsWhatIsQueuedAndEndsStreams such that clients come back, and lets nobody in.
func TestDrainSendsWhatIsQueuedAndEndsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	events, parts := w.stream(asEvents, "ann", `{}`, nil), w.stream(asParts, "ann", `{}`, nil)
	single := w.reserve("ann")
	single.begin("1", `{}`)
	single.begin("2", `{}`)
	both := single.connect()
	for _, r := range []*reader{events, parts, both, both} {
		r.expect(`"LIVE"`)
	}
	w.put(1, "ann", `"last"`)
	for _, r := range []*reader{events, parts, both, both} {
		r.expect(`"last"`)
	}
	idle := w.reserve("bob").connect()
	w.reserve("bob")
	if err := w.handler.Drain(t.Context()); err != nil {
		t.Errorf("drain: %v", err)
	}
	events.expectEnd()
	both.expectEnd()
	idle.expectEnd()
	parts.expectProtocolError("INTERNAL")
	resp := w.do(call{body: ping})
	if kind := resp.header.Get("Content-Type"); !strings.HasPrefix(kind, "application/json") {
		t.Errorf("refused as %s, which Apollo's client takes for the operation's result", kind)
	}
	if resp.status != 503 || resp.header.Get("Retry-After") == "" {
		t.Errorf("after the drain: got %d, Retry-After %q", resp.status, resp.header.Get("Retry-After"))
	}
}

// TestASlowReaderIsCutOff writes more than the queue and the network hold to a client that does
// not read, beside one that does.
//
// Covers S13.
func TestASlowReaderIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{WriteTimeout: 100 * time.Millisecond, Heartbeat: time.Hour}, fanout.Limits{QueueBytes: 4 << 20})
	slow := dial(t, w)
	body := follow + "}"
	fmt.Fprintf(slow, "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ann\r\nAccept: text/event-stream\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	quick := w.stream(asEvents, "ann", `{}`, nil)
	quick.expect(`"LIVE"`)
	large := `"` + strings.Repeat("x", 1<<20) + `"`
	for i := range 30 {
		w.put(i, "ann", large)
		quick.expect(fmt.Sprintf(`"row":{"id":%d,`, i))
	}
	// The server has given it up: what it was sent ends, and it was not all.
	n, err := io.Copy(io.Discard, slow)
	if err != nil && !strings.Contains(err.Error(), "reset") {
		t.Error(err)
	}
	if n >= 30<<20 {
		t.Errorf("the slow client got all %d bytes", n)
	}
}

// TestSnapshotsStreamToPatientClients: a snapshot waits for its reader, however large.
func TestSnapshotsStreamToPatientClients(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{QueueBytes: 64 << 10})
	for i := range 300 {
		w.put(i, "ann", `"`+strings.Repeat("x", 2000)+`"`)
	}
	for _, accept := range []string{asEvents, asParts} {
		r := w.stream(accept, "ann", `{"snapshot":true}`, nil)
		r.expect(`"RESET"`)
		for i := range 300 {
			r.expect(`"SNAPSHOT"`, fmt.Sprintf(`"row":{"id":%d,`, i))
		}
		r.expect(`"LIVE"`)
	}
}
