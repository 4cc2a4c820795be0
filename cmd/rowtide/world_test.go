package main

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A world is what commands find around them. Its words stand for what differs from run to run.
type world struct {
	db *pgtest.DB // nil for none
	// words are what $name stands for in command lines; shown is what is printed in the golden
	// file for what differs from run to run.
	words, shown map[string]string
}

func newWorld() *world {
	return &world{
		words: map[string]string{}, shown: map[string]string{
			"?sslmode=disable": "", testSecret: "…",
		},
	}
}

// word makes $name stand for value, which the golden file shows as something that stays the same.
func (w *world) word(name, value, shown string) {
	w.words[name] = value
	w.show(value, shown)
}

func (w *world) show(value, shown string) {
	if value != shown {
		w.shown[value] = shown
	}
}

func (w *world) expand(t *testing.T, s string) string {
	t.Helper()
	return os.Expand(s, func(name string) string {
		v, ok := w.words[name]
		if !ok {
			t.Fatalf("the world has no word $%s", name)
		}
		return v
	})
}

// still replaces what differs from run to run, longer texts first.
func (w *world) still(s string) string {
	s = regexp.MustCompile(`\btime=\S+ `).ReplaceAllString(s, "")
	s = regexp.MustCompile(`(process|pid=)( ?)\d+`).ReplaceAllString(s, "${1}${2}4242")
	s = regexp.MustCompile(`\b[0-9A-F]{1,8}/[0-9A-F]{1,8}\b`).ReplaceAllString(s, "0/16B3748")
	byLength := func(a, b string) int { return len(b) - len(a) }
	for _, v := range slices.SortedFunc(maps.Keys(w.shown), byLength) {
		s = strings.ReplaceAll(s, v, w.shown[v])
	}
	return s
}

// command is the program with an environment that holds nothing of the tester's.
func (w *world) command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(ctx, build(t), args...)
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "ROWTIDE_") && !strings.HasPrefix(e, "PG") {
			cmd.Env = append(cmd.Env, e)
		}
	}
	cmd.Env = append(cmd.Env, "ROWTIDE_JWT_SECRET="+testSecret, "ROWTIDE_LISTEN=127.0.0.1:0", "ROWTIDE_ADMIN_LISTEN=off")
	if w.db != nil {
		cmd.Env = append(cmd.Env, "ROWTIDE_SLOT="+w.slot(), "ROWTIDE_LOGIN="+w.login())
	}
	return cmd
}

func (w *world) slot() string  { return "slot_" + w.db.Name }
func (w *world) login() string { return "login_" + w.db.Name }

// state is all that a command could leave in the server.
func (w *world) state(t *testing.T) string {
	t.Helper()
	if w.db == nil || w.db.Admin == "" {
		return ""
	}
	return pgtest.One[string](t, w.db, `SELECT coalesce(string_agg(what, E'\n' ORDER BY what), '') FROM (
		SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
		UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
		UNION ALL SELECT 'relation ' || oid::regclass || ' ' || relreplident::text FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_|information_schema' AND relkind IN ('r', 'p', 'v')
		UNION ALL SELECT 'publication ' || pubname FROM pg_publication
		UNION ALL SELECT 'event trigger ' || evtname FROM pg_event_trigger
		UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname = $1
		UNION ALL SELECT 'member ' || member::regrole || ' of ' || roleid::regrole FROM pg_auth_members WHERE member::regrole::text = $1) AS all_of_it (what)`,
		w.login())
}

// withDatabase makes a world with a database that is not set up.
func withDatabase(t *testing.T, sql ...string) *world {
	t.Helper()
	return withDatabaseOn(t, pgtest.New(t), sql...)
}

func withDatabaseOn(t *testing.T, db *pgtest.DB, sql ...string) *world {
	t.Helper()
	w := newWorld()
	w.db = db
	w.word("admin", db.Admin, "postgres://postgres@127.0.0.1:5432/app")
	w.show(db.Name, "app")
	w.show(address(db.Admin), "127.0.0.1:5432")
	w.word("slot", w.slot(), "rowtide")
	w.word("login", w.login(), "rowtide")
	role := db.Role(t, "web_user")
	w.word("role", role, "web_user")
	for _, s := range append([]string{tasks}, sql...) {
		db.Exec(t, strings.ReplaceAll(s, "web_user", role))
	}
	return w
}

// tasks is a small application.
const tasks = `
CREATE TABLE tasks (id int PRIMARY KEY, owner text NOT NULL, title text);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasks FOR SELECT TO web_user USING (owner = current_setting('request.jwt.claims', true)::json ->> 'sub');
GRANT SELECT ON tasks TO web_user;
COMMENT ON TABLE tasks IS '@subscribe';`

// ready makes a world with a database that is set up.
func ready(t *testing.T) *world {
	t.Helper()
	w := withDatabase(t)
	w.setUp(t)
	return w
}

func (w *world) setUp(t *testing.T) {
	t.Helper()
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: w.db.Admin, Roles: []string{w.words["role"]}, Login: w.login(), Slot: w.slot(), Yes: true,
	})
	if err != nil {
		t.Fatalf("set up: %v\n%s", err, report)
	}
	t.Cleanup(func() { dropLogin(t, w.db) })
	w.word("service", report.DatabaseURL, "postgres://rowtide:…@127.0.0.1:5432/app")
	w.show(report.Password, "…")
}

// address is host and port of a URL.
func address(url string) string {
	return regexp.MustCompile(`@([^/]+)/`).FindStringSubmatch(url)[1]
}

// otherLogin is the URL of a login as setup would make it, changed by SQL.
func (w *world) otherLogin(t *testing.T, name, attributes string) {
	t.Helper()
	login := w.db.Login(t, name, w.words["role"])
	w.db.Exec(t, "ALTER ROLE "+login+" "+attributes)
	w.show(login, name)
	w.words["other"] = w.db.URL(login)
	w.words["name"] = login
}
