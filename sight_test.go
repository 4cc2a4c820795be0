package rowtide_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

const whoIAm = `nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub'`

// sights are the three ways in which a policy is judged that shows everybody their own notes.
var sights = map[string]string{
	"compiled": `owner = ` + whoIAm,
	"set":      `owner IN (SELECT m.owner FROM members m WHERE m.who = ` + whoIAm + `)`,
	"postgres": `owner IN (SELECT m.owner FROM members m WHERE m.who = ` + whoIAm + `) AND now() > 'epoch'`,
}

// A sight is a service over notes whose policy is judged in one of the ways. Fences are seen by everybody.
type sight struct {
	*service
	db   *pgtest.DB
	role string
	way  string
	last int // of the notes and fences that were written
}

// see starts a service, and waits until it judges in the way that it should.
func see(t *testing.T, way string) *sight {
	t.Helper()
	db := pgtest.New(t)
	x := &sight{db: db, role: db.Role(t, "web_user"), way: way}
	db.Exec(t, notes(x.role)+`CREATE TABLE members (owner text, who text, PRIMARY KEY (owner, who)); INSERT INTO members VALUES ('ana', 'ana');
		CREATE TABLE fences (id int PRIMARY KEY); COMMENT ON TABLE fences IS '@subscribe(rowSecurity: NOT_REQUIRED)';
		GRANT SELECT ON members, fences TO `+x.role+`; `+x.allowed())
	x.service = start(t, settings(t, db, x.role))
	admin := administer(t, x.service)
	report, _, err := rowtide.Explain(t.Context(), rowtide.ExplainConfig{
		ReadConfig: rowtide.ReadConfig{URL: x.cfg.DatabaseURL}, AdminURL: db.Admin, Role: x.role, Claims: json.RawMessage(`{"sub":"ana"}`),
		Query: `subscription { notes { kind } }`,
	})
	if err != nil || report.Policies[0].Way != way {
		t.Fatal(report, err)
	}
	c := subscribeNotes(t, x.service, x.role, "")
	until(t, c, isKind("LIVE"))
	evaluations := regexp.MustCompile(`rowtide_evaluations_total\{way="` + way + `"\} ([0-9.e+]+)`)
	counted := func() string {
		_, text := call(t, http.MethodGet, admin+"/metrics", "")
		return fmt.Sprint(evaluations.FindStringSubmatch(text))
	}
	eventually(t, "policies are judged "+way, func() bool {
		before := counted()
		x.last++
		db.Exec(t, "INSERT INTO notes VALUES ($1, 'ana', '')", x.last)
		until(t, c, isKind("INSERT"))
		return counted() != before
	})
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return x
}

// allowed is SQL that makes rights be what they are at first, whatever was taken.
func (x *sight) allowed() string {
	return `GRANT SELECT ON notes TO ` + x.role + `; DROP POLICY IF EXISTS own ON notes; DROP POLICY IF EXISTS never ON notes;
		CREATE POLICY own ON notes FOR SELECT TO ` + x.role + ` USING (` + sights[x.way] + `);
		INSERT INTO members VALUES ('ana', 'ana') ON CONFLICT DO NOTHING;`
}

// A sighting is one socket of ana's, which follows her notes and the fences.
type sighting struct {
	*sight
	conn *client.Client
	kept int // a note that she sees
}

// follow subscribes ana when rights are as at first, and waits until she sees a note.
func (x *sight) follow(t *testing.T, claims map[string]string) *sighting {
	t.Helper()
	x.db.Exec(t, x.allowed())
	s := &sighting{sight: x, conn: x.dial(t, x.role, claims)}
	if err := s.conn.Subscribe(t.Context(), "fences", "subscription { fences { kind row { id } cursor reason } }", nil); err != nil {
		t.Fatal(err)
	}
	s.until(t, func(_ string, f *feedtest.Frame) bool { return f.Kind == feedtest.Live })
	s.fence(t) // behind it, rights are what they were
	if err := s.conn.Subscribe(t.Context(), "notes", "subscription { notes(snapshot: true) { kind rowId key { id } row { id text } old { id text } cursor reason } }", nil); err != nil {
		t.Fatal(err)
	}
	s.until(t, func(_ string, f *feedtest.Frame) bool { return f.Kind == feedtest.Live })
	s.kept = s.note(t)
	return s
}

// until reads frames until one is wanted, and gives those of notes.
func (s *sighting) until(t *testing.T, wanted func(id string, f *feedtest.Frame) bool) (of []*feedtest.Frame) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		m, err := s.conn.Next(ctx)
		if err != nil {
			t.Fatalf("wait for a frame: %v", err)
		}
		f := &feedtest.Frame{Kind: "END", Reason: string(m.Payload)}
		if m.Type == "next" {
			if f, err = feedtest.ParseFrame(m.Payload, m.ID); err != nil {
				t.Fatal(err)
			}
		}
		if m.ID == "notes" {
			of = append(of, f)
		}
		if wanted(m.ID, f) {
			return of
		}
	}
}

// note writes a note, waits until ana sees it, and gives its id.
func (s *sighting) note(t *testing.T) int {
	t.Helper()
	s.last++
	s.db.Exec(t, "INSERT INTO notes VALUES ($1, 'ana', 'seen')", s.last)
	s.until(t, func(id string, f *feedtest.Frame) bool { return id == "notes" && f.Kind == feedtest.Insert })
	return s.last
}

// fence writes a fence, and gives the frames of notes that came before it.
func (s *sighting) fence(t *testing.T) []*feedtest.Frame {
	t.Helper()
	s.last++
	s.db.Exec(t, "INSERT INTO fences VALUES ($1)", s.last)
	return s.until(t, func(id string, f *feedtest.Frame) bool {
		return id == "fences" && string(f.Row["id"]) == strconv.Itoa(s.last)
	})
}

// around are the orders in which one transaction writes and takes a right: {write} and {take}.
var around = []string{"{write} {take} {write}", "{take} {write}", "{write} {take}"}

// transaction fills in an order: each write makes a note and changes one that ana sees.
func (s *sighting) transaction(order, take string) string {
	parts := strings.Split(order, "{write}")
	sql := parts[0]
	for _, part := range parts[1:] {
		s.last++
		sql += fmt.Sprintf("INSERT INTO notes VALUES (%d, 'ana', 'secret'); UPDATE notes SET text = 'secret %d' WHERE id = %d;", s.last, s.last, s.kept) + part
	}
	return "BEGIN; " + strings.ReplaceAll(sql, "{take}", strings.ReplaceAll(take, "{role}", s.role)+";") + " COMMIT"
}
