package rowtide_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestNothingIsDeliveredOfTheTransactionThatTakesARight takes rights away in a transaction that also
// writes rows which they would show, before it and behind it: none of these is delivered, nor is
// what comes later. Policies are judged in each of the three ways.
//
// Covers S56, S57, S29.
func TestNothingIsDeliveredOfTheTransactionThatTakesARight(t *testing.T) {
	t.Parallel()
	takes := map[string]string{
		"alter policy":       "ALTER POLICY own ON notes USING (false)",
		"policy of others":   "ALTER POLICY own ON notes TO pg_monitor",
		"drop policy":        "DROP POLICY own ON notes",
		"restrictive policy": "CREATE POLICY never ON notes AS RESTRICTIVE USING (text = 'none')",
		"revoke":             "REVOKE SELECT ON notes FROM {role}",
		"revoke a column":    "REVOKE SELECT ON notes FROM {role}; GRANT SELECT (id, owner) ON notes TO {role}",
	}
	for way := range sights {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			x := see(t, way)
			for name, take := range takes {
				for _, order := range around {
					s := x.follow(t, map[string]string{"sub": "ana"})
					x.db.Exec(t, s.transaction(order, take))
					s.last++
					x.db.Exec(t, "INSERT INTO notes VALUES ($1, 'ana', 'secret')", s.last)
					got := s.fence(t)
					if !slices.ContainsFunc(got, over) {
						got = append(got, s.until(t, func(id string, f *feedtest.Frame) bool { return id == "notes" && over(f) })...)
					}
					for _, f := range got {
						if f.Row != nil || f.Old != nil || strings.Contains(f.Reason, "secret") {
							t.Errorf("%s, %s: got %s %s %s", name, order, f, f.Row, f.Old)
						}
					}
					if err := s.conn.Close(); err != nil {
						t.Fatal(err)
					}
				}
			}
		})
	}
}

// over tells that a subscription has ended as the catalog changed, or has begun anew.
func over(f *feedtest.Frame) bool {
	return f.Kind == "END" && strings.Contains(f.Reason, "SCHEMA_CHANGED") || f.Kind == feedtest.Live
}

// TestNothingIsDeliveredBehindAMembershipThatEndsInTheTransaction ends and makes memberships in transactions
// that also write rows of theirs. By what is kept, those that were not written leave and enter too;
// Postgres is asked about what was written alone.
//
// Covers R28, R29, S56.
func TestNothingIsDeliveredBehindAMembershipThatEndsInTheTransaction(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"set", "postgres"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			x := see(t, way)
			for _, order := range around {
				x.db.Exec(t, "DELETE FROM notes")
				s := x.follow(t, map[string]string{"sub": "ana"})
				other := s.note(t)
				x.db.Exec(t, s.transaction(order, "DELETE FROM members"))
				var want []string
				if way == "set" {
					want = []string{fmt.Sprint("LEAVE ", s.kept), fmt.Sprint("LEAVE ", other)}
				}
				s.gets(t, order, want)
				before := s.last
				x.db.Exec(t, s.transaction(order, "INSERT INTO members VALUES ('ana', 'ana')"))
				want = nil
				for id := s.kept; id <= s.last; id++ {
					switch {
					case pgtest.One[int](t, x.db, "SELECT count(*) FROM notes WHERE id = $1", id) == 0: // a fence
					case id > before:
						want = append(want, fmt.Sprint("INSERT ", id))
					case way == "set":
						want = append(want, fmt.Sprint("ENTER ", id))
					case id == s.kept: // Postgres knows of no membership but the present
						want = append(want, fmt.Sprint("UPDATE ", id))
					}
				}
				s.gets(t, order, want)
				if err := s.conn.Close(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// gets waits for frames of notes, each a kind and the note's id, and for a fence behind them.
func (s *sighting) gets(t *testing.T, order string, want []string) {
	t.Helper()
	got := s.fence(t)
	if more := len(want) - len(got); more > 0 { // what other rows come or go is worked out aside
		got = append(got, s.until(t, func(id string, _ *feedtest.Frame) bool {
			if id == "notes" {
				more--
			}
			return more == 0
		})...)
	}
	var all []string
	for _, f := range append(got, s.fence(t)...) {
		all = append(all, f.Kind+" "+string(f.Key["id"]))
		if (f.Row == nil) != (f.Kind == feedtest.Leave) {
			t.Errorf("%s: got %s %s", order, f, f.Row)
		}
	}
	slices.Sort(all)
	slices.Sort(want)
	if !slices.Equal(all, want) {
		t.Errorf("%s: got %v, want %v", order, all, want)
	}
}

// TestNothingIsDeliveredOfATransactionThatOutlivesTheToken has a token expire, or be revoked, while a
// transaction is open that wrote a row and writes another: neither is delivered.
//
// Covers S27, S29.
func TestNothingIsDeliveredOfATransactionThatOutlivesTheToken(t *testing.T) {
	t.Parallel()
	revoke := func(body string) func(*testing.T, *sighting, string) {
		return func(t *testing.T, _ *sighting, admin string) {
			t.Helper()
			if status, text := call(t, http.MethodPost, admin+"/revocations", body); status != http.StatusOK {
				t.Fatalf("%d %s", status, text)
			}
		}
	}
	cases := []struct {
		name, jti string
		code      int
		take      func(t *testing.T, s *sighting, admin string)
	}{
		{"expiry", "one", 4403, func(t *testing.T, s *sighting, _ string) { t.Helper(); s.expire(t) }},
		{"the token is revoked", "two", 4401, revoke(`{"jti":"two"}`)},
		{"the subject is revoked", "three", 4401, revoke(`{"subject":"ana"}`)},
	}
	for way := range sights {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			x := see(t, way)
			admin := administer(t, x.service)
			for _, c := range cases {
				s := x.follow(t, map[string]string{"sub": "ana", "jti": c.jti})
				tx, err := x.db.Pool(t).Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				write := func() {
					t.Helper()
					s.last++
					if _, err := tx.Exec(t.Context(), "INSERT INTO notes VALUES ($1, 'ana', 'secret')", s.last); err != nil {
						t.Fatal(err)
					}
				}
				write()
				c.take(t, s, admin)
				write()
				if err := tx.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
				s.shut(t, c.name, c.code)
			}
		})
	}
}

// expire gives the socket a token that expires soon, and waits for that.
func (s *sighting) expire(t *testing.T) {
	t.Helper()
	const leeway, soon = 30 * time.Second, 8 * time.Second // the service's for clocks, and enough to send it
	fresh, err := rowtide.Token(rowtide.Config{JWTSecret: testSecret}, s.role, json.RawMessage(`{"sub":"ana","jti":"one"}`), soon-leeway)
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().Add(soon)
	if err := s.conn.Ping(t.Context(), map[string]string{"authorization": "Bearer " + fresh}); err != nil {
		t.Fatal(err)
	}
	s.until(t, func(id string, _ *feedtest.Frame) bool { return id == "" }) // the answer
	eventually(t, "the token has expired", func() bool { return time.Now().After(end) })
}

// shut reads until the service closes the socket, with a code and without a note.
func (s *sighting) shut(t *testing.T, name string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		m, err := s.conn.Next(ctx)
		if err == nil {
			t.Errorf("%s: got %s %s", name, m.ID, m.Payload)
			continue
		}
		var c *client.Closed
		if !errors.As(err, &c) || c.Code != code {
			t.Errorf("%s: the socket ended with %v, want %d", name, err, code)
		}
		return
	}
}
