package fanout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/schema"
)

const todosOID = 16400

func column(number int16, name, typ string, oid uint32) schema.ColumnDef {
	return schema.ColumnDef{
		Name: name, Number: number, Modifier: -1, NotNull: true, Deterministic: true, CollationC: true,
		Type: &schema.Type{OID: oid, Schema: "pg_catalog", Name: typ, Kind: 'b', Delimiter: ','},
	}
}

// todos is a table whose policy shows a row to its owner. The tests' Judge is that policy.
func todos() schema.TableDef {
	return schema.TableDef{
		OID: todosOID, Schema: "public", Name: "todos", Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull, RowSecurity: true,
		Columns: []schema.ColumnDef{
			column(1, "id", "int4", 23), column(2, "owner", "text", 25), column(3, "note", "text", 25), column(4, "secret", "text", 25),
		},
		Keys:       []schema.KeyDef{{Name: "todos_pkey", Columns: []string{"id"}, Primary: true, Usable: true}},
		Directives: schema.Directives{Subscribe: &schema.Subscribe{}},
		Policies:   []schema.Policy{{Name: "own", Permissive: true, Using: "(owner = current_setting('app.user'::text))"}},
		Access: map[string]schema.Access{
			"web_user": {Usage: true, Columns: []bool{true, true, true, false}, RowSecurity: true, Policies: []int{0}},
		},
	}
}

func catalog(t testing.TB, tables ...schema.TableDef) *schema.Catalog {
	t.Helper()
	c, problems := schema.New(schema.Database{Version: 150018, Roles: []string{"web_user"}, Schemas: []string{"public"}, Tables: tables}, schema.Options{})
	for _, p := range problems {
		t.Fatalf("catalog: %+v", p)
	}
	return c
}

// relation is the table as the stream describes it.
func relation(d schema.TableDef) *cdc.Relation {
	r := &cdc.Relation{OID: d.OID, Schema: d.Schema, Name: d.Name, Identity: d.Identity}
	for _, c := range d.Columns {
		r.Columns = append(r.Columns, cdc.Column{Name: c.Name, Type: c.Type.OID, Modifier: -1, Identity: true})
	}
	return r
}

func principal(user string, expires time.Time) *authz.Principal {
	return authz.NewPrincipal("web_user", user, []authz.Setting{{Name: "app.user", Value: user}}, expires)
}

func row(id int, owner, note string) cdc.Row {
	return cdc.Row{cdc.TextValue(strconv.Itoa(id)), cdc.TextValue(owner), cdc.TextValue(note), cdc.TextValue("s" + note)}
}

// A world is a database of one table as far as fanout can tell: it publishes its transactions,
// judges images by the policy, and is read in snapshots. A transaction is visible to snapshots
// only some time after it was published.
type world struct {
	t        testing.TB
	stop     func() // ends the dispatcher
	bus      *membus.Bus
	relation *cdc.Relation

	publishing sync.Mutex // a bus has one publisher

	mu      sync.Mutex
	commit  cdc.LSN
	states  []map[int]cdc.Row // the table after each transaction; states[0] is empty
	xids    []uint32          // of the transactions, in commit order
	touched [][]int           // the rows that each transaction wrote, in order
	visible int               // how many of them snapshots see
	changed chan struct{}     // closed, and made anew, when visible moves

	verdict    func(p *authz.Principal, image cdc.Row) authz.Verdict // nil means the policy
	asked      []authz.Question
	atSnapshot func()            // called before a snapshot is taken
	atRow      func(n int) error // called before each row of a snapshot
}

func newWorld(t testing.TB, config membus.Config) *world {
	t.Helper()
	b, err := membus.New(config)
	if err != nil {
		t.Fatalf("make bus: %v", err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return &world{t: t, bus: b, relation: relation(todos()), commit: 1000, states: []map[int]cdc.Row{{}}, changed: make(chan struct{})}
}

// A write sets or, where row is nil, deletes a row.
type write struct {
	id  int
	row cdc.Row
}

func put(id int, owner, note string) write { return write{id, row(id, owner, note)} }
func del(id int) write                     { return write{id: id} }

// publish commits a transaction without making it visible, in batches of the given number of
// events at most.
func (w *world) publish(ctx context.Context, batchEvents int, writes ...write) {
	w.publishing.Lock()
	defer w.publishing.Unlock()
	w.mu.Lock()
	w.commit += 16
	state := maps.Clone(w.states[len(w.states)-1])
	// Ids are not in commit order: neighbours are swapped.
	xid := uint32(5000 + len(w.xids) ^ 1)
	tx := cdc.Transaction{XID: xid, Commit: w.commit, End: w.commit + 8, Time: time.Unix(1700000000, 0)}
	var events []cdc.Event
	var touched []int
	for _, x := range writes {
		touched = append(touched, x.id)
		e := cdc.Event{Relation: w.relation, Seq: uint32(len(events)), Old: state[x.id], New: x.row}
		switch {
		case e.Old == nil && e.New == nil, e.Old.Equal(e.New):
			continue
		case e.Old == nil:
			e.Op = cdc.Insert
		case e.New == nil:
			e.Op = cdc.Delete
		default:
			e.Op = cdc.Update
		}
		events = append(events, e)
		state[x.id] = x.row
		if x.row == nil {
			delete(state, x.id)
		}
	}
	w.states = append(w.states, state)
	w.xids = append(w.xids, xid)
	w.touched = append(w.touched, touched)
	w.mu.Unlock()
	for first := true; first || len(events) > 0; first = false {
		n := min(len(events), batchEvents)
		b := &cdc.Batch{Transaction: tx, Events: events[:n], Last: n == len(events)}
		events = events[n:]
		if err := w.bus.Publish(ctx, b); err != nil {
			w.t.Errorf("publish: %v", err)
			break
		}
	}
}

// commitAll makes everything published visible to snapshots.
func (w *world) commitAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setVisibleLocked(len(w.xids))
}

func (w *world) setVisibleLocked(n int) {
	w.visible = max(w.visible, n)
	close(w.changed)
	w.changed = make(chan struct{})
}

// write is a transaction that is visible at once.
func (w *world) write(writes ...write) {
	w.t.Helper()
	w.publish(w.t.Context(), 1000, writes...)
	w.commitAll()
}

// publishEvents commits a transaction of events as they are; the world's rows do not change.
func (w *world) publishEvents(events ...cdc.Event) {
	w.t.Helper()
	w.mu.Lock()
	w.commit += 16
	tx := cdc.Transaction{XID: uint32(5000 + len(w.xids) ^ 1), Commit: w.commit}
	w.states = append(w.states, w.states[len(w.states)-1])
	w.xids = append(w.xids, tx.XID)
	w.touched = append(w.touched, nil)
	w.mu.Unlock()
	for i := range events {
		events[i].Seq = uint32(i)
	}
	if err := w.bus.Publish(w.t.Context(), &cdc.Batch{Transaction: tx, Events: events, Last: true}); err != nil {
		w.t.Errorf("publish: %v", err)
	}
	w.commitAll()
}

func (w *world) Judge(ctx context.Context, q authz.Question) ([][]authz.Verdict, error) {
	w.mu.Lock()
	w.asked = append(w.asked, q)
	verdict := w.verdict
	w.mu.Unlock()
	if verdict == nil {
		verdict = policy
	}
	out := make([][]authz.Verdict, len(q.Principals))
	for i, p := range q.Principals {
		for _, image := range q.Images {
			out[i] = append(out[i], verdict(p, image))
		}
	}
	return out, ctx.Err()
}

func policy(p *authz.Principal, image cdc.Row) authz.Verdict {
	if image[1].Text() == p.Subject {
		return authz.Visible
	}
	return authz.Hidden
}

// Narrow tells what the policy asks of the owner, unless the test has a verdict of its own.
func (w *world) Narrow(_ *schema.Table, p *authz.Principal) []authz.Equality {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.verdict != nil {
		return nil
	}
	return []authz.Equality{{Column: 1, Values: []string{p.Subject}}}
}

func (w *world) Snapshot(ctx context.Context, what authz.Reading, begin func(cdc.Snapshot) error, each func(cdc.Row) error) error {
	w.mu.Lock()
	if at := w.atSnapshot; at != nil {
		w.mu.Unlock()
		at()
		w.mu.Lock()
	}
	for !w.seesLocked(what.Settled) {
		changed := w.changed
		w.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Minute):
			return errors.New("transaction did not become visible")
		}
		w.mu.Lock()
	}
	state, seen, atRow := w.states[w.visible], w.snapshotLocked(), w.atRow
	w.mu.Unlock()
	if err := begin(seen); err != nil {
		return err
	}
	for n, id := range slices.Sorted(maps.Keys(state)) {
		if atRow != nil {
			if err := atRow(n); err != nil {
				return err
			}
		}
		if policy(what.Principal, state[id]) != authz.Visible {
			continue
		}
		r := slices.Clone(state[id])
		for i, ok := range what.Readable {
			if !ok {
				r[i] = cdc.AbsentValue()
			}
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) seesLocked(settled []uint32) bool {
	for _, xid := range settled {
		if !slices.Contains(w.xids[:w.visible], xid) {
			return false
		}
	}
	return true
}

func (w *world) snapshotLocked() cdc.Snapshot {
	s := cdc.Snapshot{Xmin: 1, Xmax: 5000}
	for _, xid := range w.xids[:w.visible] {
		s.Xmax = max(s.Xmax, uint64(xid)+1)
	}
	for xid := uint64(5000); xid < s.Xmax; xid++ {
		if !slices.Contains(w.xids[:w.visible], uint32(xid)) {
			s.InProgress = append(s.InProgress, xid)
		}
	}
	return s
}

// state is what a principal's SELECT of id and note returns at the end.
func (w *world) state(user string) map[string]string {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string]string{}
	for _, r := range w.states[len(w.states)-1] {
		if r[1].Text() == user {
			out[r[0].Text()] = r[2].Text()
		}
	}
	return out
}

// start runs a dispatcher for the world until the test ends.
func (w *world) start(config fanout.Config) *fanout.Dispatcher {
	w.t.Helper()
	secret := []byte("a secret of the tests, long enough")
	codec, err := fanout.NewCursorCodec(fanout.CursorConfig{Secret: secret, System: 7, Timeline: 1})
	if err != nil {
		w.t.Fatalf("make cursor codec: %v", err)
	}
	if config.Judge == nil {
		config.Judge = w
	}
	config.Snapshots = w
	if config.Cursors == nil {
		config.Cursors = codec
	}
	if config.Bus == nil {
		config.Bus = w.bus
	}
	if config.Catalog == nil {
		config.Catalog = catalog(w.t, todos())
	}
	d, err := fanout.New(config)
	if err != nil {
		w.t.Fatalf("make dispatcher: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run dispatcher: %v", err)
		}
	})
	w.t.Cleanup(w.stop)
	return d
}

// A message is a frame as a client reads it.
type message struct {
	Kind   string
	RowID  string
	Key    map[string]any
	Row    map[string]any
	Old    map[string]any
	Cursor *string
	Reason *string
	// Changed and Transaction are as in the API.
	Changed     []string
	Transaction *struct {
		ID   string
		Last *bool
	}
}

// String is the kind, the key and what is seen of the row: "UPDATE 1 a->b".
func (m message) String() string {
	s := m.Kind
	if m.Key != nil {
		s += fmt.Sprintf(" %v", m.Key["id"])
	}
	if m.Old != nil {
		s += fmt.Sprintf(" %v->", m.Old["note"])
	}
	if m.Row != nil {
		s += fmt.Sprintf(" %v", m.Row["note"])
	}
	if m.Reason != nil {
		s += " " + *m.Reason
	}
	return s
}

const fields = `{ kind rowId key { id } row { id owner note } old { id owner note } cursor reason changed transaction { id last } }`

func request(arguments string) schema.Request {
	if arguments != "" {
		arguments = "(" + arguments + ")"
	}
	return schema.Request{Query: "subscription { todos" + arguments + fields + " }"}
}

func decode(t testing.TB, payload []byte) message {
	t.Helper()
	var out struct {
		Data       struct{ Todos message }
		Extensions struct{ Cursor *string }
	}
	if err := json.Unmarshal(payload, &out); err != nil {
		t.Fatalf("read frame %s: %v", payload, err)
	}
	return out.Data.Todos
}

// A client reads one subscription.
type client struct {
	t    testing.TB
	sub  *fanout.Subscription
	got  []message
	next int
	// rows is what the client's whole rule makes of the frames, from id to note.
	rows map[string]string
	ids  map[string]string // from rowId to id
	last string            // cursor
	// strict has frames noted in wrong that do not follow from the rows that the client has.
	strict bool
	wrong  []string
}

func (w *world) subscribe(d *fanout.Dispatcher, user, arguments string) *client {
	w.t.Helper()
	r, err := d.Subscribe(w.t.Context(), principal(user, time.Time{}), request(arguments))
	if err != nil {
		w.t.Fatalf("subscribe %s: %v", arguments, err)
	}
	c := newClient(w.t, r.Subscription)
	w.t.Cleanup(r.Subscription.Close)
	return c
}

// follow subscribes and reads LIVE, so that it gets what is written from then on.
func (w *world) follow(d *fanout.Dispatcher, user, arguments string) *client {
	w.t.Helper()
	c := w.subscribe(d, user, arguments)
	c.expect("LIVE")
	return c
}

// next reads one payload.
func next(t testing.TB, s *fanout.Subscription) []byte {
	t.Helper()
	payloads, err := s.Next(context.Background())
	if err != nil || len(payloads) != 1 {
		t.Fatalf("read: %d payloads, %v", len(payloads), err)
	}
	return payloads[0]
}

func newClient(t testing.TB, s *fanout.Subscription) *client {
	t.Helper()
	return &client{t: t, sub: s, rows: map[string]string{}, ids: map[string]string{}}
}

// read reads one frame, or the error that ends the subscription.
func (c *client) read(ctx context.Context) (message, error) {
	for c.next == len(c.got) {
		payloads, err := c.sub.Next(ctx)
		if err != nil {
			return message{}, err
		}
		for _, p := range payloads {
			m := decode(c.t, p)
			c.got = append(c.got, m)
			c.apply(m)
		}
	}
	c.next++
	return c.got[c.next-1], nil
}

// follows tells whether a frame follows from what the client has: it comes twice, or another was
// left out, where it does not.
func (c *client) follows(m message) bool {
	id := c.ids[m.RowID]
	had, there := c.rows[id]
	switch m.Kind {
	case "SNAPSHOT", "INSERT", "ENTER":
		return !there
	case "UPDATE", "DELETE", "LEAVE":
		return there && had == fmt.Sprint(m.Old["note"])
	}
	return true
}

// apply is the client's whole rule.
func (c *client) apply(m message) {
	c.last = ""
	if m.Cursor != nil {
		c.last = *m.Cursor
	}
	if c.strict && !c.follows(m) {
		c.wrong = append(c.wrong, m.String())
	}
	switch {
	case m.Kind == "RESET" || m.Kind == "TRUNCATE":
		clear(c.rows)
	case m.Row != nil:
		id := fmt.Sprint(m.Row["id"])
		c.ids[m.RowID] = id
		c.rows[id] = fmt.Sprint(m.Row["note"])
	case m.RowID != "":
		delete(c.rows, c.ids[m.RowID])
	}
}

func (c *client) expect(want ...string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, w := range want {
		m, err := c.read(ctx)
		if err != nil {
			c.t.Fatalf("read: %v, want %s", err, w)
		}
		if m.String() != w {
			c.t.Fatalf("got %s, want %s", m, w)
		}
	}
}

// expectEnd reads until the subscription ends and gives the error, and how many frames came
// before it.
func (c *client) expectEnd() (int, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for n := 0; ; n++ {
		if _, err := c.read(ctx); err != nil {
			return n, err
		}
	}
}

func (c *client) expectResync(reason string) {
	c.t.Helper()
	_, err := c.expectEnd()
	var e *schema.Error
	if !errors.As(err, &e) || e.Code != schema.ResyncRequired || e.Reason != reason {
		c.t.Fatalf("subscription ended with %v, want RESYNC_REQUIRED %s", err, reason)
	}
}
