package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// dropSlot ends the session of the database's slot and drops it, as an operator would.
func dropSlot(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, `DO $$ DECLARE s text := `+"'"+db.Name+"'"+`; BEGIN
		FOR i IN 1..1000 LOOP
			BEGIN
				PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = s;
				PERFORM pg_drop_replication_slot(s);
				RETURN;
			EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001);
			END;
		END LOOP;
		RAISE 'slot stays in use';
	END $$`)
}

// makeSlot makes the database's slot without a Consumer.
func makeSlot(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, `SELECT pg_create_logical_replication_slot($1, 'pgoutput')`, db.Name)
}

// The slot's row says that another session streams from it; where that one was quicker by a hair,
// START_REPLICATION does.
//
// Covers C11.
func TestSlotOfAnotherIsWaitedForAndThenReported(t *testing.T) {
	t.Parallel()
	db := database(t)
	first := run(t, config(t, db, newFeed()))
	first.connected(t)

	impatient := config(t, db, newFeed())
	impatient.SlotTimeout = 300 * time.Millisecond
	run(t, impatient).fails(t, SlotInUse, db.Name, "active for another session", "use another slot")
	var e *Error
	if err := first.streamError(&pgconn.PgError{Code: "55006", Message: "replication slot is active for PID 7"}, 0); !errors.As(err, &e) || e.Reason != SlotInUse || e.Terminal() {
		t.Errorf("what START_REPLICATION says of it is %v", err)
	}

	standby := config(t, db, newFeed())
	standby.SlotTimeout = -1
	second := run(t, standby)
	eventually(t, "the second waits", func() bool { return reasonOf(second.State().Err) == SlotInUse })
	insert(t, db, 1, 1)
	first.wait(t, 1)
	if n := first.State().Connections; n != 1 {
		t.Errorf("the first was interrupted: %d connections", n)
	}
	first.stop()
	second.connected(t)
	insert(t, db, 2, 2)
	expectInserted(t, second.wait(t, 1), 2, 2)
}

// Covers C23.
func TestDroppedSlotIsNotMadeAnewInSilence(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	insert(t, db, 1, 1)
	r.wait(t, 1)
	dropSlot(t, db)
	r.fails(t, SlotLost, db.Name, "does not exist", "resync")
	if n := slots(t, db); n != 0 {
		t.Error("the slot was made anew")
	}

	atStart := config(t, db, newFeed())
	atStart.MustResumeFrom = r.ends[0]
	run(t, atStart).fails(t, SlotLost, db.Name)
	if n := slots(t, db); n != 0 {
		t.Error("the slot was made anew at the start")
	}
}

// Covers C24.
func TestInvalidatedSlotIsFatal(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_slot_wal_keep_size": "1MB", "max_wal_size": "32MB", "min_wal_size": "32MB"}})
	db := pgtest.On(t, cluster, schema)
	outrun := func() {
		for range 4 {
			db.Exec(t, "INSERT INTO other VALUES (1)")
			db.Exec(t, "SELECT pg_switch_wal()")
		}
		db.Exec(t, "CHECKPOINT")
	}
	f := newFeed()
	gate, blocked, _ := blocker()
	f.gate = gate
	r := run(t, config(t, db, f))
	r.connected(t)
	insert(t, db, 1, 1)
	<-blocked // nothing is acknowledged from here on
	eventually(t, "the slot is invalidated", func() bool {
		outrun()
		return pgtest.One[bool](t, db, "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = $1", db.Name)
	})
	r.fails(t, SlotLost, db.Name, "invalidated", "max_slot_wal_keep_size")
	run(t, config(t, db, newFeed())).fails(t, SlotLost, db.Name, "invalidated")
}

// Covers C03.
func TestSlotThatMovedOnIsAGap(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	insert(t, db, 1, 1)
	r.wait(t, 1)
	had := r.ends[0]
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}

	insert(t, db, 2, 2)
	resumed := config(t, db, newFeed())
	resumed.MustResumeFrom = confirmed(t, db)
	if resumed.MustResumeFrom < had {
		t.Fatalf("confirmed is %s, before %s", resumed.MustResumeFrom, had)
	}
	r = run(t, resumed)
	expectInserted(t, r.wait(t, 1), 2, 2)
	r.stop()
	if err := r.end(t); err != nil {
		t.Fatal(err)
	}

	insert(t, db, 3, 3)
	db.Exec(t, "SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())", db.Name)
	late := config(t, db, newFeed())
	late.MustResumeFrom = r.ends[0]
	run(t, late).fails(t, Gap, db.Name, "moved on", "resync")

	future := config(t, db, newFeed())
	future.MustResumeFrom = flushed(t, db) + 1<<40
	run(t, future).fails(t, Gap, "restored or failed over")
}

// While the stream is away, somebody else takes what the slot has.
//
// Covers C03.
func TestSlotThatSomebodyElseMovedIsAGap(t *testing.T) {
	t.Parallel()
	db := database(t)
	proxy := newProxy(t, db.Admin)
	cfg := config(t, db, newFeed())
	cfg.URL = proxy.url
	r := run(t, cfg)
	r.connected(t)
	insert(t, db, 1, 1)
	r.wait(t, 1)
	db.Exec(t, `DO $$ DECLARE s text := `+"'"+db.Name+"'"+`; BEGIN
		FOR i IN 1..1000 LOOP
			BEGIN
				PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = s;
				PERFORM pg_logical_emit_message(false, 'x', 'y');
				PERFORM pg_replication_slot_advance(s, pg_switch_wal());
				RETURN;
			EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001);
			END;
		END LOOP;
	END $$`)
	r.fails(t, Gap, "moved on")
}

// Covers C29.
func TestUnfitSlotIsRefusedAndLeftAlone(t *testing.T) {
	t.Parallel()
	db := database(t)
	other := pgtest.New(t, "CREATE PUBLICATION published")
	tests := map[string]struct {
		make, say string
		in        *pgtest.DB
	}{
		"physical":         {"SELECT pg_create_physical_replication_slot($1)", "is physical", db},
		"temporary":        {"SELECT pg_create_logical_replication_slot($1, 'pgoutput', temporary => true)", "is temporary", db},
		"another database": {"SELECT pg_create_logical_replication_slot($1, 'pgoutput')", fmt.Sprintf("belongs to database %q", other.Name), other},
	}
	n := 0
	for name, tt := range tests {
		n++
		cfg := config(t, db, newFeed())
		cfg.Slot = fmt.Sprintf("unfit_%d_%s", n, db.Name)
		conn, err := tt.in.Pool(t).Acquire(t.Context()) // a temporary slot lasts as long as its session
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(t.Context(), tt.make, cfg.Slot); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		run(t, cfg).fails(t, SlotUnfit, cfg.Slot, tt.say, "use another slot name")
		if _, err := conn.Exec(t.Context(), "SELECT pg_drop_replication_slot($1)", cfg.Slot); err != nil {
			t.Errorf("%s: the slot was not left alone: %v", name, err)
		}
		conn.Release()
	}
}

// While older transactions keep PostgreSQL from making the slot, it can be called off, and then
// there is none, also once those transactions have ended. The server has to be told: our own handler
// asks it to cancel, and so does pgconn where it gives a connection up. What is called off just when it
// is done has a test of its own, TestSlotThatWasMadeWhenItWasCalledOffIsDropped.
//
// Covers C40.
func TestSlotThatIsCalledOffIsNotLeftBehind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(*testing.T, *running)
		cfg  func(*Config)
	}{
		{"stopped", func(t *testing.T, r *running) {
			t.Helper()
			r.stop()
			if err := r.end(t); err != nil {
				t.Error(err)
			}
		}, func(*Config) {}},
		{"timeout", func(t *testing.T, r *running) {
			t.Helper()
			r.fails(t, SlowSlot, "not done after 500ms", "pg_stat_activity")
		}, func(c *Config) { c.CreateTimeout = 500 * time.Millisecond }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			db := database(t)
			tx, err := db.Pool(t).Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec(t.Context(), "INSERT INTO t VALUES (1)"); err != nil {
				t.Fatal(err)
			}
			cfg := config(t, db, newFeed())
			tt.cfg(&cfg)
			r := run(t, cfg)
			eventually(t, "the slot is being made", func() bool { return slots(t, db) == 1 })
			tt.end(t, r)
			if n := slots(t, db); n != 0 {
				t.Error("the slot is there when Run has returned")
			}
			if err := tx.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			insert(t, db, 2, 2)
			if n := slots(t, db); n != 0 {
				t.Error("the slot was finished when nobody wanted it any more")
			}
		})
	}
}

// Without a publication no slot is made: it could never be decoded.
//
// Covers C79.
func TestPublicationMustExistFirst(t *testing.T) {
	t.Parallel()
	db := database(t, "DROP PUBLICATION published")
	run(t, config(t, db, newFeed())).fails(t, NoPublication, "published", "rowtide setup")
	if n := slots(t, db); n != 0 {
		t.Error("a slot was made")
	}

	makeSlot(t, db)
	insert(t, db, 1, 1)
	db.Exec(t, "CREATE PUBLICATION published FOR TABLE t")
	before := confirmed(t, db)
	run(t, config(t, db, newFeed())).fails(t, NoPublication, "published", "drop the slot")
	if got := confirmed(t, db); got > before {
		t.Errorf("the slot moved from %s to %s, over changes that were not had", before, got)
	}
}

// The error that ends the stream says so (before PostgreSQL 18), and so does the look at the
// publications with which each attempt begins.
//
// Covers C78.
func TestDroppedPublicationStopsTheStreamAndTheSlot(t *testing.T) {
	t.Parallel()
	db := database(t)
	r := run(t, config(t, db, newFeed()))
	r.connected(t)
	insert(t, db, 1, 1)
	r.wait(t, 1)
	db.Exec(t, "DROP PUBLICATION published")
	before := flushed(t, db)
	insert(t, db, 2, 2)
	r.fails(t, NoPublication, "published")
	if got := confirmed(t, db); got > before {
		t.Errorf("confirmed is %s, behind %s where the publication was gone", got, before)
	}
}

// TestAPublicationThatComesBackIsALoss drops the publication where somebody is told of losses: it is
// waited for, and the stream begins anew behind the hole.
//
// Covers C78, C79.
func TestAPublicationThatComesBackIsALoss(t *testing.T) {
	t.Parallel()
	db := database(t)
	f := newFeed()
	cfg := config(t, db, f)
	losses := make(chan Loss, 9)
	cfg.OnLoss = func(_ context.Context, l Loss) error {
		losses <- l
		return nil
	}
	r := run(t, cfg)
	r.connected(t)
	insert(t, db, 1, 1)
	f.wait(t, 1)
	db.Exec(t, "DROP PUBLICATION published")
	insert(t, db, 2, 2)
	eventually(t, "State says why there is no stream", func() bool { return reasonOf(r.State().Err) == NoPublication })
	if got, hole := confirmed(t, db), flushed(t, db); got >= hole {
		t.Errorf("confirmed is %s, behind the change before %s that was not published", got, hole)
	}
	db.Exec(t, "CREATE PUBLICATION published FOR TABLE t")
	back := flushed(t, db)
	eventually(t, "the loss is told", func() bool { return len(losses) > 0 })
	if l := <-losses; l.Reason != Unpublished || l.Rewritten || l.At < back {
		t.Errorf("want the loss of all before %s, got %+v", back, l)
	}
	r.connected(t)
	insert(t, db, 3, 3)
	expectInserted(t, f.wait(t, 2)[1:], 3, 3)
	if n := len(losses); n != 0 {
		t.Errorf("%d more losses were told", n)
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	good := Config{URL: "postgres://h/d", Slot: "s_1", Publications: []string{"p"}, Handler: newFeed(), Progress: NewProgress()}
	for want, spoil := range map[string]func(*Config){
		"slot name":             func(c *Config) { c.Slot = "Big" },
		`slot name ""`:          func(c *Config) { c.Slot = "" },
		"up to 63":              func(c *Config) { c.Slot = strings.Repeat("s", 64) },
		"no publication":        func(c *Config) { c.Publications = nil },
		"publication name":      func(c *Config) { c.Publications = []string{"p", ""} },
		"no handler":            func(c *Config) { c.Handler = nil },
		"no progress":           func(c *Config) { c.Progress = nil },
		"negative":              func(c *Config) { c.QueueBytes = -1 },
		"the connection string": func(c *Config) { c.URL = "postgres://h:x/" },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}
