package replication

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) {
	if file := os.Getenv(crashChildEnv); file != "" {
		os.Exit(crashChild(file))
	}
	os.Exit(pgtest.Main(m))
}

// A feed is a handler that keeps the transactions it was given whole. The text of an insert is
// its values joined by commas.
type feed struct {
	progress *Progress
	// gate, where set, is called before each message is taken; it may block or fail.
	gate func(ctx context.Context, m pglogrepl.Message) error
	// lateBus: taking a transaction does not yet hold it.
	lateBus bool

	mu      sync.Mutex
	open    []string
	txs     []string // one a transaction: its inserts joined by semicolons
	ends    []cdc.LSN
	resets  []cdc.LSN
	lost    []cdc.LSN
	changed chan struct{} // closed and made anew at each change
}

func newFeed() *feed { return &feed{progress: NewProgress(), changed: make(chan struct{})} }

func (f *feed) Reset(start cdc.LSN) {
	f.update(func() { f.open, f.resets = nil, append(f.resets, start) })
}

func (f *feed) Lost(_ context.Context, at cdc.LSN) error {
	f.update(func() { f.lost = append(f.lost, at) })
	return nil
}

func (f *feed) Handle(ctx context.Context, data []byte) error {
	m, err := pglogrepl.Parse(data)
	if err != nil {
		return err
	}
	if f.gate != nil {
		if err := f.gate(ctx, m); err != nil {
			return err
		}
	}
	switch m := m.(type) {
	case *pglogrepl.InsertMessage:
		var values []string
		for _, c := range m.Tuple.Columns {
			values = append(values, string(c.Data))
		}
		f.update(func() { f.open = append(f.open, strings.Join(values, ",")) })
	case *pglogrepl.CommitMessage:
		f.update(func() {
			// A transaction that was held and comes again is taken once, as a bus would.
			if end := cdc.LSN(m.TransactionEndLSN); !slices.Contains(f.ends, end) {
				f.txs, f.ends = append(f.txs, strings.Join(f.open, ";")), append(f.ends, end)
			}
			f.open = nil
		})
		if !f.lateBus {
			f.progress.Held(cdc.LSN(m.TransactionEndLSN))
		}
	}
	return nil
}

func (f *feed) update(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *feed) transactions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.txs)
}

// wait waits until n transactions have come whole.
func (f *feed) wait(t *testing.T, n int) []string {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		f.mu.Lock()
		txs, changed := slices.Clone(f.txs), f.changed
		f.mu.Unlock()
		if len(txs) >= n {
			return txs
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%d transactions came, want %d: %q", len(txs), n, txs)
		}
	}
}

// A running is a Consumer at work.
type running struct {
	*Consumer
	*feed
	stop context.CancelFunc
	done chan error
}

const publication = "published"

// config streams the database's publication from a slot named like the database.
func config(t *testing.T, db *pgtest.DB, f *feed) Config {
	t.Helper()
	return Config{
		URL: db.Admin, Slot: db.Name, Publications: []string{publication}, Handler: f, Progress: f.progress,
		Logger: slog.New(slog.NewTextHandler(logWriter{t}, nil)),
	}
}

// logWriter shows the log of a test that fails.
type logWriter struct{ t *testing.T }

func (w logWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// run starts a Consumer. When the test ends it is stopped, and must then have ended well.
func run(t *testing.T, cfg Config) *running {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return runConsumer(t, c)
}

func runConsumer(t *testing.T, c *Consumer) *running {
	t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	r := &running{Consumer: c, stop: stop, done: make(chan error, 1)}
	r.feed, _ = c.cfg.Handler.(*feed)
	go func() { r.done <- c.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := r.end(t); err != nil && !t.Failed() {
			t.Errorf("consumer ended with: %v", err)
		}
	})
	return r
}

// end waits for the end of Run.
func (r *running) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		r.done <- nil // for the cleanup: it was seen
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("the consumer does not end")
		return nil
	}
}

// fails waits for Run to end with an error of that reason and in one line.
func (r *running) fails(t *testing.T, want Reason, words ...string) {
	t.Helper()
	err := r.end(t)
	if err == nil {
		t.Fatal("the consumer ended without an error")
	}
	if got := reasonOf(err); got != want {
		t.Errorf("reason %d, want %d: %v", got, want, err)
	}
	if strings.ContainsAny(err.Error(), "\n\r\t") {
		t.Errorf("error is more than a line: %q", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error does not say %q: %v", w, err)
		}
	}
}

// eventually waits for a condition that nothing tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("did not come about: %s", what)
		}
	}
}

// connected waits for the stream to run.
func (r *running) connected(t *testing.T) {
	t.Helper()
	eventually(t, "the stream runs", func() bool { return r.State().Connected })
}

// database makes a database with a published table t and another, that is not.
func database(t *testing.T, sql ...string) *pgtest.DB {
	t.Helper()
	return pgtest.New(t, slices.Concat([]string{schema}, sql)...)
}

const schema = `CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int); CREATE PUBLICATION ` + publication + ` FOR TABLE t`

// senderTimeout gives SQL that sets wal_sender_timeout for the database it runs in.
func senderTimeout(d string) string {
	return `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET wal_sender_timeout = ` + "''" + d + "''" + `', current_database()); END $$`
}

// confirmed is what the server holds to be acknowledged.
func confirmed(t *testing.T, db *pgtest.DB) cdc.LSN {
	t.Helper()
	lsn, err := cdc.ParseLSN(pgtest.One[string](t, db, `SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1`, db.Name))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

// flushed is the present end of the WAL.
func flushed(t *testing.T, db *pgtest.DB) cdc.LSN {
	t.Helper()
	lsn, err := cdc.ParseLSN(pgtest.One[string](t, db, `SELECT pg_current_wal_flush_lsn()::text`))
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}

func slots(t *testing.T, db *pgtest.DB) int {
	t.Helper()
	return pgtest.One[int](t, db, `SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = $1`, db.Name)
}

// insert commits one transaction for each of from to to.
func insert(t *testing.T, db *pgtest.DB, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		db.Exec(t, fmt.Sprintf("INSERT INTO t VALUES (%d, 'v%d')", i, i))
	}
}

// expected is what a feed gets of insert.
func expectInserted(t *testing.T, got []string, from, to int) {
	t.Helper()
	var want []string
	for i := from; i <= to; i++ {
		want = append(want, fmt.Sprintf("%d,v%d", i, i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("transactions are %q, want %q", got, want)
	}
}

// blocker makes a gate that blocks from the first commit on until it is opened.
func blocker() (gate func(context.Context, pglogrepl.Message) error, blocked <-chan struct{}, open func()) {
	reached, opened := make(chan struct{}), make(chan struct{})
	var once sync.Once
	return func(ctx context.Context, m pglogrepl.Message) error {
		if m.Type() != pglogrepl.MessageTypeCommit {
			return nil
		}
		once.Do(func() { close(reached) })
		select {
		case <-opened:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}, reached, sync.OnceFunc(func() { close(opened) })
}

var errHandler = errors.New("the handler fails")
