package graphqlws_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/fanout/graphqlws"
	"github.com/rowtide/rowtide/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const notesOID = 16500

func notes() schema.TableDef {
	column := func(n int16, name, typ string, oid uint32) schema.ColumnDef {
		return schema.ColumnDef{
			Name: name, Number: n, Modifier: -1, NotNull: true, Deterministic: true,
			Type: &schema.Type{OID: oid, Schema: "pg_catalog", Name: typ, Kind: 'b', Delimiter: ','},
		}
	}
	return schema.TableDef{
		OID: notesOID, Schema: "public", Name: "notes", Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull, RowSecurity: true,
		Columns:    []schema.ColumnDef{column(1, "id", "int4", 23), column(2, "text", "text", 25)},
		Keys:       []schema.KeyDef{{Name: "notes_pkey", Columns: []string{"id"}, Primary: true, Usable: true}},
		Directives: schema.Directives{Subscribe: &schema.Subscribe{}},
		Access:     map[string]schema.Access{"web_user": {Usage: true, Columns: []bool{true, true}}, "web_anon": {Usage: true, Columns: []bool{true, true}}},
	}
}

var relation = &cdc.Relation{OID: notesOID, Schema: "public", Name: "notes", Identity: cdc.IdentityFull, Columns: []cdc.Column{
	{Name: "id", Type: 23, Modifier: -1, Identity: true}, {Name: "text", Type: 25, Modifier: -1, Identity: true},
}}

// A place is everything that a socket needs behind it. All rows are visible to everybody.
type place struct {
	t          *testing.T
	bus        *membus.Bus
	dispatcher *fanout.Dispatcher
	handler    *graphqlws.Handler
	url        string
	log        *safeBuffer

	mu     sync.Mutex
	tokens map[string]*authz.Principal
	anon   *authz.Principal
	commit cdc.LSN
}

func (*place) Judge(ctx context.Context, q authz.Question) ([][]authz.Verdict, error) {
	out := make([][]authz.Verdict, len(q.Principals))
	for i := range out {
		for range q.Images {
			out[i] = append(out[i], authz.Visible)
		}
	}
	return out, ctx.Err()
}

func (*place) Snapshot(_ context.Context, _ authz.Reading, begin func(cdc.Snapshot) error, row func(cdc.Row) error) error {
	if err := begin(cdc.Snapshot{Xmin: 1, Xmax: 1}); err != nil {
		return err
	}
	return row(cdc.Row{cdc.TextValue("0"), cdc.TextValue("present")})
}

func (p *place) Verify(token string) (*authz.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch who := p.tokens[token]; {
	case who == nil:
		return nil, &schema.Error{Code: schema.Unauthenticated, Message: "token is not valid"}
	case !who.Expires.IsZero() && !time.Now().Before(who.Expires):
		return nil, &schema.Error{Code: schema.Unauthenticated, Reason: schema.Expired, Message: "token has expired"}
	default:
		return who, nil
	}
}

func (p *place) Anonymous() (*authz.Principal, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.anon == nil {
		return nil, &schema.Error{Code: schema.Unauthenticated, Message: "a token is required"}
	}
	return p.anon, nil
}

func user(subject, role string, expires time.Time, claims string) *authz.Principal {
	return authz.NewPrincipal(role, subject, []authz.Setting{{Name: "request.jwt.claims", Value: claims}}, expires)
}

// open starts a place; what config leaves open is filled in.
func open(t *testing.T, config graphqlws.Config, limits fanout.Limits) *place {
	t.Helper()
	p := &place{t: t, log: &safeBuffer{}, commit: 100, tokens: map[string]*authz.Principal{
		"good": user("ann", "web_user", time.Time{}, `{"sub":"ann","exp":1}`),
	}}
	logger := slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if p.bus, err = membus.New(membus.Config{}); err != nil {
		t.Fatalf("make bus: %v", err)
	}
	p.write(1)
	codec, err := fanout.NewCursorCodec(fanout.CursorConfig{Secret: []byte("0123456789abcdef"), System: 1})
	if err != nil {
		t.Fatalf("make codec: %v", err)
	}
	catalog, problems := schema.New(schema.Database{
		Version: 150018, Roles: []string{"web_user", "web_anon"}, Schemas: []string{"public"}, Tables: []schema.TableDef{notes()},
	}, schema.Options{})
	for _, x := range problems {
		t.Fatalf("catalog: %+v", x)
	}
	p.dispatcher, err = fanout.New(fanout.Config{
		Bus: p.bus, Judge: p, Snapshots: p, Catalog: catalog, Cursors: codec, Limits: limits, Logger: logger,
	})
	if err != nil {
		t.Fatalf("make dispatcher: %v", err)
	}
	config.Dispatcher, config.Auth, config.Logger = p.dispatcher, p, logger
	if p.handler, err = graphqlws.New(config); err != nil {
		t.Fatalf("make handler: %v", err)
	}
	p.run()
	return p
}

func (p *place) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.dispatcher.Run(ctx) }()
	server := httptest.NewServer(p.handler)
	p.url = "ws" + strings.TrimPrefix(server.URL, "http")
	p.t.Cleanup(func() {
		p.handler.Close()
		server.Close()
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("run dispatcher: %v", err)
		}
		_ = p.bus.Close()
	})
}

// write inserts a note with a text of the given size.
func (p *place) write(size int) {
	p.t.Helper()
	p.mu.Lock()
	p.commit += 8
	n := p.commit
	p.mu.Unlock()
	err := p.bus.Publish(p.t.Context(), &cdc.Batch{
		Transaction: cdc.Transaction{XID: uint32(n), Commit: n},
		Events: []cdc.Event{{Op: cdc.Insert, Relation: relation, New: cdc.Row{
			cdc.TextValue(strconv.FormatUint(uint64(n), 10)), cdc.TextValue(strings.Repeat("x", size)),
		}}},
		Last: true,
	})
	if err != nil {
		p.t.Errorf("publish: %v", err)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A socket is a client that speaks the protocol word by word.
type socket struct {
	t  *testing.T
	ws *websocket.Conn
	// ctx bounds the whole test.
	wait func() (context.Context, context.CancelFunc)
}

const patience = 15 * time.Second

func (p *place) dial(header http.Header) *socket {
	p.t.Helper()
	ws, status := p.upgrade(p.url, header, graphqlws.Subprotocol)
	if ws == nil {
		p.t.Fatalf("dial: status %d", status)
	}
	return newSocket(p.t, ws)
}

func newSocket(t *testing.T, ws *websocket.Conn) *socket {
	t.Helper()
	ws.SetReadLimit(-1)
	t.Cleanup(func() { _ = ws.CloseNow() })
	return &socket{t: t, ws: ws, wait: func() (context.Context, context.CancelFunc) {
		return context.WithTimeout(context.Background(), patience)
	}}
}

// upgrade gives the HTTP status, and nil where it is not 101.
func (p *place) upgrade(url string, header http.Header, subprotocols ...string) (*websocket.Conn, int) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ws, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{Subprotocols: subprotocols, HTTPHeader: header})
	if response == nil {
		p.t.Fatalf("dial %s: %v", url, err)
	}
	if response.Body != nil {
		_ = response.Body.Close()
	}
	return ws, response.StatusCode
}

// connect dials and is acknowledged.
func (p *place) connect() *socket {
	p.t.Helper()
	s := p.dial(nil)
	s.send(`{"type":"connection_init","payload":{"authorization":"Bearer good"}}`)
	s.expect(`{"type":"connection_ack"}`)
	return s
}

func (s *socket) send(messages ...string) {
	s.t.Helper()
	for _, m := range messages {
		s.sendRaw(websocket.MessageText, []byte(m))
	}
}

func (s *socket) sendRaw(kind websocket.MessageType, data []byte) {
	s.t.Helper()
	ctx, cancel := s.wait()
	defer cancel()
	if err := s.ws.Write(ctx, kind, data); err != nil {
		s.t.Fatalf("send: %v", err)
	}
}

func (s *socket) read() (string, error) {
	ctx, cancel := s.wait()
	defer cancel()
	_, data, err := s.ws.Read(ctx)
	return string(data), err
}

func (s *socket) expect(want ...string) {
	s.t.Helper()
	for _, w := range want {
		got, err := s.read()
		if err != nil {
			s.t.Fatalf("read: %v, want %s", err, w)
		}
		if got != w {
			s.t.Fatalf("got %s\nwant %s", got, w)
		}
	}
}

// expectClose reads until the socket is closed, and gives how many messages came before.
func (s *socket) expectClose(code int, reason string) int {
	s.t.Helper()
	for n := 0; ; n++ {
		_, err := s.read()
		if err == nil {
			continue
		}
		var c websocket.CloseError
		if !errors.As(err, &c) {
			s.t.Fatalf("socket ended with %v, want close %d", err, code)
		}
		if int(c.Code) != code || reason != "" && c.Reason != reason {
			s.t.Fatalf("closed with %d %q, want %d %q", c.Code, c.Reason, code, reason)
		}
		return n
	}
}

// subscribeTo asks for kind and id of everything.
func subscribeTo(id, arguments string) string {
	return fmt.Sprintf(`{"id":%q,"type":"subscribe","payload":{"query":"subscription { notes%s { kind row { id } } }"}}`, id, arguments)
}

// A next is the message of that type, as read.
type next struct {
	ID      string
	Type    string
	Payload struct {
		Data struct {
			Notes struct {
				Kind string
				Row  *struct{ ID int }
			}
		}
		Extensions struct{ Cursor string }
	}
}

func (s *socket) expectKind(id, kind string) next {
	s.t.Helper()
	text, err := s.read()
	if err != nil {
		s.t.Fatalf("read: %v, want %s", err, kind)
	}
	var n next
	if err := json.Unmarshal([]byte(text), &n); err != nil || n.Type != "next" || n.ID != id || n.Payload.Data.Notes.Kind != kind {
		s.t.Fatalf("got %s, want %s of %s", text, kind, id)
	}
	return n
}

// expectError reads an error message and gives its first error's code and reason.
func (s *socket) expectError(id string) (code, reason string) {
	s.t.Helper()
	text, err := s.read()
	if err != nil {
		s.t.Fatalf("read: %v, want an error", err)
	}
	var m struct {
		ID, Type string
		Payload  []struct {
			Message    string
			Extensions struct{ Code, Reason string }
		}
	}
	if err := json.Unmarshal([]byte(text), &m); err != nil || m.ID != id || m.Type != "error" || len(m.Payload) == 0 || m.Payload[0].Message == "" {
		s.t.Fatalf("got %s, want an error of %s", text, id)
	}
	return m.Payload[0].Extensions.Code, m.Payload[0].Extensions.Reason
}

// eventually waits for a condition that no message tells of.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func parseNext(t *testing.T, text string) next {
	t.Helper()
	var n next
	if err := json.Unmarshal([]byte(text), &n); err != nil || n.Type != "next" || n.Payload.Data.Notes.Row == nil {
		t.Fatalf("got %.200s, want a row", text)
	}
	return n
}

func proxies(t *testing.T, networks ...string) fanout.Proxies {
	t.Helper()
	var out fanout.Proxies
	for _, n := range networks {
		p, err := netip.ParsePrefix(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}
