package rowtide_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// The database's comments belong to another tool, and say what Rowtide must not obey.
func TestAFileOfAnnotationsIsServedInsteadOfTheComments(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
CREATE TABLE "Notes" (id int PRIMARY KEY, body text, secret text);
CREATE TABLE others (id int PRIMARY KEY);
ALTER TABLE "Notes" ENABLE ROW LEVEL SECURITY;
ALTER TABLE others ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_it ON "Notes" USING (true);
COMMENT ON TABLE others IS '@subscribe';
COMMENT ON COLUMN "Notes".body IS '@omti'`)
	role := db.Role(t, "web_user")
	db.Exec(t, `GRANT SELECT ON ALL TABLES IN SCHEMA public TO `+role)
	file := filepath.Join(t.TempDir(), "annotations.sql")
	if err := os.WriteFile(file, []byte(`
COMMENT ON TABLE "Notes" IS '@subscribe(field: "notes", type: "Note")';
COMMENT ON COLUMN "Notes".body IS '@name(as: "text")';
COMMENT ON COLUMN "Notes".secret IS '@omit';
COMMENT ON TABLE others IS NULL;`), 0o600); err != nil {
		t.Fatal(err)
	}
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: db.Admin, Roles: []string{role}, Login: "login_" + db.Name, Slot: "slot_" + db.Name, Annotations: file,
	})
	if err != nil {
		t.Fatal(err)
	}
	dropLogin(t, db)
	members := pgtest.One[string](t, db, `SELECT string_agg(prrelid::regclass::text, ' ') FROM pg_publication_rel`)
	if members != `"Notes"` || len(report.Problems) > 0 {
		t.Errorf("published: %s; problems: %v", members, report.Problems)
	}

	s := start(t, rowtide.Config{
		DatabaseURL: report.DatabaseURL, Roles: []string{role}, JWTSecret: testSecret, ExposePositions: true,
		Slot: "slot_" + db.Name, Annotations: file, Logger: testLogger(t),
	})
	c := s.dial(t, role, map[string]any{})
	if err := c.Subscribe(t.Context(), "1", `subscription { notes { kind row { id text } } }`, nil); err != nil {
		t.Fatal(err)
	}
	if m, err := c.Next(t.Context()); err != nil || !strings.Contains(string(m.Payload), `"LIVE"`) {
		t.Fatalf("%v: %s", err, m.Payload)
	}
	db.Exec(t, `INSERT INTO "Notes" VALUES (1, 'hello', 'hidden')`)
	m, err := c.Next(t.Context())
	if err != nil || !strings.Contains(string(m.Payload), `"text":"hello"`) {
		t.Errorf("%v: %s", err, m.Payload)
	}
	sdl, problems, err := rowtide.SDL(t.Context(), rowtide.ReadConfig{URL: db.Admin, Annotations: file}, role)
	if err != nil || len(problems) > 0 || strings.Contains(sdl, "secret") || strings.Contains(sdl, "others") {
		t.Errorf("%v, %v:\n%s", err, problems, sdl)
	}
}

func TestAFileOfAnnotationsThatCannotBeReadIsToldBeforeAnythingIsDone(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad.sql")
	if err := os.WriteFile(bad, []byte("COMMENT ON TABLE notes IS '@subscribe';\nDROP TABLE notes;"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		bad:           "bad.sql, line 2, column 1: only COMMENT ON … IS … may stand here",
		bad + ".gone": "bad.sql.gone: no such file or directory: name a file of COMMENT ON statements",
	} {
		_, err := rowtide.New(rowtide.Config{
			DatabaseURL: "postgres://rowtide@127.0.0.1:1/app", Roles: []string{"web_user"}, JWTSecret: testSecret, Annotations: path,
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %s, got %v", want, err)
		}
	}
}
