package graphqlhttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/fanout/graphqlhttp"
	"github.com/rowtide/rowtide/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// todos is a table whose policy shows a row to its owner. The tests' Judge is that policy.
func todos() schema.TableDef {
	column := func(number int16, name, typ string, oid uint32) schema.ColumnDef {
		return schema.ColumnDef{
			Name: name, Number: number, Modifier: -1, NotNull: true, Deterministic: true, CollationC: true,
			Type: &schema.Type{OID: oid, Schema: "pg_catalog", Name: typ, Kind: 'b', Delimiter: ','},
		}
	}
	return schema.TableDef{
		OID: 16400, Schema: "public", Name: "todos", Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull, RowSecurity: true,
		Columns:    []schema.ColumnDef{column(1, "id", "int4", 23), column(2, "owner", "text", 25), column(3, "note", "json", 114)},
		Keys:       []schema.KeyDef{{Name: "todos_pkey", Columns: []string{"id"}, Primary: true, Usable: true}},
		Directives: schema.Directives{Subscribe: &schema.Subscribe{}},
		Policies:   []schema.Policy{{Name: "own", Permissive: true, Using: "(owner = current_setting('app.user'::text))"}},
		Access: map[string]schema.Access{
			"web_user": {Usage: true, Columns: []bool{true, true, true}, RowSecurity: true, Policies: []int{0}},
		},
	}
}

func catalog(t testing.TB, tables ...schema.TableDef) *schema.Catalog {
	t.Helper()
	c, problems := schema.New(schema.Database{
		Version: 150018, Roles: []string{"web_user"}, Schemas: []string{"public"}, Tables: tables,
	}, schema.Options{Introspection: true, Server: schema.ServerInfo{Version: "7.7"}})
	if len(problems) > 0 {
		t.Fatalf("catalog: %+v", problems)
	}
	return c
}

// A world is a database of one table, as far as fanout can tell, with a server in front of it.
// Tokens are the names of users: "ann", or "ann 50ms" for one that expires.
type world struct {
	t       testing.TB
	bus     *membus.Bus
	d       *fanout.Dispatcher
	handler *graphqlhttp.Handler
	url     string
	client  *http.Client

	mu     sync.Mutex
	commit cdc.LSN
	rows   map[int]cdc.Row
	xids   []uint32
}

func newWorld(t testing.TB, config graphqlhttp.Config, limits fanout.Limits) *world {
	t.Helper()
	b, err := membus.New(membus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, bus: b, commit: 1000, rows: map[int]cdc.Row{}}
	codec, err := fanout.NewCursorCodec(fanout.CursorConfig{Secret: []byte("a secret of the tests, long enough"), System: 7, Timeline: 1})
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	w.d, err = fanout.New(fanout.Config{Bus: b, Judge: w, Snapshots: w, Catalog: catalog(t, todos()), Cursors: codec, Limits: limits, Logger: log})
	if err != nil {
		t.Fatal(err)
	}
	config.Dispatcher, config.Auth, config.Logger = w.d, users{}, log
	if w.handler, err = graphqlhttp.New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.d.Run(ctx) }()
	server := httptest.NewServer(w.handler)
	w.url, w.client = server.URL, server.Client()
	t.Cleanup(func() {
		w.handler.Close()
		server.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run dispatcher: %v", err)
		}
		_ = b.Close()
	})
	return w
}

type users struct{}

func (users) Verify(token string) (*authz.Principal, error) {
	name, life, short := strings.Cut(token, " ")
	var expires time.Time
	if short {
		d, err := time.ParseDuration(life)
		if err != nil {
			return nil, err
		}
		expires = time.Now().Add(d)
	}
	if name != "ann" && name != "bob" {
		return nil, &schema.Error{Code: schema.Unauthenticated, Message: "token is not valid"}
	}
	return authz.NewPrincipal("web_user", name, []authz.Setting{{Name: "app.user", Value: name}}, expires), nil
}

func (users) Anonymous() (*authz.Principal, error) {
	return authz.NewPrincipal("web_user", "", []authz.Setting{{Name: "app.user"}}, time.Time{}), nil
}

// put commits a row.
func (w *world) put(id int, owner, note string) {
	w.t.Helper()
	d := todos()
	rel := &cdc.Relation{OID: d.OID, Schema: d.Schema, Name: d.Name, Identity: d.Identity}
	for _, c := range d.Columns {
		rel.Columns = append(rel.Columns, cdc.Column{Name: c.Name, Type: c.Type.OID, Modifier: -1, Identity: true})
	}
	w.mu.Lock()
	w.commit += 16
	xid := uint32(5000 + len(w.xids))
	e := cdc.Event{Relation: rel, Op: cdc.Insert, Old: w.rows[id], New: cdc.Row{cdc.TextValue(strconv.Itoa(id)), cdc.TextValue(owner), cdc.TextValue(note)}}
	if e.Old != nil {
		e.Op = cdc.Update
	}
	w.rows[id] = e.New
	w.xids = append(w.xids, xid)
	tx := cdc.Transaction{XID: xid, Commit: w.commit, End: w.commit + 8, Time: time.Unix(1700000000, 0)}
	w.mu.Unlock()
	if err := w.bus.Publish(w.t.Context(), &cdc.Batch{Transaction: tx, Events: []cdc.Event{e}, Last: true}); err != nil {
		w.t.Errorf("publish: %v", err)
	}
}

// dropTable makes the catalog one without the table.
func (w *world) dropTable() {
	w.t.Helper()
	other := todos()
	other.OID, other.Name = 16500, "others"
	w.d.SetCatalog(catalog(w.t, other))
}

func (w *world) Judge(ctx context.Context, q authz.Question) ([][]authz.Verdict, error) {
	out := make([][]authz.Verdict, len(q.Principals))
	for i, p := range q.Principals {
		for _, image := range q.Images {
			v := authz.Hidden
			if image[1].Text() == p.Subject {
				v = authz.Visible
			}
			out[i] = append(out[i], v)
		}
	}
	return out, ctx.Err()
}

func (w *world) Snapshot(_ context.Context, what authz.Reading, begin func(cdc.Snapshot) error, each func(cdc.Row) error) error {
	w.mu.Lock()
	rows, seen := maps.Clone(w.rows), cdc.Snapshot{Xmin: 1, Xmax: uint64(5000 + len(w.xids))}
	w.mu.Unlock()
	if err := begin(seen); err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(rows)) {
		if rows[id][1].Text() == what.Principal.Subject {
			if err := each(rows[id]); err != nil {
				return err
			}
		}
	}
	return nil
}

// A call is a request; what it leaves out is what most have.
type call struct {
	method, path, body string
	token, host        string
	header             map[string]string
}

func (w *world) do(c call) *reply {
	w.t.Helper()
	if c.method == "" {
		c.method = http.MethodPost
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	w.t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, c.method, w.url+c.path, strings.NewReader(c.body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Accept", "application/graphql-response+json")
	if c.method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.host != "" {
		r.Host = c.host
	}
	for k, v := range c.header {
		r.Header.Set(k, v)
		if v == "" {
			r.Header.Del(k)
		}
	}
	resp, err := w.client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	return &reply{status: resp.StatusCode, header: resp.Header, body: resp.Body}
}

// A reply is a response, whose body is closed with the test at the latest.
type reply struct {
	status int
	header http.Header
	body   io.ReadCloser
}

// ask does a request and gives status, content type and body.
func (w *world) ask(c call) (int, string, string) {
	w.t.Helper()
	resp := w.do(c)
	body, err := io.ReadAll(resp.body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.status, resp.header.Get("Content-Type"), string(body)
}

const follow = `{"query":"subscription($after: Cursor, $snapshot: Boolean) { todos(after: $after, snapshot: $snapshot) { kind row { id note } cursor reason } }"`

// stream opens a stream of one subscription.
func (w *world) stream(accept, token, variables string, header map[string]string) *reader {
	w.t.Helper()
	h := map[string]string{"Accept": accept}
	maps.Copy(h, header)
	resp := w.do(call{token: token, body: follow + `,"variables":` + variables + `}`, header: h})
	return newReader(w.t, resp)
}

// A reader reads a stream by what separates its messages.
type reader struct {
	t         testing.TB
	resp      *reply
	separator string
	buf       []byte
}

func newReader(t testing.TB, resp *reply) *reader {
	t.Helper()
	r := &reader{t: t, resp: resp, separator: "\n\n"}
	if strings.HasPrefix(resp.header.Get("Content-Type"), "multipart/mixed") {
		r.separator = "\r\n---"
	}
	if resp.status != http.StatusOK {
		body, _ := io.ReadAll(resp.body)
		t.Fatalf("stream refused: %d %s", resp.status, body)
	}
	return r
}

// next gives the next message that is neither empty nor a comment; false at the end.
func (r *reader) next() (string, bool) {
	r.t.Helper()
	for {
		before, after, ok := bytes.Cut(r.buf, []byte(r.separator))
		if ok {
			r.buf = after
			if m := strings.TrimSpace(string(before)); m != "" && m[0] != ':' && !strings.HasPrefix(m, "retry:") {
				return m, true
			}
			continue
		}
		chunk := make([]byte, 4096)
		n, err := r.resp.body.Read(chunk)
		r.buf = append(r.buf, chunk[:n]...)
		if n == 0 && errors.Is(err, io.EOF) {
			return string(r.buf), false
		}
		if n == 0 && err != nil {
			r.t.Fatalf("read stream: %v, having %q", err, r.buf)
		}
	}
}

func (r *reader) expect(parts ...string) string {
	r.t.Helper()
	m, ok := r.next()
	if !ok {
		r.t.Fatalf("stream ended with %q, want a message with %q", m, parts)
	}
	for _, p := range parts {
		if !strings.Contains(m, p) {
			r.t.Fatalf("got %q, want %q in it", m, p)
		}
	}
	return m
}

func (r *reader) expectEnd() {
	r.t.Helper()
	if m, ok := r.next(); ok {
		r.t.Fatalf("got %q, want the end of the stream", m)
	}
}
