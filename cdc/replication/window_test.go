package replication

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// at makes a window slot that is so many seconds old, at an LSN.
func at(seconds int, lsn cdc.LSN) windowSlot {
	made := time.Unix(1_000_000, 0).Add(-time.Duration(seconds) * time.Second)
	return windowSlot{name: windowName("s", made), made: made, confirmed: lsn, restart: lsn, usable: true}
}

func TestWindowSlotsAreRenewedByAgeAndSize(t *testing.T) {
	t.Parallel()
	const length, limit = 300 * time.Second, 1000
	lost := at(250, 100)
	lost.usable = false
	behind := at(10, 900) // of a transaction that was open then
	behind.restart = 100
	for name, c := range map[string]struct {
		main  cdc.LSN
		slots []windowSlot
		drop  []int // indexes in slots
		renew bool
		off   bool
	}{
		"the first":                              {main: 100, renew: true},
		"young":                                  {main: 150, slots: []windowSlot{at(99, 100)}},
		"a third of the length":                  {main: 150, slots: []windowSlot{at(100, 100)}, renew: true},
		"a third, but nothing has happened":      {main: 100, slots: []windowSlot{at(200, 100)}},
		"a quarter of the size":                  {main: 350, slots: []windowSlot{at(1, 100)}, renew: true},
		"the next one is long enough":            {main: 150, slots: []windowSlot{at(400, 100), at(300, 110), at(50, 120)}, drop: []int{0}},
		"the next one is not":                    {main: 150, slots: []windowSlot{at(400, 100), at(299, 110), at(50, 120)}},
		"idle for long: the only one stays":      {main: 100, slots: []windowSlot{at(9999, 100)}},
		"too much WAL":                           {main: 1200, slots: []windowSlot{at(200, 100), at(20, 1150)}, drop: []int{0}},
		"too much WAL for all":                   {main: 9000, slots: []windowSlot{at(200, 100), at(20, 150)}, drop: []int{0, 1}, renew: true},
		"a lost one":                             {main: 300, slots: []windowSlot{lost, at(20, 280)}, drop: []int{0}},
		"WAL that the slot itself needs no more": {main: 1500, slots: []windowSlot{behind}, drop: []int{0}, renew: true},
		"switched off":                           {main: 150, slots: []windowSlot{at(100, 100), at(20, 120)}, drop: []int{0, 1}, off: true},
		"a clock set back":                       {main: 150, slots: []windowSlot{at(-5000, 100)}},
		"no more than there may be":              {main: 200, slots: []windowSlot{at(250, 100), at(249, 101), at(248, 102), at(247, 103), at(246, 104), at(245, 105)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := windowState{now: time.Unix(1_000_000, 0), main: windowSlot{confirmed: c.main, restart: c.main, usable: true}, slots: c.slots}
			length := length
			if c.off {
				length = 0
			}
			var want []string
			for _, i := range c.drop {
				want = append(want, c.slots[i].name)
			}
			drop, renew := w.due(length, limit)
			if !slices.Equal(drop, want) || renew != c.renew {
				t.Errorf("drop %q, renew %v; want %q, %v", drop, renew, want, c.renew)
			}
		})
	}
}

func TestWindowNamesTellTheirTime(t *testing.T) {
	t.Parallel()
	made := time.UnixMilli(1_800_000_000_123)
	name := windowName("rowtide", made)
	if got, ok := windowTime("rowtide", name); !ok || !got.Equal(made) || len(name) != len("rowtide")+len(windowMark)+windowDigits {
		t.Errorf("%s is of %s, %v", name, got, ok)
	}
	for _, foreign := range []string{"rowtide", "rowtide_w", "rowtide_wide", "rowtide_w1234567", "rowtide_w123456789", "rowtide_w1234_678", "other_w12345678"} {
		if _, ok := windowTime("rowtide", foreign); ok {
			t.Errorf("%s is none of ours", foreign)
		}
	}
}

// windowed is config with a window, on a handler that knows nothing yet: that of a process that
// was started again.
func windowed(t *testing.T, db *pgtest.DB) (Config, *feed) {
	t.Helper()
	f := newFeed()
	cfg := config(t, db, f)
	cfg.Retain = time.Hour
	return cfg, f
}

// begun waits until the window was read and the slot's own stream runs.
func (r *running) begun(t *testing.T) {
	t.Helper()
	select {
	case <-r.Started():
	case err := <-r.done:
		r.done <- err
		t.Fatalf("ended: %v", err)
	case <-time.After(30 * time.Second):
		t.Fatal("the stream does not begin")
	}
}

func windowSlots(t *testing.T, db *pgtest.DB) []string {
	t.Helper()
	return strings.Fields(pgtest.One[string](t, db, `SELECT coalesce(string_agg(slot_name, ' ' ORDER BY slot_name), '') FROM pg_replication_slots
		WHERE slot_name ~ ('^' || $1 || '_w[0-9a-z]{8}$')`, db.Name))
}

// TestARestartReadsTheWindowAgain restarts with transactions on both sides of the slot's position,
// one of which was open when the copy was made, in a process that has forgotten everything.
func TestARestartReadsTheWindowAgain(t *testing.T) {
	t.Parallel()
	db := database(t)
	cfg, f := windowed(t, db)
	first := run(t, cfg)
	first.connected(t)
	if n := len(windowSlots(t, db)); n != 1 {
		t.Fatalf("there are %d window slots behind the start", n)
	}
	insert(t, db, 1, 3)
	f.wait(t, 3)
	eventually(t, "the slot has moved on", func() bool { return confirmed(t, db) >= f.ends[2] })
	first.stop()
	if err := first.end(t); err != nil {
		t.Fatal(err)
	}
	insert(t, db, 4, 5) // while nobody reads

	cfg, f = windowed(t, db)
	began := time.Now()
	again := run(t, cfg)
	again.begun(t)
	t.Logf("ready after %s", time.Since(began).Round(time.Millisecond))
	expectInserted(t, f.transactions()[:min(3, len(f.transactions()))], 1, 3)
	insert(t, db, 6, 6)
	expectInserted(t, f.wait(t, 6), 1, 6)
	if len(f.lost) > 0 {
		t.Errorf("lost at %v", f.lost)
	}
	if w := again.State().Window; w.Slots != 1 || w.From == 0 {
		t.Errorf("window is %+v", w)
	}
}

// TestTheWindowSlotNeverMoves reads a window slot again and again: each time it gives all of it.
func TestTheWindowSlotNeverMoves(t *testing.T) {
	t.Parallel()
	db := database(t)
	for n := range 4 {
		cfg, f := windowed(t, db)
		r := run(t, cfg)
		r.begun(t)
		insert(t, db, n+1, n+1)
		expectInserted(t, f.wait(t, n+1), 1, n+1)
		eventually(t, "the slot has moved on", func() bool { return confirmed(t, db) >= f.ends[n] })
		r.stop()
		if err := r.end(t); err != nil {
			t.Fatal(err)
		}
	}
	if w := windowSlots(t, db); len(w) != 1 {
		t.Errorf("window slots are %q", w)
	}
}

// TestACopyReadsAllSinceItWasMade copies the slot of a running stream with a transaction open that
// began before the copy, and crashes the server before the copy is read.
func TestACopyReadsAllSinceItWasMade(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on"}})
	db := pgtest.On(t, cluster, schema)
	cfg, f := windowed(t, db)
	r := run(t, cfg)
	r.begun(t)
	open := begin(t, db, "INSERT INTO t VALUES (1, 'v1')")
	db.Exec(t, "SELECT pg_drop_replication_slot($1)", windowSlots(t, db)[0])
	eventually(t, "another copy is made", func() bool { return len(windowSlots(t, db)) == 1 })
	open("COMMIT")
	insert(t, db, 2, 3)
	f.wait(t, 3)
	if err := cluster.StopMode(t.Context(), "immediate"); err != nil {
		t.Fatal(err)
	}
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	if err := cluster.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg, f = windowed(t, db)
	r = run(t, cfg)
	r.begun(t)
	expectInserted(t, f.wait(t, 3), 1, 3)
}

// TestADroppedSlotIsBridgedByTheWindow drops the slot itself: what lies between is read from the window.
func TestADroppedSlotIsBridgedByTheWindow(t *testing.T) {
	t.Parallel()
	db := database(t)
	cfg, f := windowed(t, db)
	r := run(t, cfg)
	r.begun(t)
	insert(t, db, 1, 2)
	f.wait(t, 2)
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "SELECT pg_drop_replication_slot($1)", db.Name)
	insert(t, db, 3, 4)
	cfg, f = windowed(t, db)
	r = run(t, cfg)
	r.begun(t)
	insert(t, db, 5, 5)
	expectInserted(t, f.wait(t, 5), 1, 5)
}

// TestAnUnreadableWindowSlotMakesTheWindowShorter has the oldest window slot need a publication
// that did not exist at its place in the WAL.
func TestAnUnreadableWindowSlotMakesTheWindowShorter(t *testing.T) {
	t.Parallel()
	db := database(t)
	cfg, _ := windowed(t, db)
	r := run(t, cfg)
	r.begun(t)
	insert(t, db, 1, 1)
	db.Exec(t, "DROP PUBLICATION "+publication+"; INSERT INTO t VALUES (2, 'v2'); CREATE PUBLICATION "+publication+" FOR TABLE t")
	r.fails(t, NoPublication)
	advance(t, db, db.Name)
	db.Exec(t, "SELECT pg_copy_logical_replication_slot($1, $2)", db.Name, windowName(db.Name, time.Now().Add(time.Hour)))
	insert(t, db, 3, 3)
	advance(t, db, db.Name)
	insert(t, db, 4, 4)

	cfg, f := windowed(t, db)
	r = run(t, cfg)
	r.begun(t)
	got := f.wait(t, 2)
	if got[0] == "1,v1" { // it came before the error did
		got = f.wait(t, 3)[1:]
	}
	if len(f.lost) != 1 {
		t.Errorf("the hole was told %d times", len(f.lost))
	}
	expectInserted(t, got, 3, 4)
}

// TestWindowSlotsGoWhenSwitchedOff switches the window off: its slots go, and no others.
func TestWindowSlotsGoWhenSwitchedOff(t *testing.T) {
	t.Parallel()
	db := database(t)
	cfg, _ := windowed(t, db)
	r := run(t, cfg)
	r.begun(t)
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, "SELECT pg_create_logical_replication_slot($1 || '_wide', 'pgoutput')", db.Name)
	if n := len(windowSlots(t, db)); n != 1 {
		t.Fatalf("%d window slots", n)
	}
	r = run(t, config(t, db, newFeed()))
	r.begun(t)
	if n := len(windowSlots(t, db)); n != 0 {
		t.Errorf("%d window slots are left", n)
	}
	if n := pgtest.One[int](t, db, `SELECT count(*)::int FROM pg_replication_slots WHERE slot_name = $1 || '_wide'`, db.Name); n != 1 {
		t.Error("a slot of another is gone")
	}
}

// TestNoPlaceForWindowSlotsIsNoError runs where there is a place for one slot.
func TestNoPlaceForWindowSlotsIsNoError(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_replication_slots": "1"}})
	db := pgtest.On(t, cluster, schema)
	cfg, f := windowed(t, db)
	r := run(t, cfg)
	r.begun(t)
	insert(t, db, 1, 1)
	expectInserted(t, f.wait(t, 1), 1, 1)
	if w := r.State().Window; w.Slots != 0 {
		t.Errorf("window is %+v", w)
	}
}

// TestWindowSlotsAreDroppedBySize writes more WAL than the window may hold.
func TestWindowSlotsAreDroppedBySize(t *testing.T) {
	t.Parallel()
	db := database(t)
	cfg, _ := windowed(t, db)
	cfg.RetainWAL = 1 << 20
	r := run(t, cfg)
	r.begun(t)
	first := windowSlots(t, db)[0]
	tick := 0
	eventually(t, "the first window slot is dropped and the window is within its bound", func() bool {
		tick++
		db.Exec(t, fmt.Sprintf("INSERT INTO t SELECT %d + n, repeat('x', 1000) FROM generate_series(1, 300) n", 1000*tick))
		w := r.State().Window
		return !slices.Contains(windowSlots(t, db), first) && w.Slots > 0 && w.Bytes <= 4<<20
	})
}

// begin opens a transaction; what it returns ends it with COMMIT or ROLLBACK.
func begin(t *testing.T, db *pgtest.DB, sql string) (end func(string)) {
	t.Helper()
	conn, err := db.Pool(t).Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "BEGIN; "+sql); err != nil {
		t.Fatal(err)
	}
	return func(how string) {
		defer conn.Release()
		if _, err := conn.Exec(t.Context(), how); err != nil {
			t.Fatal(err)
		}
	}
}

// advance moves a slot to the end of the WAL, once it is free.
func advance(t *testing.T, db *pgtest.DB, slot string) {
	t.Helper()
	eventually(t, "the slot is free", func() bool {
		return pgtest.One[bool](t, db, `SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1`, slot)
	})
	db.Exec(t, "SELECT pg_replication_slot_advance($1, pg_current_wal_flush_lsn())", slot)
}

// TestTheWindowIsReadAtTheHandlersPace blocks the handler while the window is read: the
// connection stays alive beyond wal_sender_timeout, and everything comes in order.
func TestTheWindowIsReadAtTheHandlersPace(t *testing.T) {
	t.Parallel()
	db := database(t, senderTimeout("1s"))
	cfg, _ := windowed(t, db)
	r := run(t, cfg)
	r.begun(t)
	insert(t, db, 1, 5)
	r.wait(t, 5)
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	cfg, f := windowed(t, db)
	var once sync.Once
	f.gate = func(ctx context.Context, _ pglogrepl.Message) error {
		once.Do(func() {
			select {
			case <-time.After(3 * time.Second): // three times wal_sender_timeout
			case <-ctx.Done():
			}
		})
		return nil
	}
	r = run(t, cfg)
	r.begun(t)
	expectInserted(t, f.wait(t, 5), 1, 5)
	if n := r.State().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
}

// TestStartedIsBehindWhatWasThere starts anew behind transactions that were handed on and not
// acknowledged: clients have cursors of them, so they are handed on again before anybody is let in.
func TestStartedIsBehindWhatWasThere(t *testing.T) {
	t.Parallel()
	db := database(t)
	cfg, f := windowed(t, db)
	f.lateBus = true
	r := run(t, cfg)
	r.begun(t)
	insert(t, db, 1, 50)
	f.wait(t, 50)
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}
	cfg, f = windowed(t, db)
	r = run(t, cfg)
	r.begun(t)
	expectInserted(t, f.transactions(), 1, 50)
}
