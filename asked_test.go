package rowtide_test

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/internal/doctor"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// friends has notes be seen by the friends of their owners. Ana is her own friend, and ben's.
func friends(role string) string {
	return strings.ReplaceAll(`
		CREATE TABLE friends (who text, of text); GRANT SELECT ON friends TO {role};
		INSERT INTO friends VALUES ('ana', 'ana'), ('ana', 'ben');
		CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, text text); ALTER TABLE notes ENABLE ROW LEVEL SECURITY; GRANT SELECT ON notes TO {role};
		`+befriended+`; COMMENT ON TABLE notes IS '@subscribe'`, "{role}", role)
}

const befriended = `CREATE POLICY shared ON notes FOR SELECT TO {role} USING (
	owner IN (SELECT f.of FROM friends f WHERE f.who = nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub'))`

// TestNothingIsShownByATableThatIsNotFollowedAnyMore takes what the service needs from a table that
// policies ask, while it runs, and ends a friendship in a way that the stream may not tell.
//
// Covers C80, S56.
func TestNothingIsShownByATableThatIsNotFollowedAnyMore(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"in part":       `ALTER PUBLICATION rowtide SET TABLE notes, friends WHERE (of <> 'ben'); DELETE FROM friends WHERE of = 'ben'`,
		"some columns":  `ALTER PUBLICATION rowtide SET TABLE notes; ALTER TABLE friends REPLICA IDENTITY NOTHING; ALTER PUBLICATION rowtide_insert ADD TABLE friends (who); DELETE FROM friends WHERE of = 'ben'`,
		"inserts":       `ALTER PUBLICATION rowtide DROP TABLE friends; ALTER PUBLICATION rowtide_insert ADD TABLE friends; DELETE FROM friends WHERE of = 'ben'`,
		"by an index":   `ALTER TABLE friends ALTER who SET NOT NULL, ALTER of SET NOT NULL; CREATE UNIQUE INDEX pair ON friends (who, of); ALTER TABLE friends REPLICA IDENTITY USING INDEX pair; DELETE FROM friends WHERE of = 'ben'`,
		"rewritten":     `BEGIN; DROP POLICY shared ON notes; ALTER TABLE friends ALTER of TYPE text USING replace(of, 'ben', 'bob'); ` + befriended + `; COMMIT`,
		"emptied":       `TRUNCATE friends; INSERT INTO friends VALUES ('ana', 'ana')`,
		"renamed":       `ALTER TABLE friends RENAME of TO friend; DELETE FROM friends WHERE friend = 'ben'`,
		"with children": `CREATE TABLE more () INHERITS (friends); DELETE FROM friends WHERE of = 'ben'`,
		"replaced":      `ALTER TABLE friends RENAME TO friends_before; CREATE VIEW friends AS SELECT * FROM friends_before; DELETE FROM friends WHERE of = 'ben'`,
		"disguised":     `ALTER TABLE friends ENABLE ROW LEVEL SECURITY; CREATE POLICY one ON friends USING (of = 'ana')`,
		"in one commit": `BEGIN; ALTER PUBLICATION rowtide DROP TABLE friends; DELETE FROM friends WHERE of = 'ben'; COMMIT`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			role := db.Role(t, "web_user")
			db.Exec(t, friends(role))
			s := start(t, settings(t, db, role))
			c := subscribeNotes(t, s, role, "(snapshot: true)")
			until(t, c, isKind("LIVE"))
			db.Exec(t, "INSERT INTO notes VALUES (1, 'ben', 'while they are friends')")
			until(t, c, isKind("INSERT"))
			db.Exec(t, strings.ReplaceAll(sql, "{role}", role))
			db.Exec(t, "INSERT INTO notes VALUES (2, 'ben', 'behind it'); INSERT INTO notes VALUES (3, 'ana', 'her own')")
			until(t, c, func(f *feedtest.Frame) bool {
				if string(f.Row["id"]) == "2" {
					t.Errorf("she is shown %s", f)
				}
				return string(f.Row["id"]) == "3"
			})
		})
	}
}

// A heard logger keeps what is told.
type heard struct {
	to io.Writer

	mu   sync.Mutex
	text bytes.Buffer
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text.Write(p)
	return h.to.Write(p)
}

// count is how many lines have all of some parts.
func (h *heard) count(parts ...string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for line := range strings.Lines(h.text.String()) {
		if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}

// TestADatabaseOfAnEarlierVersionIsServedAsBefore serves a database in which nothing but the served
// tables is published. The service says what to do in a line, the doctor too, and once that is done
// changes of friendships take effect without a restart. Sync for another login withdraws nothing, and
// down gives back what was changed.
func TestADatabaseOfAnEarlierVersionIsServedAsBefore(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, friends(role))
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: db.Admin, Roles: []string{role}, Login: "login_" + db.Name, Slot: "slot_" + db.Name, NoSets: true,
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, report)
	}
	dropLogin(t, db)
	log := &heard{to: t.Output()}
	cfg := rowtide.Config{
		DatabaseURL: report.DatabaseURL, Roles: []string{role}, JWTSecret: testSecret, ExposePositions: true,
		Slot: "slot_" + db.Name, Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
	s := start(t, cfg)
	c := subscribeNotes(t, s, role, "(snapshot: true)")
	until(t, c, isKind("LIVE"))
	db.Exec(t, "INSERT INTO notes VALUES (1, 'ben', 'by asking')")
	if f := next(t, c); f.Kind != feedtest.Insert {
		t.Errorf("want the insert, got %s", f)
	}
	db.Exec(t, "DELETE FROM friends WHERE of = 'ben'")
	db.Exec(t, "INSERT INTO notes VALUES (2, 'ben', 'hidden')")
	db.Exec(t, "INSERT INTO notes VALUES (3, 'ana', 'her own')")
	if f := next(t, c); string(f.Row["id"]) != "3" {
		t.Errorf("want her own alone, as of when PostgreSQL is asked, got %s", f)
	}
	if n := log.count("WARN", "Postgres is asked", "public.friends", "run rowtide sync"); n != 1 {
		t.Errorf("it was told %d times", n)
	}

	mend(t, db, cfg)
	until(t, c, func(f *feedtest.Frame) bool { return f.Kind == feedtest.Reset && f.Reason == "membership" })
	until(t, c, isKind("LIVE"))
	db.Exec(t, "INSERT INTO friends VALUES ('ana', 'ben')")
	if f := next(t, c); f.Kind != feedtest.Enter {
		t.Errorf("want her friend's notes to enter, got %s", f)
	}

	for _, login := range []string{cfg.DatabaseURL, ""} {
		if login != "" {
			login = "login_" + db.Name
		}
		if r, err := rowtide.Sync(t.Context(), rowtide.SetupConfig{AdminURL: db.Admin, Login: login}); err != nil || r.Changed() {
			t.Errorf("sync of %q changes something: %v\n%s", login, err, r)
		}
	}
}

// mend does what the doctor says of the tables that policies ask.
func mend(t *testing.T, db *pgtest.DB, cfg rowtide.Config) {
	t.Helper()
	examine := func() []doctor.Finding {
		findings, err := doctor.Examine(t.Context(), doctor.Config{DatabaseURL: cfg.DatabaseURL, AdminURL: db.Admin, Roles: cfg.Roles, Slot: cfg.Slot, Running: true})
		if err != nil {
			t.Fatal(err)
		}
		return slices.DeleteFunc(findings, func(f doctor.Finding) bool { return f.Check != "asked" })
	}
	findings := examine()
	if len(findings) != 1 || findings[0].Severity != doctor.Warning {
		t.Fatalf("the doctor says %v", findings)
	}
	for _, sql := range findings[0].Fix {
		db.Exec(t, sql)
	}
	if still := examine(); len(still) != 0 {
		t.Errorf("behind %q the doctor says %v", findings[0].Fix, still)
	}
}

// TestWhatPoliciesAskIsPublishedAndGivenBack sets up, says beforehand what it would do, and takes it
// all back.
func TestWhatPoliciesAskIsPublishedAndGivenBack(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	db.Exec(t, friends(role))
	var dry bytes.Buffer
	cfg := rowtide.SetupConfig{AdminURL: db.Admin, Roles: []string{role}, Login: "login_" + db.Name, Slot: "slot_" + db.Name, DryRun: &dry}
	if r, err := rowtide.Setup(t.Context(), cfg); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	for _, want := range []string{
		`-- table "public"."friends", which policies ask, in publication rowtide, with REPLICA IDENTITY FULL (the WAL of its updates about `,
		`ALTER TABLE public.friends REPLICA IDENTITY FULL`, `ALTER PUBLICATION "rowtide" ADD TABLE ONLY "public"."friends"`,
	} {
		if !strings.Contains(dry.String(), want) {
			t.Errorf("a dry run does not say %s:\n%s", want, dry.String())
		}
	}
	identity := func() string {
		return pgtest.One[string](t, db, "SELECT relreplident::text FROM pg_class WHERE oid = 'friends'::regclass")
	}
	cfg.DryRun = nil
	if r, err := rowtide.Setup(t.Context(), cfg); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	if identity() != "f" {
		t.Errorf("its identity is %s", identity())
	}
	if _, err := migrations.Down(context.WithoutCancel(t.Context()), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Fatal(err)
	}
	if identity() != "d" {
		t.Errorf("behind down its identity is %s", identity())
	}
}
