package rowtide_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const testSecret = "a secret for tests, and for tests alone"

// A service is a running Server with what a test needs to talk to it.
type service struct {
	cfg    rowtide.Config
	server *rowtide.Server
	addr   string
	stop   func() // waits until Run has returned, and fails the test if it returns an error
}

// settings are those of a service on db that shares nothing with other tests.
func settings(t *testing.T, db *pgtest.DB, roles ...string) rowtide.Config {
	t.Helper()
	return rowtide.Config{
		DatabaseURL: setup(t, db, roles...), Roles: roles, JWTSecret: testSecret, ExposePositions: true,
		Slot: "slot_" + db.Name, Logger: testLogger(t),
	}
}

// setup does what rowtide setup does, and gives the service login's URL.
func setup(t *testing.T, db *pgtest.DB, roles ...string) string {
	t.Helper()
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: db.Admin, Roles: roles, Login: "login_" + db.Name, Slot: "slot_" + db.Name, Yes: true,
	})
	if err != nil {
		t.Fatalf("set up: %v\n%s", err, report)
	}
	dropLogin(t, db)
	return report.DatabaseURL
}

// dropLogin drops what setup made outside the database, which belongs to the whole cluster.
func dropLogin(t *testing.T, db *pgtest.DB) {
	t.Helper()
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, db.Admin)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close(ctx)
		login := "login_" + db.Name
		if _, err := conn.Exec(ctx, "DROP OWNED BY "+login+"; DROP ROLE "+login); err != nil {
			t.Error(err)
		}
	})
}

// start runs a service until the test ends or its stop is called.
func start(t *testing.T, cfg rowtide.Config) *service {
	t.Helper()
	server, err := rowtide.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, l) }()
	s := &service{cfg: cfg, server: server, addr: l.Addr().String()}
	s.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("service ended: %v", err)
		}
	})
	t.Cleanup(s.stop)
	ready, cancelReady := context.WithTimeout(t.Context(), time.Minute)
	defer cancelReady()
	go func() { // a start that fails should not be waited for
		select {
		case err := <-done:
			done <- err
			cancelReady()
		case <-ready.Done():
		}
	}()
	if err := server.WaitReady(ready); err != nil {
		t.Fatalf("service did not start: %v", err)
	}
	return s
}

func (s *service) url() string { return "ws://" + s.addr + "/graphql" }

// dial opens a socket for a principal.
func (s *service) dial(t *testing.T, role string, claims any) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), s.url(), token(t, role, claims))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func token(t *testing.T, role string, claims any) string {
	t.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	token, err := rowtide.Token(rowtide.Config{JWTSecret: testSecret}, role, text, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// next gives the next frame of the only subscription on a socket, which is to notes.
func next(t *testing.T, c *client.Client) *feedtest.Frame {
	t.Helper()
	_, f := nextOf(t, c, func(string) string { return "notes" })
	return f
}

// nextOf gives the next frame on a socket and the field that it is of; field tells that of an operation's id.
func nextOf(t *testing.T, c *client.Client, field func(id string) string) (string, *feedtest.Frame) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := c.Next(ctx)
	if err != nil {
		t.Fatalf("wait for a frame: %v", err)
	}
	if m.Type != "next" {
		t.Fatalf("want a frame, got %s %s", m.Type, m.Payload)
	}
	f, err := feedtest.ParseFrame(m.Payload, field(m.ID))
	if err != nil {
		t.Fatal(err)
	}
	return field(m.ID), f
}

// A follower collects the frames of all subscriptions of one principal, on one socket.
type follower struct {
	conn *client.Client
	subs []*feedtest.Subscription
	raw  [][]json.RawMessage
	end  chan uint64 // the LSN behind which the last TRUNCATE comes
}

// follow subscribes a principal's subscriptions and waits until all are live.
func (s *service) follow(t *testing.T, p *feedtest.Principal, subs []*feedtest.Subscription) *follower {
	t.Helper()
	f := &follower{conn: s.dial(t, p.Role, p.Claims), subs: subs, raw: make([][]json.RawMessage, len(subs)), end: make(chan uint64, 1)}
	for i, sub := range subs {
		if err := f.conn.Subscribe(t.Context(), strconv.Itoa(i), sub.Query(), nil); err != nil {
			t.Fatal(err)
		}
	}
	for live := 0; live < len(subs); {
		m, err := f.conn.Next(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		if m.Type != "next" {
			t.Fatalf("%s: %s %s", p.Name, m.Type, m.Payload)
		}
		if strings.Contains(string(m.Payload), `"LIVE"`) {
			live++
		}
		f.note(m)
	}
	return f
}

func (f *follower) note(m client.Message) {
	i, err := strconv.Atoi(m.ID)
	if err == nil && i < len(f.raw) {
		f.raw[i] = append(f.raw[i], m.Payload)
	}
}

// read collects until finish has been told the end and every subscription has passed it.
func (f *follower) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	passed := make([]uint64, len(f.subs)) // commit of each subscription's last TRUNCATE
	var end uint64
	messages := make(chan client.Message)
	failed := make(chan error, 1)
	go func() {
		defer close(messages)
		for {
			m, err := f.conn.Next(ctx)
			if err != nil {
				failed <- err
				return
			}
			select {
			case messages <- m:
			case <-ctx.Done():
				return
			}
		}
	}()
	for end == 0 || slices.Min(passed) <= end {
		select {
		case end = <-f.end:
		case m, ok := <-messages:
			if !ok {
				return <-failed
			}
			if m.Type != "next" {
				return &unexpected{m}
			}
			f.note(m)
			if strings.Contains(string(m.Payload), `"TRUNCATE"`) {
				i, _ := strconv.Atoi(m.ID)
				frame, err := feedtest.ParseFrame(m.Payload, f.subs[i].Table.Field)
				if err != nil {
					return err
				}
				passed[i] = uint64(frame.Commit())
			}
		}
	}
	cancel()
	for range messages {
		continue // until the reader has ended
	}
	return nil
}

// frames parses what a subscription got.
func (f *follower) frames(t *testing.T, i int) []*feedtest.Frame {
	t.Helper()
	out := make([]*feedtest.Frame, len(f.raw[i]))
	for n, raw := range f.raw[i] {
		frame, err := feedtest.ParseFrame(raw, f.subs[i].Table.Field)
		if err != nil {
			t.Fatal(err)
		}
		out[n] = frame
	}
	return out
}

type unexpected struct{ m client.Message }

func (u *unexpected) Error() string { return "unexpected " + u.m.Type + " " + string(u.m.Payload) }

// testLogger writes to the test's own output.
func testLogger(t *testing.T) *slog.Logger {
	t.Helper()
	return slog.New(slog.NewTextHandler(t.Output(), nil))
}
