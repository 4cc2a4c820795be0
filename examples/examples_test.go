package examples_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/examples"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// live runs a service and gives its handler.
func live(t *testing.T) (*rowtide.Server, *pgtest.DB) {
	t.Helper()
	db := pgtest.New(t, `
CREATE TABLE notes (id int PRIMARY KEY, text text NOT NULL);
COMMENT ON TABLE notes IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	role := db.Role(t, "web_anon")
	db.Exec(t, "GRANT SELECT ON notes TO "+role)
	s, err := rowtide.New(rowtide.Config{DatabaseURL: db.Admin, Dev: true, Roles: []string{role}, AnonRole: role, Slot: "slot_" + db.Name})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("service ended: %v", err)
		}
	})
	ready, cancelReady := context.WithTimeout(t.Context(), time.Minute)
	defer cancelReady()
	if err := s.WaitReady(ready); err != nil {
		t.Fatal(err)
	}
	return s, db
}

func TestEveryRouterCarriesSubscriptions(t *testing.T) {
	s, db := live(t)
	id := 0
	for name, mount := range map[string]func(http.Handler) http.Handler{
		"net/http": examples.NetHTTP, "chi": examples.Chi, "gin": examples.Gin, "echo": examples.Echo, "fiber": examples.Fiber,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(mount(s.Handler()))
			defer server.Close()
			if body := get(t, server.URL+"/hello", ""); body != "hello" {
				t.Errorf("the application says %q", body)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			c, err := client.Dial(ctx, "ws"+strings.TrimPrefix(server.URL, "http")+"/live/graphql", "")
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseNow() //nolint:errcheck // it was read, and is of no more use
			if err := c.Subscribe(ctx, "1", "subscription { notes { kind row { id } } }", nil); err != nil {
				t.Fatal(err)
			}
			stream, lines := follow(ctx, t, server.URL+"/live/graphql")
			defer stream.Close()
			for _, want := range []string{`"LIVE"`, `"INSERT"`} {
				m, err := c.Next(ctx)
				if err != nil || !strings.Contains(string(m.Payload), want) {
					t.Fatalf("%s, %v: want %s", m.Payload, err, want)
				}
				for lines.Scan() && !strings.Contains(lines.Text(), want) {
					continue
				}
				if lines.Err() != nil || !strings.Contains(lines.Text(), want) {
					t.Fatalf("the stream ended: %v", lines.Err())
				}
				if want == `"LIVE"` {
					id++
					db.Exec(t, "INSERT INTO notes VALUES ($1, 'a')", id)
				}
			}
		})
	}
}

func get(t *testing.T, url, accept string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func follow(ctx context.Context, t *testing.T, url string) (io.Closer, *bufio.Scanner) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(`{"query":"subscription { notes { kind row { id } } }"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("stream: %s", resp.Status)
	}
	return resp.Body, bufio.NewScanner(resp.Body)
}
