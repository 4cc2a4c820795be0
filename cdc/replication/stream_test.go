package replication

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// Covers C29.
func TestStreamsWhatCommitsInOrderAndFreesTheSlot(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	insert(t, db, 1, 20)
	expectInserted(t, r.wait(t, 20), 1, 20)
	if !r.State().Created || r.State().Connections != 1 {
		t.Errorf("state is %+v", r.State())
	}
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	const fit = `SELECT active = false AND temporary = false AND plugin = 'pgoutput' FROM pg_replication_slots WHERE slot_name = $1`
	if !pgtest.One[bool](t, db, fit, db.Name) {
		t.Error("the slot is not a free, permanent one of pgoutput when Run returns")
	}
	if got, want := confirmed(t, db), r.ends[19]; got < want {
		t.Errorf("confirmed is %s when Run returns, want %s or more", got, want)
	}
	insert(t, db, 21, 25)
	again := run(t, config(t, db, newFeed()))
	expectInserted(t, again.wait(t, 5), 21, 25)
	if again.State().Created {
		t.Error("a slot that was found counts as created")
	}
}

// Whoever waits for the acknowledgement (synchronous replication, a shutdown) does not wait for
// an interval to pass.
func TestWhatIsHeldIsAcknowledgedAtOnce(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	insert(t, db, 1, 1)
	began := time.Now()
	r.wait(t, 1)
	eventually(t, "the server has the acknowledgement", func() bool { return confirmed(t, db) >= r.ends[0] })
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the acknowledgement took %s; statuses come each %s by themselves", took, longestInterval)
	}
}

// Covers C05.
func TestQuietTableDoesNotHoldBackTheWALOfABusyDatabase(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	for range 10 {
		db.Exec(t, strings.Repeat("INSERT INTO other VALUES (1); COMMIT; BEGIN; ", 100))
		want := flushed(t, db)
		eventually(t, "the slot moves past what does not concern it", func() bool { return confirmed(t, db) >= want })
	}
	if txs := r.transactions(); len(txs) > 0 {
		t.Errorf("%d transactions came of a table that is not published", len(txs))
	}
	insert(t, db, 1, 3)
	expectInserted(t, r.wait(t, 3), 1, 3)
}

// A transaction is acknowledged once its commit was handled, and not when some of its events
// were: at each place where the consumer dies, it comes again whole.
//
// Covers C01, C06.
func TestDeathAtAnyEventLosesNothing(t *testing.T) {
	t.Parallel()
	db := database(t, senderTimeout("600ms"))
	for at, kind := range []pglogrepl.MessageType{
		pglogrepl.MessageTypeBegin, pglogrepl.MessageTypeRelation, pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeCommit,
	} {
		f := newFeed()
		reached := make(chan cdc.LSN)
		seen, commit := 0, cdc.LSN(0)
		f.gate = func(ctx context.Context, m pglogrepl.Message) error {
			if b, ok := m.(*pglogrepl.BeginMessage); ok {
				commit = cdc.LSN(b.FinalLSN)
			}
			if seen++; seen-1 != at {
				return nil
			}
			if m.Type() != kind {
				t.Errorf("message %d is a %s, want %s", at, m.Type(), kind)
			}
			reached <- commit
			<-ctx.Done() // dies here
			return ctx.Err()
		}
		r := run(t, config(t, db, f))
		r.connected(t)
		db.Exec(t, fmt.Sprintf("INSERT INTO t VALUES (%d, 'a'); INSERT INTO t VALUES (%d, 'b')", 10*at, 10*at+1))
		within := <-reached
		foreign := flushed(t, db)
		db.Exec(t, "INSERT INTO other VALUES (1)") // a keepalive behind the transaction
		eventually(t, "the server has said more", func() bool { return r.State().ServerEnd > foreign })
		statuses(t, db, 3)
		if got := confirmed(t, db); got > within {
			t.Errorf("confirmed is %s, behind the commit at %s of a transaction of which %d messages were taken", got, within, at)
		}
		r.stop()
		if err := r.end(t); err != nil {
			t.Fatal(err)
		}
		if got := confirmed(t, db); got > within {
			t.Errorf("confirmed is %s after the end, behind the commit at %s", got, within)
		}
		next := run(t, config(t, db, newFeed()))
		if got, want := next.wait(t, 1)[0], fmt.Sprintf("%d,a;%d,b", 10*at, 10*at+1); got != want {
			t.Errorf("after death at message %d came %q, want %q", at, got, want)
		}
		next.stop()
		if err := next.end(t); err != nil {
			t.Fatal(err)
		}
	}
}

// statuses waits until the server has received n more statuses of the database's walsender.
func statuses(t *testing.T, db *pgtest.DB, n int) {
	t.Helper()
	last := ""
	for range n {
		eventually(t, "a status arrives", func() bool {
			now := pgtest.One[string](t, db, `SELECT COALESCE(max(reply_time::text), '') FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE slot_name = $1`, db.Name)
			ok := now != "" && now != last
			last = now
			return ok
		})
	}
}

// A handler may return before the bus holds what it was given, and say so later. Until then
// nothing of it is acknowledged, whatever else the server says.
//
// Covers C01, C06.
func TestWhatTheBusDoesNotHoldYetIsNotAcknowledged(t *testing.T) {
	t.Parallel()
	db := database(t, senderTimeout("600ms"))
	f := newFeed()
	f.lateBus = true
	r := run(t, config(t, db, f))
	r.connected(t)
	insert(t, db, 1, 2)
	expectInserted(t, f.wait(t, 2), 1, 2)
	first, second := f.ends[0], f.ends[1]
	db.Exec(t, "INSERT INTO other VALUES (1)")
	foreign := flushed(t, db)
	eventually(t, "the server has said more", func() bool { return r.State().ServerEnd >= foreign })
	statuses(t, db, 3)
	if got := confirmed(t, db); got >= first {
		t.Errorf("confirmed is %s, and nothing up to %s is held", got, first)
	}
	f.progress.Held(first)
	eventually(t, "the first is acknowledged", func() bool { return confirmed(t, db) >= first })
	statuses(t, db, 3)
	if got := confirmed(t, db); got >= second {
		t.Errorf("confirmed is %s, and only the first, up to %s, is held", got, first)
	}
	f.progress.Held(second)
	eventually(t, "the rest is acknowledged", func() bool { return confirmed(t, db) >= foreign })
}

// The handler blocks for many times wal_sender_timeout, with more to come than the queue holds:
// the server neither ends the connection nor is left, and memory stays bounded.
//
// Covers C09.
func TestBlockedHandlerKeepsTheConnection(t *testing.T) {
	t.Parallel()
	db := database(t, senderTimeout("1s"))
	f := newFeed()
	gate, blocked, open := blocker()
	f.gate = gate
	cfg := config(t, db, f)
	cfg.QueueBytes, cfg.Silence = 64<<10, 2*time.Second // shorter than the handler blocks
	r := run(t, cfg)
	r.connected(t)
	insert(t, db, 1, 1)
	<-blocked
	const rows, size = 40_000, 500 // far more than the queue and the sockets hold, and cut anywhere
	db.Exec(t, fmt.Sprintf("INSERT INTO t SELECT 1000 + i, repeat('x', %d) FROM generate_series(1, %d) i", size, rows))
	eventually(t, "the queue is full", func() bool { return r.State().Queued > 0 })
	statuses(t, db, 13) // each after a third of the timeout
	if s := r.State(); s.Connections != 1 || !s.Connected {
		t.Errorf("after more than four times wal_sender_timeout the state is %+v", s)
	}
	if q := r.State().Queued; q > cfg.QueueBytes+size+1000 {
		t.Errorf("%d bytes are queued, with a bound of %d", q, cfg.QueueBytes)
	}
	open()
	if txs := f.wait(t, 2); len(txs[1]) < rows*size {
		t.Errorf("the transaction that waited came with %d bytes", len(txs[1]))
	}
	if s := r.State(); s.Connections != 1 {
		t.Errorf("%d connections, want the first to last", s.Connections)
	}
}

// A connection on which nothing arrives any more, and of which nobody says that it is dead, is
// noticed and made anew.
//
// Covers C10.
func TestSilentConnectionIsReplaced(t *testing.T) {
	t.Parallel()
	db := database(t, senderTimeout("1s"))
	proxy := newProxy(t, db.Admin)
	cfg := config(t, db, newFeed())
	cfg.URL, cfg.Silence = proxy.url, 2*time.Second
	r := run(t, cfg)
	r.connected(t)
	insert(t, db, 1, 1)
	r.wait(t, 1)
	statuses(t, db, 8) // idle for longer than the limit, and alive
	if n := r.State().Connections; n != 1 {
		t.Fatalf("%d connections although the server answers", n)
	}
	proxy.freeze()
	insert(t, db, 2, 4)
	expectInserted(t, r.wait(t, 4), 1, 4)
	if n := r.State().Connections; n < 2 {
		t.Errorf("%d connections, want another one", n)
	}
}

// A server that has moved is found at its new address, and nothing is lost: its name is looked up for
// each connection.
//
// Covers C44.
func TestNamesAreLookedUpForEachConnection(t *testing.T) {
	t.Parallel()
	db := database(t, senderTimeout("1s"))
	there, err := url.Parse(db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	old := newProxy(t, db.Admin)
	before, err := url.Parse(old.url)
	if err != nil {
		t.Fatal(err)
	}
	named := *there
	named.Host = "database.example:5432"
	cfg := config(t, db, newFeed())
	cfg.URL, cfg.Silence = named.String(), 2*time.Second
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var moved atomic.Bool
	var looked atomic.Int32 // at the new address
	c.conn.LookupFunc = func(context.Context, string) ([]string, error) {
		if !moved.Load() {
			return []string{before.Host}, nil
		}
		looked.Add(1)
		return []string{there.Host}, nil
	}
	r := runConsumer(t, c)
	r.connected(t)
	insert(t, db, 1, 1)
	r.wait(t, 1)
	moved.Store(true)
	old.freeze()
	insert(t, db, 2, 4)
	expectInserted(t, r.wait(t, 4), 1, 4)
	if looked.Load() == 0 {
		t.Error("the name was not looked up again")
	}
}

// Covers C04.
func TestReconnectionGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	for i := range 5 {
		insert(t, db, 2*i+1, 2*i+2)
		expectInserted(t, r.wait(t, 2*i+2), 1, 2*i+2)
		before := r.State().Connections
		db.Exec(t, `SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1`, db.Name)
		eventually(t, "the stream is back", func() bool { s := r.State(); return s.Connected && s.Connections > before })
	}
	f := r.feed
	f.mu.Lock()
	defer f.mu.Unlock()
	for i, start := range f.resets[1:] {
		if end := f.ends[2*i+1]; start < end {
			t.Errorf("connection %d began at %s, before %s, which was held", i+2, start, end)
		}
	}
}

func TestHandlerErrorIsTriedAgainUnlessTerminal(t *testing.T) {
	t.Parallel()
	db := database(t)
	f := newFeed()
	var once sync.Once
	f.gate = func(_ context.Context, m pglogrepl.Message) (err error) {
		if m.Type() == pglogrepl.MessageTypeInsert {
			once.Do(func() { err = errHandler })
		}
		return err
	}
	r := run(t, config(t, db, f))
	insertAfterSlot(t, r, db)
	expectInserted(t, f.wait(t, 1), 1, 1)
	if n := r.State().Connections; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}

	last := newFeed()
	last.gate = func(context.Context, pglogrepl.Message) error { return terminalError{} }
	r = run(t, config(t, db, last))
	insert(t, db, 2, 2)
	if err := r.end(t); err == nil || !strings.Contains(err.Error(), "cannot be decoded") {
		t.Errorf("Run gave %v", err)
	}
	if n := r.State().Connections; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

type terminalError struct{}

func (terminalError) Error() string  { return "it cannot be decoded" }
func (terminalError) Terminal() bool { return true }

func insertAfterSlot(t *testing.T, r *running, db *pgtest.DB) {
	t.Helper()
	r.connected(t)
	insert(t, db, 1, 1)
}

func TestNamesAreQuoted(t *testing.T) {
	t.Parallel()
	const name = `it's "a, b" \ Ü`
	db := database(t, `ALTER PUBLICATION published RENAME TO "it's ""a, b"" \ Ü"`)
	cfg := config(t, db, newFeed())
	cfg.Publications = []string{name}
	cfg.Slot = "1" + db.Name
	r := run(t, cfg)
	insertAfterSlot(t, r, db)
	expectInserted(t, r.wait(t, 1), 1, 1)
}

// The text of values does not depend on what the login, the database or the connection string
// are set to.
//
// Covers C89, C101.
func TestTextOfValuesIsPinned(t *testing.T) {
	t.Parallel()
	db := database(t, `
		CREATE TABLE vals (id int PRIMARY KEY, f float8, d date, ts timestamptz, i interval, raw bytea, m money, r regclass);
		ALTER PUBLICATION published ADD TABLE vals;
		CREATE SCHEMA "Odd"; CREATE TABLE "Odd".x ()`)
	login := db.Login(t, "hostile")
	for _, set := range []string{
		"extra_float_digits = 0", "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "TimeZone = 'Asia/Kolkata'", "bytea_output = 'escape'",
		"client_encoding = 'LATIN1'", `search_path = '"Odd"'`, "quote_all_identifiers = on", "statement_timeout = '1ms'", "lock_timeout = '1ms'", "client_min_messages = 'error'",
	} {
		db.Exec(t, "ALTER ROLE "+login+" SET "+set)
		db.Exec(t, "ALTER DATABASE "+db.Name+" SET "+set)
	}
	cfg := config(t, db, newFeed())
	cfg.URL = db.URL(login) + "&datestyle=SQL&TIMEZONE=Asia/Tokyo&options=-c%20bytea_output%3Descape"
	r := run(t, cfg)
	r.connected(t)
	db.Exec(t, `SET DateStyle = 'ISO'; SET TimeZone = 'UTC'; INSERT INTO vals VALUES
		(1, 0.1::float8 + 0.2, '2026-02-03', '2026-02-03 04:05:06+00', '1 year 2 days 03:04:05', '\x00ff', 12.5, '"Odd".x')`)
	const want = `1,0.30000000000000004,2026-02-03,2026-02-03 04:05:06+00,1 year 2 days 03:04:05,\x00ff,$12.50,"Odd".x`
	if got := r.wait(t, 1)[0]; got != want {
		t.Errorf("values are\n%s, want\n%s", got, want)
	}
}

// Run leaves nothing behind however it is stopped; goleak looks once all tests are done.
func TestRunEndsWhereverItIs(t *testing.T) {
	t.Parallel()
	db := database(t)
	for range 10 {
		r := run(t, config(t, db, newFeed()))
		r.stop()
		if err := r.end(t); err != nil {
			t.Errorf("stopped at once: %v", err)
		}
	}
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	if err := r.Run(t.Context()); err == nil {
		t.Error("a second Run was accepted")
	}
}
