package rowtide_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

const notesSchema = `
CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, text text NOT NULL);
COMMENT ON TABLE notes IS '@subscribe(rowSecurity: NOT_REQUIRED)';`

// operated starts a service with an admin listener beside it, and gives that one's URL.
func operated(t *testing.T, change func(*rowtide.Config)) (s *service, admin, role string, db *pgtest.DB) {
	t.Helper()
	db = pgtest.New(t, notesSchema)
	role = db.Role(t, "web_user")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	cfg := settings(t, db, role)
	if change != nil {
		change(&cfg)
	}
	s = start(t, cfg)
	return s, administer(t, s), role, db
}

// administer opens a service's admin listener, and gives its URL.
func administer(t *testing.T, s *service) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.server.ServeAdmin(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("admin listener ended: %v", err)
		}
	})
	return "http://" + l.Addr().String()
}

// call calls the admin API and gives status and body.
func call(t *testing.T, method, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
		if header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// live opens a subscription to notes and reads LIVE.
func live(t *testing.T, s *service, role string, claims any) *client.Client {
	t.Helper()
	c := s.dial(t, role, claims)
	if err := c.Subscribe(t.Context(), "1", `subscription { notes(where: {owner: {eq: "ann"}}) { kind rowId key { id } row { id } cursor reason } }`, nil); err != nil {
		t.Fatal(err)
	}
	if f := next(t, c); f.Kind != "LIVE" {
		t.Fatalf("got %s, want LIVE", f.Kind)
	}
	return c
}

// closed reads until the service closes a socket, and gives the code.
func closed(t *testing.T, c *client.Client) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		_, err := c.Next(ctx)
		if err == nil {
			continue
		}
		var c *client.Closed
		if !errors.As(err, &c) {
			t.Fatalf("socket ended with %v, want a close code", err)
		}
		return c.Code
	}
}

type connections struct{ Connections []fanout.SessionInfo }

func list(t *testing.T, admin string) []fanout.SessionInfo {
	t.Helper()
	status, text := call(t, http.MethodGet, admin+"/connections", "")
	var out connections
	if err := json.Unmarshal([]byte(text), &out); status != http.StatusOK || err != nil {
		t.Fatalf("%d %s: %v", status, text, err)
	}
	return out.Connections
}

// Covers S62.
func TestOperatorSeesAndClosesConnections(t *testing.T) {
	t.Parallel()
	s, admin, role, _ := operated(t, nil)
	ann, bob := live(t, s, role, map[string]string{"sub": "ann"}), live(t, s, role, map[string]string{"sub": "bob"})
	_ = ann
	got := list(t, admin)
	if len(got) != 2 || got[0].Subject != "ann" || got[1].Subject != "bob" || got[0].Role != role || got[0].Transport != "websocket" ||
		got[0].Address != "127.0.0.1" || got[0].Expires == nil || len(got[0].Subscriptions) != 1 {
		t.Fatalf("%+v", got)
	}
	if sub := got[0].Subscriptions[0]; sub.Table != "public.notes" || sub.State != "live" || len(sub.Operation) != 16 || sub.Position == "" {
		t.Errorf("%+v", sub)
	}
	if status, text := call(t, http.MethodDelete, fmt.Sprintf("%s/connections/%d", admin, got[1].ID), ""); status != http.StatusNoContent {
		t.Fatalf("%d %s", status, text)
	}
	if code := closed(t, bob); code != 4403 {
		t.Errorf("closed with %d, want 4403", code)
	}
	if status, _ := call(t, http.MethodDelete, fmt.Sprintf("%s/subscriptions/%d", admin, got[0].Subscriptions[0].ID), ""); status != http.StatusNoContent {
		t.Fatalf("%d", status)
	}
	m, err := ann.Next(t.Context())
	if err != nil || m.Type != "error" || !strings.Contains(string(m.Payload), "closed by the operator") {
		t.Errorf("%+v, %v: want an error and the socket open", m, err)
	}
	for _, path := range []string{"/connections/999999", "/connections/x", "/subscriptions/0"} {
		if status, _ := call(t, http.MethodDelete, admin+path, ""); status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", path, status)
		}
	}
	if status, text := call(t, http.MethodPost, admin+"/reload", ""); status != http.StatusNoContent {
		t.Errorf("reload: %d %s", status, text)
	}
}

// Covers S29.
func TestRevocationEndsWhatIsThereAndWhatComes(t *testing.T) {
	t.Parallel()
	s, admin, role, _ := operated(t, nil)
	claims := map[string]string{"sub": "ann", "jti": "t-1"}
	good := token(t, role, claims)
	ann, bob := live(t, s, role, claims), live(t, s, role, map[string]string{"sub": "bob", "jti": "t-2"})
	began := time.Now()
	if status, text := call(t, http.MethodPost, admin+"/revocations", `{"subject":"ann"}`); status != http.StatusOK || !strings.Contains(text, `"ended": 1`) {
		t.Fatalf("%d %s", status, text)
	}
	if code := closed(t, ann); code != 4401 {
		t.Errorf("closed with %d, want 4401: the same token will not do again", code)
	}
	t.Logf("a revoked subject was gone %v after the request was sent", time.Since(began))
	if _, err := client.Dial(t.Context(), s.url(), good); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("the same token again: %v", err)
	}
	status, text := call(t, http.MethodPost, "http://"+s.addr+"/graphql", `{"query":"{ rowtide { version } }"}`, "Authorization", "Bearer "+good, "Content-Type", "application/json")
	if status != http.StatusUnauthorized || !strings.Contains(text, "revoked") {
		t.Errorf("over HTTP: %d %s", status, text)
	}
	if status, _ := call(t, http.MethodPost, admin+"/revocations", `{"jti":"t-2"}`); status != http.StatusOK {
		t.Fatal(status)
	}
	if code := closed(t, bob); code != 4401 {
		t.Errorf("closed with %d, want 4401", code)
	}
	live(t, s, role, map[string]string{"sub": "bob", "jti": "t-3"}) // another token of the same subject
	if _, text := call(t, http.MethodGet, admin+"/revocations", ""); !strings.Contains(text, `"ann"`) || !strings.Contains(text, `"t-2"`) {
		t.Errorf("revocations: %s", text)
	}
	for _, body := range []string{``, `{}`, `{"subject":"a","jti":"b"}`, `{"user":"a"}`, `[`} {
		if status, _ := call(t, http.MethodPost, admin+"/revocations", body); status < 400 || status > 499 {
			t.Errorf("%s: %d", body, status)
		}
	}
}

// Covers S62, S03.
func TestAdminListenerIsForOperatorsAlone(t *testing.T) {
	t.Parallel()
	const secret = "the token of operators, and of them alone"
	s, admin, _, _ := operated(t, func(c *rowtide.Config) { c.AdminToken = secret })
	for _, path := range []string{"/metrics", "/connections", "/revocations"} {
		for name, tt := range map[string]struct {
			header []string
			status int
		}{
			"no token":         {nil, http.StatusUnauthorized},
			"another token":    {[]string{"Authorization", "Bearer " + secret[1:]}, http.StatusUnauthorized},
			"token":            {[]string{"Authorization", "Bearer " + secret}, http.StatusOK},
			"of a page":        {[]string{"Authorization", "Bearer " + secret, "Origin", admin}, http.StatusForbidden},
			"of a rebound one": {[]string{"Authorization", "Bearer " + secret, "Host", "evil.example"}, http.StatusMisdirectedRequest},
		} {
			if status, text := call(t, http.MethodGet, admin+path, "", tt.header...); status != tt.status {
				t.Errorf("%s with %s: %d %s, want %d", path, name, status, text, tt.status)
			}
		}
	}
	if status, _ := call(t, http.MethodGet, admin+"/readyz", ""); status != http.StatusOK {
		t.Errorf("a probe: %d", status)
	}
	for _, path := range []string{"/metrics", "/connections", "/revocations", "/debug/pprof/", "/debug/vars"} {
		if status, _ := call(t, http.MethodGet, "http://"+s.addr+path, ""); status != http.StatusNotFound {
			t.Errorf("%s where clients are: %d, want 404", path, status)
		}
	}
	open, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	without, err := rowtide.New(rowtide.Config{DatabaseURL: "postgres://x@127.0.0.1/x", AnonRole: "x"})
	if err != nil {
		t.Fatal(err)
	}
	if err := without.ServeAdmin(t.Context(), open); err == nil || !strings.Contains(err.Error(), "--admin-token") {
		t.Errorf("off this machine without a token: %v", err)
	}
}

// Covers S61, C41.
func TestMetricsTellWhatAnOperatorAsksAndNothingOfClients(t *testing.T) {
	t.Parallel()
	s, admin, role, db := operated(t, nil)
	c := live(t, s, role, map[string]string{"sub": "label_of_a_client"})
	for n := range 50 {
		if err := c.Subscribe(t.Context(), fmt.Sprintf("id%d", n), fmt.Sprintf(`subscription Op_of_a_client%d { notes { kind cursor } }`, n), nil); err != nil {
			t.Fatal(err)
		}
		next(t, c)
	}
	db.Exec(t, `INSERT INTO notes VALUES (1, 'ann', 'a')`)
	next(t, c)
	status, text := call(t, http.MethodGet, admin+"/metrics", "")
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	for _, want := range []string{
		"rowtide_ready 1", "rowtide_stream_connected 1", "rowtide_subscriptions 51", "rowtide_sessions 1", `rowtide_connections{transport="websocket"} 1`,
		"rowtide_slot_retained_bytes ", "rowtide_slot_confirmed_lag_bytes ", `rowtide_slot_status{status="reserved"} 1`, "rowtide_stream_lag_bytes ",
		"rowtide_window_bytes ", "rowtide_window_seconds ", "rowtide_queue_bytes ", "rowtide_queue_connections ", "rowtide_queue_fullest_bytes ", "rowtide_held_bytes ", "rowtide_stream_queue_messages ",
		"rowtide_audit_queue_records ", "rowtide_publish_delay_seconds ", "rowtide_dispatch_delay_seconds ",
		"rowtide_transactions_total 1", `rowtide_evaluations_total{way="none"}`, "rowtide_frames_total ", "rowtide_stream_silence_seconds ",
		`rowtide_audit_records_total{event="subscribe"} 51`, "rowtide_tables 1", `rowtide_set_tables{state="refused"} 0`, "rowtide_set_bytes 0", `rowtide_evaluations_total{way="set"} 0`, "go_goroutines ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %s", want)
		}
	}
	if strings.Contains(text, "of_a_client") || strings.Contains(text, role) {
		t.Error("something that a client sent is in a label")
	}
	series := strings.Count(text, "\nrowtide_")
	if series > 200 {
		t.Errorf("%d series", series)
	}
}

// Covers S67, S60.
func TestAuditLogTellsWhoDidWhatAndNoData(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "audit.log")
	s, admin, role, db := operated(t, func(c *rowtide.Config) { c.AuditLog, c.AuditTable = file, true })
	hostile := "ann\r\n{\"event\":\"connect\"}\x1b[2J"
	c := live(t, s, role, map[string]string{"sub": hostile, "email": "secret@example.com"})
	if err := c.Subscribe(t.Context(), "2", `subscription { notes(after: "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA") { kind } }`, nil); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Next(t.Context()); err != nil || m.Type != "error" {
		t.Fatalf("%+v, %v", m, err)
	}
	if err := c.Subscribe(t.Context(), "3", `subscription { secrets { kind } }`, nil); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Next(t.Context()); err != nil || m.Type != "error" {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := client.Dial(t.Context(), s.url(), "no.token.atall"); err == nil {
		t.Fatal("let in")
	}
	if status, _ := call(t, http.MethodPost, admin+"/revocations", `{"jti":"x"}`); status != http.StatusOK {
		t.Fatal(status)
	}
	s.stop()
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want a file for its owner alone", info.Mode(), err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen, written := map[string]map[string]any{}, 0
	lines := bufio.NewScanner(f)
	for ; lines.Scan(); written++ {
		var e map[string]any
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Text(), err)
		}
		if strings.Contains(lines.Text(), "secret@") || strings.Contains(lines.Text(), "no.token") || strings.ContainsAny(lines.Text(), "\x1b\r") {
			t.Errorf("the log tells too much: %s", lines.Text())
		}
		name, _ := e["event"].(string)
		if reason, ok := e["reason"].(string); ok {
			name += " " + reason
		}
		seen[name] = e
	}
	for _, want := range []string{"connect", "subscribe", "cursor not_valid", "deny GRAPHQL_VALIDATION_FAILED", "deny UNAUTHENTICATED", "revoke revoked"} {
		if seen[want] == nil {
			t.Errorf("there is no record of %q", want)
		}
	}
	t.Logf("%v", seen)
	sub := seen["subscribe"]
	if sub["table"] != "public.notes" || sub["role"] != role || sub["subject"] != hostile || sub["address"] != "127.0.0.1" || len(sub["operation"].(string)) != 16 {
		t.Errorf("subscribe: %v", sub)
	}
	if n := count(t, db, "SELECT count(*) FROM rowtide.audit"); n != written || n == 0 {
		t.Errorf("the table has %d rows, the file %d lines", n, written)
	}
	if n := count(t, db, "SELECT count(*) FROM rowtide.audit a WHERE event = 'subscribe' AND table_name = 'public.notes' AND filter = '{owner}' OR a::text ~ 'secret@|no.token'"); n != 1 {
		t.Errorf("%d rows of subscriptions with the columns of their filter, and of secrets; want 1", n)
	}
}
