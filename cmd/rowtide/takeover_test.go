package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestAServiceThatWasPausedPublishesNothingStale stops a service for longer than the server waits for it, while
// another takes its slot over. When it goes on it hands on nothing of what the other has, and says so. Whoever comes
// back with a cursor, of the one or of the other, gets the rest or is told: nobody gets a change twice, or the next
// without the one before.
//
// Covers C12.
func TestAServiceThatWasPausedPublishesNothingStale(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"wal_sender_timeout": "2s"}})
	db := pgtest.On(t, cluster)
	fx := feedtest.NewFixture(db.Role(t, "web_user"), db.Role(t, "web_reader"))
	db.Exec(t, `CREATE TABLE notes (id int PRIMARY KEY); GRANT SELECT ON notes TO `+fx.User+`; COMMENT ON TABLE notes IS '@subscribe(rowSecurity: NOT_REQUIRED)'`)
	first := newVictim(t, db, fx, db.Admin)
	second := first.beside(t)
	first.start(t)
	t.Cleanup(first.kill)
	a := first.notes(t, fx.User)
	db.Exec(t, "INSERT INTO notes VALUES (1)")
	a.until(t, 1)

	first.signal(syscall.SIGSTOP)
	free := func() bool {
		return pgtest.One[bool](t, db, "SELECT NOT active FROM pg_replication_slots WHERE slot_name = $1", first.slot)
	}
	eventually(t, "the server gives the paused service up", free)
	second.start(t)
	t.Cleanup(second.kill)
	b := second.notes(t, fx.User)
	db.Exec(t, "INSERT INTO notes VALUES (2)")
	db.Exec(t, "INSERT INTO notes VALUES (3)")
	b.until(t, 3)
	first.signal(syscall.SIGCONT)
	for a.ended == "" { // it is told that the slot was moved by somebody else
		a.read(t)
	}
	if want := []int{1}; !slices.Equal(a.ids, want) {
		t.Errorf("the first gave %v, want %v and nothing that the other had", a.ids, want)
	}
	db.Exec(t, "INSERT INTO notes VALUES (4)")
	b.until(t, 4)
	if want := []int{2, 3, 4}; !slices.Equal(b.ids, want) || b.ended != "" {
		t.Errorf("the second gave %v %s, want %v", b.ids, b.ended, want)
	}
	second.kill()
	db.Exec(t, "INSERT INTO notes VALUES (5)")
	for _, c := range []*noteTaker{a, b} { // the first has its slot again, and knows the places of both
		last := c.ids[len(c.ids)-1]
		again := first.notes(t, fx.User, c.cursor)
		again.until(t, 5)
		if want := []int{1, 2, 3, 4, 5}[last:]; !strings.Contains(again.ended, "RESYNC_REQUIRED") && !slices.Equal(again.ids, want) {
			t.Errorf("behind %d come %v, then %q: want %v, or to be told", last, again.ids, again.ended, want)
		}
	}
}

// beside is another service for the same slot, at another address.
func (v *victim) beside(t *testing.T) *victim {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := l.Addr().String()
	args := slices.Clone(v.args)
	args[slices.Index(args, v.addr)] = at
	return &victim{bin: v.bin, addr: at, dial: at, slot: v.slot, admin: v.admin, args: args, published: v.published}
}

// eventually waits for a condition that nothing tells of.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for limit := time.Now().Add(2 * time.Minute); !ok(); pause(t.Context(), 20*time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("did not come about: %s", what)
		}
	}
}

// A noteTaker notes the inserts that it is told of.
type noteTaker struct {
	c      *client.Client
	ids    []int
	cursor string
	ended  string
}

// notes subscribes once the service takes clients, behind a cursor if there is one, and waits for LIVE or the first change.
func (v *victim) notes(t *testing.T, role string, after ...string) *noteTaker {
	t.Helper()
	text, err := rowtide.Token(rowtide.Config{JWTSecret: testSecret}, role, json.RawMessage("{}"), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	n := &noteTaker{}
	eventually(t, "a client is let in", func() bool {
		n.c, err = client.Dial(t.Context(), "ws://"+v.addr+"/graphql", text)
		return err == nil
	})
	t.Cleanup(func() { _ = n.c.CloseNow() })
	arguments := ""
	if len(after) > 0 {
		arguments = fmt.Sprintf("(after: %q)", after[0])
	}
	if err := n.c.Subscribe(t.Context(), "1", "subscription { notes"+arguments+" { kind row { id } cursor } }", nil); err != nil {
		t.Fatal(err)
	}
	n.read(t)
	return n
}

// until reads up to a note, or the end.
func (n *noteTaker) until(t *testing.T, id int) {
	t.Helper()
	for n.ended == "" && !slices.Contains(n.ids, id) {
		n.read(t)
	}
}

func (n *noteTaker) read(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := n.c.Next(ctx)
	switch {
	case err != nil && ctx.Err() != nil:
		t.Fatalf("behind %v: %v", n.ids, err)
	case err != nil:
		n.ended = err.Error()
	case m.Type != "next":
		n.ended = m.Type + " " + string(m.Payload)
	default:
		var p struct {
			Data struct {
				Notes struct {
					Kind, Cursor string
					Row          struct{ ID int }
				}
			}
		}
		if err := json.Unmarshal(m.Payload, &p); err != nil {
			t.Fatal(err)
		}
		n.cursor = p.Data.Notes.Cursor
		if p.Data.Notes.Kind != "LIVE" {
			n.ids = append(n.ids, p.Data.Notes.Row.ID)
		}
	}
}
