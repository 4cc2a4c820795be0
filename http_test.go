package rowtide_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A network is what is between a client and the service: it can be cut, and lead elsewhere.
type network struct {
	l  net.Listener
	wg sync.WaitGroup

	mu     sync.Mutex
	target string // "" while it is cut
	conns  []net.Conn
}

func newNetwork(t *testing.T, target string) *network {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &network{l: l, target: target}
	n.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.wg.Go(func() { n.carry(c) })
		}
	})
	t.Cleanup(func() { l.Close(); n.lead(""); n.wg.Wait() })
	return n
}

func (n *network) url() string { return "http://" + n.l.Addr().String() + "/graphql" }

// lead cuts every connection, and has new ones go to target; none where that is "".
func (n *network) lead(target string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.target = target
	for _, c := range n.conns {
		c.Close()
	}
	n.conns = nil
}

func (n *network) carry(c net.Conn) {
	defer c.Close()
	n.mu.Lock()
	if n.target == "" {
		n.mu.Unlock()
		return
	}
	s, err := net.Dial("tcp", n.target) //nolint:noctx // to this machine
	if err != nil {
		n.mu.Unlock()
		return
	}
	defer s.Close()
	n.conns = append(n.conns, c, s)
	n.mu.Unlock()
	n.wg.Go(func() { defer s.Close(); _, _ = io.Copy(s, c) })
	_, _ = io.Copy(c, s)
}

// A stockClient is one as people install it, which prints what it gets as lines of JSON.
type stockClient struct {
	t     *testing.T
	lines *bufio.Scanner
	end   func() error
}

// said is a line of a stock client.
type said struct {
	Data *struct {
		Notes struct {
			Kind, Reason string
			Row          *struct {
				ID   int
				Text string
			}
		}
	}
	Errors, Error json.RawMessage
	Complete      bool
}

func startStock(t *testing.T, script string, args ...string) *stockClient {
	t.Helper()
	return startRetrying(t, "500", script, args...) // a busy machine may take a while to restart the service
}

// startRetrying starts a client that gives up after a number of tries.
func startRetrying(t *testing.T, retries, script string, args ...string) *stockClient {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	t.Cleanup(cancel)
	node := exec.CommandContext(ctx, "node", slices.Concat([]string{script}, args)...)
	node.Dir = filepath.Join("internal", "stockclients")
	node.Env = append(os.Environ(), "RETRIES="+retries)
	node.Stderr = t.Output()
	out, err := node.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	in, err := node.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := node.Start(); err != nil {
		t.Fatalf("%v: run npm ci in internal/stockclients, or make test", err)
	}
	c := &stockClient{t: t, lines: bufio.NewScanner(out)}
	c.end = sync.OnceValue(func() error {
		in.Close()
		_, _ = io.Copy(io.Discard, out)
		return node.Wait()
	})
	t.Cleanup(func() { _ = c.end() })
	return c
}

// next gives the next result, or what ended them.
func (c *stockClient) next() said {
	c.t.Helper()
	for c.lines.Scan() {
		var s said
		if err := json.Unmarshal(c.lines.Bytes(), &s); err != nil {
			c.t.Fatalf("%v: %s", err, c.lines.Bytes())
		}
		if s.Data != nil || s.Errors != nil || s.Error != nil || s.Complete {
			return s
		}
	}
	c.t.Fatalf("the client ended: %v, %v", c.lines.Err(), c.end())
	return said{}
}

// until gives the next result of a kind, and the kinds that came before.
func (c *stockClient) until(kind string) (said, []string) {
	c.t.Helper()
	var before []string
	for {
		s := c.next()
		if s.Data == nil {
			c.t.Fatalf("want %s, got %s", kind, c.lines.Bytes())
		}
		if s.Data.Notes.Kind == kind {
			return s, before
		}
		before = append(before, s.Data.Notes.Kind)
	}
}

const followAfter = `subscription($after: Cursor) { notes(snapshot: true, after: $after) { kind row { id text } reason } }`

// TestStockClientsFollowOverHTTP has each client follow a subscription, lose its connection and
// resume behind the last cursor, without a row told twice; come back after the service was
// restarted; and tell of an error.
func TestStockClientsFollowOverHTTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ script, mode string }{
		"graphql-sse":                           {"graphql-sse.mjs", ""},
		"graphql-sse in single connection mode": {"graphql-sse.mjs", "single"},
		"@apollo/client":                        {"apollo-http.mjs", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			role := db.Role(t, "web_user")
			db.Exec(t, notes(role)+"INSERT INTO notes VALUES (0, 'ana', 'old'), (7, 'ben', 'hidden')")
			cfg := settings(t, db, role)
			s := start(t, cfg)
			network := newNetwork(t, s.addr)
			ana := token(t, role, map[string]any{"sub": "ana"})
			client := startStock(t, c.script, network.url(), ana, followAfter, c.mode)
			if first, before := client.until("SNAPSHOT"); !slices.Equal(before, []string{"RESET"}) || first.Data.Notes.Row.Text != "old" {
				t.Errorf("the snapshot began with %v, %+v", before, first.Data.Notes)
			}
			client.until("LIVE")
			db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'a')")
			client.until("INSERT")

			witness := liveNotes(t, s, role, "")
			network.lead("")
			db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'b'), (8, 'ben', 'hidden')")
			until(t, witness, isKind("INSERT")) // dispatched: it is replayed, and LIVE comes after
			network.lead(s.addr)
			if f, before := client.until("INSERT"); len(before) > 0 || f.Data.Notes.Row.ID != 2 {
				t.Errorf("after the cut: %v, then row %+v; want row 2 and nothing before it", before, f.Data.Notes.Row)
			}
			client.until("LIVE")

			s.stop()
			network.lead(start(t, cfg).addr)
			client.until("LIVE")
			db.Exec(t, "INSERT INTO notes VALUES (3, 'ana', 'c')")
			if f, _ := client.until("INSERT"); f.Data.Notes.Row.ID != 3 {
				t.Errorf("after the restart: row %+v, want 3", f.Data.Notes.Row)
			}
			if err := client.end(); err != nil {
				t.Errorf("the client ended with %v", err)
			}
			mistaken := startRetrying(t, "3", c.script, network.url(), ana, "subscription { notes { nothing } }", c.mode)
			got := mistaken.next()
			if text := string(got.Errors) + string(got.Error); !strings.Contains(text, "nothing") && !strings.Contains(text, "400") {
				t.Errorf("a mistake in the document: got %s", mistaken.lines.Bytes())
			}
		})
	}
}

// TestCurlFollows is the line of the README: a subscription, its error, and how it resumes.
func TestCurlFollows(t *testing.T) {
	t.Parallel()
	s, db, role := serveNotes(t)
	ana := token(t, role, map[string]any{"sub": "ana"})
	curl := func(query string, more ...string) *bufio.Scanner {
		t.Helper()
		body, err := json.Marshal(map[string]string{"query": query})
		if err != nil {
			t.Fatal(err)
		}
		args := []string{
			"-sN", "--max-time", "60", "http://" + s.addr + "/graphql", "-H", "Authorization: Bearer " + ana,
			"-H", "Content-Type: application/json", "-H", "Accept: text/event-stream", "-d", string(body),
		}
		ctx, cancel := context.WithCancel(t.Context())
		cmd := exec.CommandContext(ctx, "curl", append(args, more...)...)
		cmd.Stderr = t.Output()
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cancel(); _ = cmd.Wait() })
		return bufio.NewScanner(out)
	}
	// wait reads lines up to one that holds text, and gives the last id.
	wait := func(lines *bufio.Scanner, text string) (id string) {
		t.Helper()
		for lines.Scan() {
			if v, ok := strings.CutPrefix(lines.Text(), "id:"); ok {
				id = strings.TrimSpace(v)
			}
			if strings.Contains(lines.Text(), text) {
				return id
			}
		}
		t.Fatalf("curl ended without %s", text)
		return ""
	}
	const query = "subscription { notes { kind row { id } } }"
	first := curl(query)
	wait(first, `"LIVE"`)
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ana', 'a')")
	id := wait(first, `"row":{"id":1}`)
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ana', 'b')")
	wait(first, `"row":{"id":2}`) // dispatched: behind id it is replayed, and LIVE comes after
	resumed := curl(query, "-H", "Last-Event-ID: "+id)
	for resumed.Scan() {
		if line, ok := strings.CutPrefix(resumed.Text(), "data: "); ok {
			if !strings.Contains(line, `"row":{"id":2}`) {
				t.Errorf("the resumed stream began with %s, want row 2", line)
			}
			break
		}
	}
	wait(curl("subscription { nothing { kind } }"), "GRAPHQL_VALIDATION_FAILED")
}

// TestSlowAndLargeHeadersAreRefused: what a stranger can hold is bounded in time and size, and
// there is no HTTP/2 without TLS to smuggle through.
//
// Covers S68.
func TestSlowAndLargeHeadersAreRefused(t *testing.T) {
	t.Parallel()
	s, _, role := serveNotes(t)
	talk := func(text string) *bufio.Reader {
		t.Helper()
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.WriteString(conn, text) }()
		return bufio.NewReader(conn)
	}
	slow := talk("POST /graphql HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
	slowBody := talk("POST /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token(t, role, map[string]any{"sub": "ana"}) +
		"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	refusedBody := talk("POST /graphql HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\n{")
	resp, err := http.ReadResponse(talk("GET /graphql HTTP/1.1\r\nHost: localhost\r\nX-Large: "+strings.Repeat("x", 80<<10)+"\r\n\r\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("headers of 80 KiB: got %s, want 431", resp.Status)
	}
	upgraded, _ := io.ReadAll(talk("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"))
	if !bytes.HasPrefix(upgraded, []byte("HTTP/1.1 200 OK\r\n")) {
		t.Errorf("an upgrade to h2c: got %.60q, want it ignored", upgraded)
	}
	prior, _ := io.ReadAll(talk("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"))
	if !bytes.HasPrefix(prior, []byte("HTTP/1.1 4")) && !bytes.HasPrefix(prior, []byte("HTTP/1.1 505")) {
		t.Errorf("HTTP/2 without TLS: got %.60q, want it refused", prior)
	}
	resp, err = http.ReadResponse(slowBody, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("a body that does not come: got %s, want 408", resp.Status)
	}
	resp, err = http.ReadResponse(refusedBody, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a body that does not come and that nobody wants: got %s, want 421", resp.Status)
	}
	if text, err := io.ReadAll(slow); err != nil {
		t.Errorf("headers that do not come: %v after %q, want the connection closed", err, text)
	}
}

// TestAHashIsNoDocument asks by the hash of a persisted query, of one that was asked before too:
// nothing is remembered by hashes, and nothing is run without its document.
//
// Covers S18.
func TestAHashIsNoDocument(t *testing.T) {
	t.Parallel()
	s, _, role := serveNotes(t)
	ana := token(t, role, map[string]any{"sub": "ana"})
	const document = "subscription { notes { kind rowId key { id } row { id } cursor reason } }"
	hash := sha256.Sum256([]byte(document))
	extensions := fmt.Sprintf(`{"persistedQuery":{"version":1,"sha256Hash":"%x"}}`, hash)
	address := "http://" + s.addr + "/graphql"
	if _, text := call(t, http.MethodPost, address, `{"query":"{ rowtide { version } }","extensions":`+extensions+`}`, "Authorization", "Bearer "+ana, "Content-Type", "application/json"); !strings.Contains(text, `"version"`) {
		t.Errorf("a document with a hash that is not its own: %s", text)
	}
	c := s.dial(t, role, map[string]any{"sub": "ana"})
	if err := c.Subscribe(t.Context(), "1", document, nil); err != nil {
		t.Fatal(err)
	}
	if f := next(t, c); f.Kind != "LIVE" {
		t.Fatalf("got %s, want LIVE", f.Kind)
	}
	for _, accept := range []string{"application/json", "application/graphql-response+json", "text/event-stream", "multipart/mixed;subscriptionSpec=1.0"} {
		status, text := call(t, http.MethodPost, address, `{"extensions":`+extensions+`}`, "Authorization", "Bearer "+ana, "Content-Type", "application/json", "Accept", accept)
		if status != http.StatusBadRequest || strings.Contains(text, "data") {
			t.Errorf("a hash alone, for %s: %d %s", accept, status, text)
		}
		status, text = call(t, http.MethodGet, address+"?extensions="+url.QueryEscape(extensions), "", "Authorization", "Bearer "+ana, "Accept", accept)
		if status != http.StatusBadRequest || strings.Contains(text, "data") {
			t.Errorf("a hash alone in the URL, for %s: %d %s", accept, status, text)
		}
	}
}
