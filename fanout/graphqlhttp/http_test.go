package graphqlhttp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/graphqlhttp"
)

const (
	asJSON     = "application/json"
	asResponse = "application/graphql-response+json"
	asEvents   = "text/event-stream"
	asParts    = "multipart/mixed;boundary=graphql;subscriptionSpec=1.0,application/json"
	ping       = `{"query":"{ rowtide { version } }"}`
	version    = `{"data":{"rowtide":{"version":"7.7"}}}`
)

func TestAcceptDecidesTheMediaType(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	for accept, want := range map[string]string{
		asJSON:                                asJSON,
		asResponse:                            asResponse,
		"*/*":                                 asJSON,
		"application/*":                       asJSON,
		asJSON + ", " + asResponse:            asResponse,
		asJSON + ", " + asResponse + ";q=0.9": asJSON,
		asJSON + ";q=0.1, " + asResponse + ";q=0.5": asResponse,
		asResponse + ";q=0, */*;q=0.1":              asJSON,
		"text/html,application/xml;q=0.9,*/*;q=0.8": asJSON,
		`text/x;a=",", application/json`:            asJSON,
		asParts:                                     asJSON,
		asEvents + ", */*;q=0.1":                    asEvents,
	} {
		status, typ, body := w.ask(call{body: ping, header: map[string]string{"Accept": accept}})
		if status != http.StatusOK || !strings.HasPrefix(typ, want+";") || !strings.Contains(body, version) {
			t.Errorf("Accept %q: got %d %s %s, want 200 %s", accept, status, typ, body, want)
		}
	}
	for _, accept := range []string{"text/html", "application/json;q=0", "image/*", "application/json;q=2", "text"} {
		if status, _, body := w.ask(call{body: ping, header: map[string]string{"Accept": accept}}); status != http.StatusNotAcceptable {
			t.Errorf("Accept %q: got %d %s, want 406", accept, status, body)
		}
	}
}

func TestGetAsksByTheURL(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	q := url.Values{"query": {"query Q($n: String!) { __type(name: $n) { name } }"}, "variables": {`{"n":"Todo"}`}, "operationName": {"Q"}, "extensions": {"{}"}}
	if status, _, body := w.ask(call{method: "GET", path: "/?" + q.Encode()}); status != 200 || body != `{"data":{"__type":{"name":"Todo"}}}` {
		t.Errorf("got %d %s", status, body)
	}
	for _, query := range []string{"", "?query=%zz", "?query={__typename}&variables=[]", "?query={__typename}&variables={", "?query={__typename}&extensions=1", "?query=mutation{__typename}"} {
		if status, _, body := w.ask(call{method: "GET", path: "/" + query}); status != http.StatusBadRequest {
			t.Errorf("%s: got %d %s, want 400", query, status, body)
		}
	}
}

// TestWhatAPageCouldSendUnaskedIsRefused sends what a browser sends for a page of another site
// without asking the service first, and what is too much, too deep or too many.
//
// Covers S02, S16, S19, S31.
func TestWhatAPageCouldSendUnaskedIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{Origins: fanout.Origins{"https://app.example.com"}}, fanout.Limits{})
	typed := func(typ string) call { return call{body: ping, header: map[string]string{"Content-Type": typ}} }
	from := func(origin string) call { return call{body: ping, header: map[string]string{"Origin": origin}} }
	for name, c := range map[string]struct {
		call   call
		status int
	}{
		"plain text":         {typed("text/plain"), 415},
		"a form":             {typed("application/x-www-form-urlencoded"), 415},
		"a form with files":  {typed("multipart/form-data; boundary=x"), 415},
		"no type":            {typed(""), 415},
		"no type that it is": {typed("text/plain, application/json"), 415},
		"JSON of a kind":     {typed("application/graphql+json"), 415},
		"another charset":    {typed("application/json; charset=utf-16"), 415},
		"compressed":         {call{body: ping, header: map[string]string{"Content-Encoding": "gzip"}}, 415},
		"a batch":            {call{body: "[" + ping + "," + ping + "]"}, 400},
		"nothing":            {call{body: " "}, 400},
		"no object":          {call{body: `"x"`}, 400},
		"no JSON":            {call{body: `{"query":`}, 400},
		"two values":         {call{body: ping + ping}, 400},
		"no UTF-8":           {call{body: "{\"query\":\"{ \xff }\"}"}, 400},
		"a deep one":         {call{body: `{"query":"{ __typename }","variables":` + strings.Repeat(`{"a":`, 20000) + "1" + strings.Repeat("}", 20000) + "}"}, 413},
		"a deep one, small":  {call{body: `{"query":"{ __typename }","extensions":` + strings.Repeat(`{"a":`, 100) + "1" + strings.Repeat("}", 100) + "}"}, 400},
		"a large one":        {call{body: `{"query":"` + strings.Repeat(" ", 65<<10) + `"}`}, 413},
		"a mutation":         {call{body: `{"query":"mutation { __typename }"}`}, 400},
		"two root fields":    {call{body: `{"query":"subscription { a: todos { kind } b: todos { kind } }"}`}, 400},
		"a token in the URL": {call{path: "/?token=eyJhbGciOiJI.e30.x", body: ping}, 400},
		"one that is no URL": {call{path: "/?%zz;Access_Token=x", body: ping}, 400},
		"another origin":     {from("https://evil.example.com"), 403},
		"a suffix":           {from("https://app.example.com.evil.net"), 403},
		"a downgrade":        {from("http://app.example.com"), 403},
		"no origin":          {from("null"), 403},
		"a name made ours":   {call{body: ping, host: "rebound.example.net", header: map[string]string{"Origin": "http://rebound.example.net"}}, 403},
		"a bad token":        {call{body: ping, token: "eve"}, 401},
		"another method":     {call{method: "PATCH", body: ping}, 405},
	} {
		if status, _, body := w.ask(c.call); status != c.status || !strings.Contains(body, `{"errors":[{"message":"`) || strings.Contains(body, `"data"`) {
			t.Errorf("%s: got %d %s, want %d and errors", name, status, body, c.status)
		}
	}
	if _, _, body := w.ask(call{body: "[" + ping + "]"}); !strings.Contains(body, "batches are not taken") {
		t.Errorf("a batch: got %s", body)
	}
	resp := w.do(from("https://app.example.com"))
	if got := resp.header.Get("Access-Control-Allow-Origin"); resp.status != 200 || got != "https://app.example.com" {
		t.Errorf("an allowed origin: got %d, Access-Control-Allow-Origin %q", resp.status, got)
	}
	if resp.header.Get("Access-Control-Allow-Credentials") != "" {
		t.Error("credentials are allowed")
	}
	if resp := w.do(call{method: "OPTIONS", header: map[string]string{"Origin": "https://evil.example.com"}}); resp.status != 403 || resp.header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("preflight of another origin: got %d %v", resp.status, resp.header)
	}
	if resp := w.do(call{method: "OPTIONS", header: map[string]string{"Origin": "https://app.example.com"}}); resp.status != 204 || resp.header.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("preflight: got %d %v", resp.status, resp.header)
	}
	for _, accept := range []string{"*/*", "image/avif,image/webp,*/*;q=0.8"} {
		q := url.Values{"query": {"subscription { todos { kind } }"}}
		if status, _, body := w.ask(call{method: "GET", path: "/?" + q.Encode(), header: map[string]string{"Accept": accept}}); status != 406 {
			t.Errorf("a GET of a subscription with Accept %s: got %d %s, want 406", accept, status, body)
		}
	}
}

// TestPlainJSONSaysWhichAcceptASubscriptionNeeds is the answer to the mistake of most.
func TestPlainJSONSaysWhichAcceptASubscriptionNeeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	status, typ, body := w.ask(call{body: follow + "}", token: "ann", header: map[string]string{"Accept": asJSON}})
	if status != 406 || !strings.HasPrefix(typ, asJSON) || !strings.Contains(body, "Accept: text/event-stream") || !strings.Contains(body, "Accept: multipart/mixed;subscriptionSpec=1.0") {
		t.Errorf("got %d %s %s", status, typ, body)
	}
}

// TestABodyThatComesSlowlyIsCutOff holds a connection open with a body that never ends.
//
// Covers S68.
func TestABodyThatComesSlowlyIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{ReadTimeout: 50 * time.Millisecond}, fanout.Limits{})
	conn := dial(t, w)
	fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"query\":")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
		t.Errorf("got %s, close %t; want 408 and the connection closed", resp.Status, resp.Close)
	}
}

func dial(t *testing.T, w *world) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

// TestServerAudits runs all audits of npm's graphql-http.
func TestServerAudits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, graphqlhttp.Config{}, fanout.Limits{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	node := exec.CommandContext(ctx, "node", "graphql-http-audits.mjs", w.url)
	node.Dir = filepath.Join("..", "..", "internal", "stockclients")
	node.Stderr = t.Output()
	out, err := node.Output()
	if err != nil {
		t.Fatalf("%v: run npm ci in internal/stockclients, or make test", err)
	}
	passed := 0
	for line := range strings.Lines(string(out)) {
		var audit struct{ ID, Name, Status, Reason string }
		if err := json.Unmarshal([]byte(line), &audit); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if audit.Status != "ok" {
			t.Errorf("%s %s: %s: %s", audit.ID, audit.Name, audit.Status, audit.Reason)
			continue
		}
		passed++
	}
	if passed < 61 {
		t.Errorf("%d audits passed, want 61", passed)
	}
}
