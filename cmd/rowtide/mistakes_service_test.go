package main

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/golang-jwt/jwt/v5"
)

// theTables has tables that cannot be served, beside one that can.
func theTables() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := withDatabase(t, `
CREATE TABLE no_key (id int);
ALTER TABLE no_key ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE no_key IS '@subscribe';
CREATE TABLE no_rls (id int PRIMARY KEY);
COMMENT ON TABLE no_rls IS '@subscribe';
CREATE TABLE typo (id int PRIMARY KEY, label text, hidden text);
ALTER TABLE typo ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE typo IS $$Things.
  @subscibe$$;
COMMENT ON COLUMN typo.label IS '@name(as: "title") What it is called.';
CREATE TABLE omitted (id int PRIMARY KEY);
ALTER TABLE omitted ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE omitted IS '@subscribe';
COMMENT ON COLUMN omitted.id IS '@omit';
CREATE TABLE args (id int PRIMARY KEY);
ALTER TABLE args ENABLE ROW LEVEL SECURITY;
COMMENT ON TABLE args IS '@subscribe(feild: "arguments")';
GRANT SELECT ON no_key, no_rls, typo, args, omitted TO web_user;`)
		w.setUp(t)
		w.db.Exec(t, `CREATE TABLE late (id int PRIMARY KEY); ALTER TABLE late ENABLE ROW LEVEL SECURITY; COMMENT ON TABLE late IS '@subscribe'`)
		return w
	}
	return section{title: "Tables that cannot be served (the others are)", world: begin, tell: func(t *testing.T, w *world) string {
		t.Helper()
		setup := w.command(t.Context(), t, strings.Fields(w.expand(t, "setup --dry-run --admin-url $admin --roles $role"))...)
		var told bytes.Buffer
		setup.Stderr = &told
		if err := setup.Run(); err != nil {
			t.Errorf("setup: %v\n%s", err, &told)
		}
		problems := regexp.MustCompile(`(?m)^problem .*$`).FindAllString(told.String(), -1)
		logged := w.start(t)
		c := dial(t, w, goodToken(t, w))
		c.write(t, `{"id":"1","type":"subscribe","payload":{"query":"subscription { tasks { kind } }"}}`)
		if got := c.read(t); !strings.Contains(got, `"LIVE"`) {
			t.Errorf("the table without a mistake is not served: %s", got)
		}
		return w.still("\n  $ rowtide setup --dry-run …" + indented(strings.Join(problems, "\n")) +
			"\n  $ rowtide " + w.expand(t, serve) + indented(strings.Join(logged, "\n")))
	}}
}

func theRunningService() section {
	begin := func(t *testing.T) *world {
		t.Helper()
		w := running(t)
		w.words["query"] = "subscription { tasks { kind row { id } } }"
		w.words["misspelt"] = "subscription { tasks { kind row { ident } } }"
		w.words["unserved"] = "subscription { secrets { kind } }"
		w.word("good", goodToken(t, w), "eyJhb…")
		w.word("foreign", tokenOf(t, "another secret, with which nobody here signs", w.words["role"], time.Hour), "eyJhb…")
		w.word("stranger", tokenOf(t, testSecret, "web_admin", time.Hour), "eyJhb…")
		w.word("old", tokenOf(t, testSecret, w.words["role"], -time.Hour), "eyJhb…")
		w.words["gone"] = freePort(t)
		w.show(w.words["gone"], "127.0.0.1:8081")
		return w
	}
	const subscribe = "subscribe --url ws://$address/graphql --token "
	return section{title: "A service that runs", world: begin, mistakes: []mistake{
		{name: "A second service", args: serve},
		{name: "Taking everything away under it", args: "migrate down --admin-url $admin"},
		{name: "A client with a bad token", args: subscribe + "nonsense $query"},
		{name: "A client with a token of somebody else", args: subscribe + "$foreign $query"},
		{name: "A client with a token of a role that is not served", args: subscribe + "$stranger $query"},
		{name: "A client with an expired token", args: subscribe + "$old $query"},
		{name: "A client without a token", args: "subscribe --url ws://$address/graphql $query"},
		{name: "A client with a role and no secret to sign a token with", args: "subscribe --url ws://$address/graphql --role $role --jwt-secret= $query"},
		{name: "A client with two identities", args: subscribe + "$good --role $role $query"},
		{name: "Variables that are no JSON", args: subscribe + "$good --variables done=true $query"},
		{name: "A field that does not exist", args: subscribe + "$good $misspelt"},
		{name: "A table that is not served", args: subscribe + "$good $unserved"},
		{name: "A client of a service that does not run", args: "subscribe --url ws://$gone/graphql $query"},
		{name: "A client at the wrong path", args: "subscribe --url ws://$address/graphiql $query"},
		{name: "A client with a URL that is none", args: "subscribe --url $address/graphql $query"},
	}}
}

// theSocket is what a client is told on its socket.
func theSocket() section {
	return section{title: "What clients are told on their sockets", world: running, tell: func(t *testing.T, w *world) string {
		t.Helper()
		var b strings.Builder
		init := func(token string) string {
			return `{"type":"connection_init","payload":{"authorization":"Bearer ` + token + `"}}`
		}
		for _, m := range []struct {
			name string
			code websocket.StatusCode
			sent []string
		}{
			{"A bad token", 4401, []string{init("nonsense")}},
			{"A token of somebody else", 4401, []string{init(tokenOf(t, "another secret, with which nobody here signs", w.words["role"], time.Hour))}},
			{"An expired token", 4403, []string{init(tokenOf(t, testSecret, w.words["role"], -time.Hour))}},
			{"A role that is not served", 4401, []string{init(tokenOf(t, testSecret, "web_admin", time.Hour))}},
			{"No token", 4401, []string{`{"type":"connection_init"}`}},
			{"A frame that is no JSON", 4400, []string{init(goodToken(t, w)), `{"type":"subscribe"`}},
			{"A message of no known type", 4400, []string{init(goodToken(t, w)), `{"type":"subscribed","id":"1"}`}},
			{"A subscription without a query", 4400, []string{init(goodToken(t, w)), `{"type":"subscribe","id":"1","payload":{}}`}},
		} {
			t.Run(m.name, func(t *testing.T) {
				closed := exchange(t, w, m.sent)
				if closed.Code != m.code {
					t.Errorf("closed with %d %s, want %d", closed.Code, closed.Reason, m.code)
				}
				fmt.Fprintf(&b, "\n%s\n  > %s\n  < close %d %s\n", m.name, shortened(m.sent[len(m.sent)-1]), closed.Code, closed.Reason)
			})
		}
		// The service is none the worse for it.
		c := dial(t, w, goodToken(t, w))
		c.write(t, `{"id":"1","type":"subscribe","payload":{"query":"subscription { tasks { kind } }"}}`)
		if got := c.read(t); !strings.Contains(got, `"LIVE"`) {
			t.Errorf("the service does not serve any more: %s", got)
		}
		return w.still(b.String())
	}}
}

// shortened cuts a token in a message.
func shortened(message string) string {
	if from := strings.Index(message, "eyJ"); from >= 0 {
		return message[:from] + "eyJhb…" + message[from+strings.Index(message[from:], `"`):]
	}
	return message
}

func goodToken(t *testing.T, w *world) string {
	t.Helper()
	return tokenOf(t, testSecret, w.words["role"], time.Hour)
}

func tokenOf(t *testing.T, secret, role string, life time.Duration) string {
	t.Helper()
	claims := jwt.MapClaims{"sub": "ana", "role": role, "exp": time.Now().Add(life).Unix()}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// A socket sends and takes text as it is.
type socket struct{ conn *websocket.Conn }

func open(t *testing.T, w *world) socket {
	t.Helper()
	conn, resp, err := websocket.Dial(t.Context(), "ws://"+w.words["address"]+"/graphql",
		&websocket.DialOptions{Subprotocols: []string{"graphql-transport-ws"}})
	if err != nil {
		t.Fatal(err)
	}
	if resp.Body != nil {
		_ = resp.Body.Close()
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return socket{conn}
}

func dial(t *testing.T, w *world, token string) socket {
	t.Helper()
	s := open(t, w)
	s.write(t, `{"type":"connection_init","payload":{"token":"`+token+`"}}`)
	if got := s.read(t); !strings.Contains(got, "connection_ack") {
		t.Fatalf("want connection_ack, got %s", got)
	}
	return s
}

func (s socket) write(t *testing.T, text string) {
	t.Helper()
	if err := s.conn.Write(t.Context(), websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
}

func (s socket) read(t *testing.T) string {
	t.Helper()
	_, data, err := s.conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// exchange sends messages and gives how the service then closes the socket.
func exchange(t *testing.T, w *world, messages []string) websocket.CloseError {
	t.Helper()
	s := open(t, w)
	for i, m := range messages {
		s.write(t, m)
		if i < len(messages)-1 {
			s.read(t)
		}
	}
	var closed websocket.CloseError
	if _, data, err := s.conn.Read(t.Context()); !errors.As(err, &closed) {
		t.Fatalf("the socket is not closed: %s %v", data, err)
	}
	return closed
}
