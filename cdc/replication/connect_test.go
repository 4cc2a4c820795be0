package replication

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestWrongAddressOrLoginSaysSoInOneLine(t *testing.T) {
	t.Parallel()
	db := database(t)
	reader := db.Login(t, "reader")
	db.Exec(t, "ALTER ROLE "+reader+" NOREPLICATION")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	tests := map[string]struct {
		url   string
		want  Reason
		words []string
	}{
		"nobody listens":   {"postgres://u@" + nobody + "/d?sslmode=disable", Unreachable, []string{"check that PostgreSQL runs there", "as u"}},
		"no such host":     {"postgres://u@nowhere.invalid/d?sslmode=disable", Unreachable, []string{"nowhere.invalid"}},
		"no such role":     {db.URL("no_such_role"), LoginRefused, []string{"no_such_role", "check the user and the password"}},
		"no such database": {strings.Replace(db.Admin, db.Name, "no_such_db", 1), NoDatabase, []string{"no_such_db", "check the database"}},
		"no replication":   {db.URL(reader), NoRight, []string{"ALTER ROLE \"" + reader + "\" REPLICATION"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := config(t, db, newFeed())
			cfg.URL, cfg.StartTimeout = tt.url, 500*time.Millisecond
			run(t, cfg).fails(t, tt.want, tt.words...)
			if n := slots(t, db); n != 0 {
				t.Error("a slot was made")
			}
		})
	}
}

func TestWrongPasswordSaysSo(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Password: "right"})
	db := pgtest.On(t, cluster, schema)
	cfg := config(t, db, newFeed())
	cfg.URL = strings.Replace(db.Admin, "right", "wrong", 1)
	r := run(t, cfg)
	r.fails(t, LoginRefused, "password", "pg_hba.conf")
	if strings.Contains(fmt.Sprint(r.State().Err), "wrong") {
		t.Errorf("the error shows the password: %v", r.State().Err)
	}
}

// Covers C28.
func TestServerThatCannotDecodeSaysHowItCould(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"wal_level": "replica"}})
	db := pgtest.On(t, cluster, schema)
	run(t, config(t, db, newFeed())).fails(t, WALLevel, "wal_level is replica", "ALTER SYSTEM SET wal_level = logical")
}

// Covers C28.
func TestExhaustedSlotsAndSendersSaySoAndLeakNothing(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_replication_slots": "1", "max_wal_senders": "1"}})
	db := pgtest.On(t, cluster, schema)
	db.Exec(t, "SELECT pg_create_physical_replication_slot('taken')")
	run(t, config(t, db, newFeed())).fails(t, TooManySlots, "raise max_replication_slots")
	if n := slots(t, db); n != 0 {
		t.Error("a slot was leaked")
	}
	db.Exec(t, "SELECT pg_drop_replication_slot('taken')")

	first := run(t, config(t, db, newFeed()))
	first.connected(t)
	cfg := config(t, db, newFeed())
	cfg.Slot, cfg.StartTimeout = "second", 500*time.Millisecond
	run(t, cfg).fails(t, TooManySenders, "raise max_wal_senders")
	insert(t, db, 1, 1)
	expectInserted(t, first.wait(t, 1), 1, 1)
}

func TestReasonsAreTerminalByOneList(t *testing.T) {
	t.Parallel()
	passing := map[Reason]bool{Unreachable: true, Standby: true, TooManySenders: true, SlotInUse: true}
	for r := BadURL; r <= Undecodable; r++ {
		err := fmt.Errorf("wrapped: %w", &Error{Reason: r, What: "x"})
		if got := Terminal(err); got == passing[r] {
			t.Errorf("reason %d: terminal is %t", r, got)
		}
	}
	for _, err := range []error{nil, errHandler, errShutdown, errServerEnded, fmt.Errorf("receive: %w", net.ErrClosed)} {
		if Terminal(err) {
			t.Errorf("%v is terminal", err)
		}
	}
	if !Terminal(errors.Join(errHandler, terminalError{})) {
		t.Error("an error of the handler that says it is terminal is not")
	}
}

func TestPatienceIsShortOnlyBeforeTheFirstSuccess(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(int64(1000+s), 0) }
	gone, inUse := &Error{Reason: Unreachable}, &Error{Reason: SlotInUse}
	over := func(p *patience, err error, s int, want bool) {
		t.Helper()
		if got := p.isOver(err, at(s)); got != want {
			t.Errorf("after %d s, %v: over is %t", s, err, got)
		}
	}
	fresh := &patience{start: 15 * time.Second, slot: 90 * time.Second}
	over(fresh, gone, 0, false)
	over(fresh, errHandler, 14, false)
	over(fresh, gone, 15, true)
	over(fresh, &Error{Reason: Unreachable, Err: &pgconn.PgError{Code: cannotConnectNow}}, 119, false)
	over(fresh, &Error{Reason: Unreachable, Err: &pgconn.PgError{Code: cannotConnectNow}}, 120, true)

	streamed := &patience{start: 15 * time.Second, slot: 90 * time.Second}
	over(streamed, gone, 0, false)
	streamed.streamed()
	over(streamed, gone, 100, false)
	over(streamed, gone, 100_000, false)
	over(streamed, inUse, 100_000, false)
	over(streamed, inUse, 100_089, false)
	over(streamed, gone, 100_090, false) // another error in between: it counts anew
	over(streamed, inUse, 100_091, false)
	over(streamed, inUse, 100_181, true)

	standby := &patience{start: 15 * time.Second, slot: -1}
	over(standby, inUse, 0, false)
	over(standby, inUse, 100_000, false)
	over(standby, gone, 100_001, false) // it has got through once
	over(standby, gone, 200_000, false)
}

func TestBackoffRisesWithJitter(t *testing.T) {
	t.Parallel()
	first := map[time.Duration]bool{}
	for range 100 {
		b := newBackoff()
		limit := firstDelay
		for i := range 12 {
			d := b.next()
			if d < limit/2 || d > limit {
				t.Fatalf("delay %d is %s, want %s to %s", i, d, limit/2, limit)
			}
			if i == 0 {
				first[d] = true
			}
			limit = min(2*limit, lastDelay)
		}
	}
	if len(first) < 10 {
		t.Errorf("only %d different first delays of 100", len(first))
	}
}
