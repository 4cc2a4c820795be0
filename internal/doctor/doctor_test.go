package doctor_test

import (
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/internal/doctor"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema/annotation"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const tables = `
CREATE TABLE tasks (id int PRIMARY KEY, owner text, title text);
ALTER TABLE tasks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON tasks USING (owner = current_user);
COMMENT ON TABLE tasks IS '@subscribe';
CREATE TABLE secrets (id int PRIMARY KEY, task int);
CREATE SCHEMA extra;
`

// A world is a database that is set up, with what it was set up by.
type world struct {
	*pgtest.DB
	cfg   doctor.Config
	setup migrations.SetupConfig
	role  string
}

func (w *world) tables() []migrations.Table {
	return []migrations.Table{{Schema: "public", Name: "tasks", Full: true}}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return setUp(t, pgtest.New(t, tables))
}

func setUp(t *testing.T, db *pgtest.DB) *world {
	t.Helper()
	w := &world{DB: db, role: db.Role(t, "web_user")}
	db.Exec(t, "GRANT SELECT ON tasks TO "+w.role)
	w.setup = migrations.SetupConfig{
		AdminURL: db.Admin, Login: db.Login(t, "svc"), Roles: []string{w.role}, Slot: db.Name + "_slot", Tables: w.tables(),
	}
	if _, err := migrations.Setup(t.Context(), w.setup); err != nil {
		t.Fatal(err)
	}
	w.cfg = doctor.Config{
		DatabaseURL: db.URL(w.setup.Login), AdminURL: db.Admin, Roles: []string{w.role}, Slot: w.setup.Slot,
	}
	return w
}

func (w *world) words(s string) string {
	return strings.NewReplacer("$role", w.role, "$login", w.setup.Login, "$slot", w.setup.Slot).Replace(s)
}

func examine(t *testing.T, cfg doctor.Config) []doctor.Finding {
	t.Helper()
	out, err := doctor.Examine(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// find gives the finding of a check whose line has a part, or nil.
func find(findings []doctor.Finding, check, part string) *doctor.Finding {
	for i, f := range findings {
		if f.Check == check && strings.Contains(f.String(), part) {
			return &findings[i]
		}
	}
	return nil
}

func lines(findings []doctor.Finding) string {
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}

// mend does what a finding says: its SQL, and the commands of rowtide. It tells whether there was
// any.
func (w *world) mend(t *testing.T, f *doctor.Finding) bool {
	t.Helper()
	did := false
	for _, fix := range f.Fix {
		word, _, _ := strings.Cut(fix, " ")
		var err error
		switch {
		case strings.HasPrefix(fix, "rowtide sync "):
			_, err = migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: w.Admin, Tables: w.tables()})
		case strings.HasPrefix(fix, "rowtide migrate up "):
			_, err = migrations.Up(t.Context(), migrations.UpConfig{AdminURL: w.Admin})
		case strings.HasPrefix(fix, "rowtide setup "):
			_, err = migrations.Setup(t.Context(), w.setup)
		case word == strings.ToUpper(word) && !strings.Contains(fix, "…") && word != "COMMIT":
			w.Exec(t, fix)
		default:
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", fix, err)
		}
		did = true
	}
	return did
}

// provoke expects a finding, does what it says (or else other SQL, where it has words alone) and
// expects it to be gone.
func (w *world) provoke(t *testing.T, cfg doctor.Config, want doctor.Finding, other string) {
	t.Helper()
	before := examine(t, cfg)
	part := w.words(want.Object)
	f := find(before, want.Check, part)
	if f == nil {
		t.Fatalf("%s is not found: %s in\n%s", want.Check, part, lines(before))
	}
	if f.Severity != want.Severity {
		t.Errorf("%s, want %s", f, want.Severity)
	}
	if strings.Contains(f.String(), "\n") {
		t.Errorf("more than a line: %s", f)
	}
	if other != "" {
		w.Exec(t, w.words(other))
	} else if !w.mend(t, f) {
		t.Fatalf("%s has nothing to run: %q", f, f.Fix)
	}
	if after := examine(t, cfg); find(after, want.Check, part) != nil {
		t.Errorf("after %q and %q there is still:\n%s", f.Fix, other, lines(after))
	}
}

func TestAHealthyDatabaseHasNoFinding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, f := range examine(t, w.cfg) {
		if f.Check != "max_slot_wal_keep_size" && f.Severity != doctor.Note {
			t.Error(f)
		}
	}
	w.cfg.AdminURL = ""
	for _, f := range examine(t, w.cfg) {
		if f.Check != "max_slot_wal_keep_size" && f.Severity != doctor.Note {
			t.Errorf("without --admin-url: %s", f)
		}
	}
}

// An administrator of a hosted database may be no superuser, and not the one who ran setup.
func TestAnAdministratorWithFewRightsIsEnough(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.AdminURL = w.URL(w.Login(t, "owner"))
	for _, f := range examine(t, w.cfg) {
		if f.Check != "max_slot_wal_keep_size" && f.Severity != doctor.Note {
			t.Error(f)
		}
	}
}

const (
	note    = doctor.Note
	warning = doctor.Warning
	fatal   = doctor.Fatal
)

// asks has a policy ask a table.
const asks = `GRANT SELECT ON secrets TO $role; ALTER POLICY own ON tasks USING (id IN (SELECT task FROM secrets))`

// Covers S32, S50, C49, C30.
func TestEachFindingIsGoneAfterItsSQL(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		breaks   string
		severity doctor.Severity
		check    string
		part     string
		other    string // where the fix has words alone
	}{
		"superuser login":     {`ALTER ROLE $login SUPERUSER`, fatal, "login", "it is a superuser", ""},
		"bypassrls login":     {`ALTER ROLE $login BYPASSRLS`, fatal, "login", "it has BYPASSRLS", ""},
		"createrole login":    {`ALTER ROLE $login CREATEROLE`, fatal, "login", "it has CREATEROLE", ""},
		"no replication":      {`ALTER ROLE $login NOREPLICATION`, fatal, "login", "it lacks REPLICATION", ""},
		"no member":           {`REVOKE $role FROM $login`, fatal, "login", "it may not act as $role", ""},
		"inheriting":          {`ALTER ROLE $login INHERIT; REVOKE $role FROM $login; GRANT $role TO $login`, fatal, "login", "it inherits the rights of $role", ""},
		"superuser role":      {`ALTER ROLE $role SUPERUSER`, fatal, "role", "role $role: it is a superuser", ""},
		"bypassrls role":      {`ALTER ROLE $role BYPASSRLS`, fatal, "role", "role $role: it has BYPASSRLS", ""},
		"replication role":    {`ALTER ROLE $role REPLICATION`, fatal, "role", "role $role: it has REPLICATION", ""},
		"reads all":           {`GRANT pg_read_all_data TO $role`, warning, "role", "member of pg_read_all_data", ""},
		"no usage":            {`REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO $login`, warning, "grant", "not use its schema", ""},
		"login's usage":       {`REVOKE USAGE ON SCHEMA public FROM PUBLIC; GRANT USAGE ON SCHEMA public TO $role`, fatal, "schema", "login $login may not use it", ""},
		"policy's schema":     {`CREATE FUNCTION extra.f() RETURNS bool LANGUAGE sql RETURN true; ALTER POLICY own ON tasks USING (extra.f()); GRANT USAGE ON SCHEMA extra TO $role`, fatal, "schema", "schema extra: login $login may not use it", ""},
		"writable by a role":  {`GRANT CREATE ON SCHEMA public TO $role`, warning, "schema", "$role may create objects", ""},
		"writable by all":     {`GRANT CREATE ON SCHEMA public TO PUBLIC`, warning, "schema", "$role may create objects", ""},
		"no grant":            {`REVOKE SELECT ON tasks FROM $role`, warning, "grant", "no role of the allow-list may read it", ""},
		"not installed":       {`DROP PUBLICATION rowtide, rowtide_insert; DROP SCHEMA rowtide CASCADE`, fatal, "installation", "not set up", ""},
		"old installation":    {`UPDATE rowtide.schema_migrations SET version = 1`, fatal, "installation", "it is at version 1", ""},
		"trigger gone":        {`DROP EVENT TRIGGER rowtide_drop`, warning, "event_trigger", "rowtide_drop: it is not there", ""},
		"trigger off":         {`ALTER EVENT TRIGGER rowtide_ddl DISABLE`, warning, "event_trigger", "rowtide_ddl: it does not always fire", ""},
		"mistyped":            {`COMMENT ON COLUMN tasks.title IS '@omti'`, warning, "annotation", "column public.tasks.title, line 1, column 1: @omti", `COMMENT ON COLUMN tasks.title IS '@omit'`},
		"no row security":     {`ALTER TABLE tasks DISABLE ROW LEVEL SECURITY`, warning, "annotation", "has no row-level security", `ALTER TABLE tasks ENABLE ROW LEVEL SECURITY`},
		"no key":              {`ALTER TABLE tasks DROP CONSTRAINT tasks_pkey`, warning, "annotation", "has no primary key", `ALTER TABLE tasks ADD PRIMARY KEY (id)`},
		"not annotated":       {`COMMENT ON TABLE tasks IS NULL`, warning, "annotation", "no table is annotated", `COMMENT ON TABLE tasks IS '@subscribe'`},
		"publication gone":    {`DROP PUBLICATION rowtide`, fatal, "publication", "publication rowtide: it does not exist", ""},
		"publication options": {`ALTER PUBLICATION rowtide SET (publish = 'insert')`, fatal, "publication", "publication rowtide: its options", ""},
		"insert options":      {`ALTER PUBLICATION rowtide_insert SET (publish_via_partition_root = false)`, fatal, "publication", "publication rowtide_insert: its options", ""},
		"for all tables":      {`DROP PUBLICATION rowtide_insert; CREATE PUBLICATION rowtide_insert FOR ALL TABLES WITH (publish = 'insert')`, fatal, "publication", "FOR ALL TABLES", ""},
		"a schema":            {`ALTER PUBLICATION rowtide ADD TABLES IN SCHEMA extra`, warning, "publication", "all tables of schema extra", ""},
		"not published":       {`ALTER PUBLICATION rowtide DROP TABLE tasks; ALTER TABLE tasks REPLICA IDENTITY DEFAULT`, fatal, "membership", "not in publication rowtide", ""},
		"published besides":   {`ALTER PUBLICATION rowtide ADD TABLE secrets`, warning, "membership", "public.secrets: it is in publication rowtide but not served", ""},
		"published twice":     {`ALTER PUBLICATION rowtide_insert ADD TABLE tasks`, warning, "membership", "wants the other", ""},
		"some rows":           {`ALTER PUBLICATION rowtide SET TABLE tasks WHERE (id > 3)`, fatal, "membership", "a WHERE", ""},
		"weak identity":       {`ALTER TABLE tasks REPLICA IDENTITY DEFAULT`, warning, "replica_identity", "no full replica identity", ""},
		"no identity":         {`ALTER TABLE secrets REPLICA IDENTITY NOTHING; ALTER PUBLICATION rowtide ADD TABLE secrets`, fatal, "replica_identity", "UPDATE and DELETE fail", ""},
		"recursion": {
			`ALTER POLICY own ON tasks USING (id IN (SELECT id FROM tasks))`, fatal, "policy", "infinite recursion",
			`CREATE FUNCTION ids() RETURNS SETOF int LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS 'SELECT id FROM tasks';
			 ALTER POLICY own ON tasks USING (id IN (SELECT ids()))`,
		},
		"no grant for a policy": {`ALTER POLICY own ON tasks USING (id IN (SELECT task FROM secrets))`, fatal, "policy", "permission denied for table secrets", ""},
		"failing policy":        {`ALTER POLICY own ON tasks USING (id = 1 / 0)`, fatal, "policy", "division by zero", `ALTER POLICY own ON tasks USING (id = 1)`},
		"session_user":          {`ALTER POLICY own ON tasks USING (owner = session_user AND title <> 'SESSION_USER')`, fatal, "policy", "session_user", ""},
		"system column":         {`ALTER POLICY own ON tasks USING (xmin IS NOT NULL)`, fatal, "policy", "it reads xmin", `ALTER POLICY own ON tasks USING (true)`},
		"clock": {
			`ALTER POLICY own ON tasks USING (owner IS NOT NULL AND CURRENT_DATE > '2000-01-01')`, note, "policy_clock", "reads the clock (CURRENT_DATE)",
			`ALTER POLICY own ON tasks USING (owner IS NOT NULL)`,
		},
		"look at itself": {
			`CREATE FUNCTION f(task int) RETURNS bool STABLE SECURITY DEFINER SET search_path = public, pg_temp LANGUAGE sql AS 'SELECT owner IS NOT NULL FROM tasks WHERE id = task';
			 ALTER POLICY own ON tasks USING (f(id))`, warning, "policy_lookup", "the function public.f looks the row up in the table itself", `ALTER POLICY own ON tasks USING (owner IS NOT NULL)`,
		},
		"view of itself": {
			`CREATE VIEW owned AS SELECT id FROM tasks WHERE owner IS NOT NULL; GRANT SELECT ON owned TO $role; ALTER POLICY own ON tasks USING (id IN (SELECT id FROM owned))`,
			warning, "policy_lookup", "the view public.owned looks the row up", `ALTER POLICY own ON tasks USING (owner IS NOT NULL)`,
		},
		"function":         {`CREATE FUNCTION f(n int) RETURNS bool STABLE LANGUAGE sql AS 'SELECT true'; ALTER POLICY own ON tasks USING (f(id))`, note, "function", "public.f", ""},
		"definer":          {`CREATE FUNCTION f() RETURNS bool STABLE SECURITY DEFINER LANGUAGE plpgsql AS 'BEGIN RETURN true; END'; ALTER POLICY own ON tasks USING (f())`, warning, "function", "SECURITY DEFINER", ""},
		"another's slot":   {`SELECT pg_create_logical_replication_slot('$slot', 'test_decoding')`, fatal, "slot", "plugin test_decoding", ""},
		"orphaned window":  {`SELECT pg_create_logical_replication_slot('$slot_w0abcdefg', 'pgoutput')`, warning, "orphan_slot", "nobody reads it", ""},
		"orphan":           {`SELECT pg_create_logical_replication_slot('$slot_2', 'pgoutput')`, warning, "orphan_slot", "nobody reads it", ""},
		"asked":            {asks, warning, "asked", "public.secrets: policies ask it, and it is not in publication rowtide", ""},
		"asked, weak":      {asks + `; ALTER PUBLICATION rowtide ADD TABLE secrets`, warning, "asked", "public.secrets: policies ask it, and it is not in publication rowtide", ""},
		"asked, some rows": {asks + `; ALTER TABLE secrets REPLICA IDENTITY FULL; ALTER PUBLICATION rowtide ADD TABLE secrets WHERE (id > 3)`, warning, "asked", "public.secrets: policies ask it, and it is not in publication rowtide as a whole", ""},
		"asked, bound":     {asks + `; ALTER TABLE secrets ENABLE ROW LEVEL SECURITY; ALTER FUNCTION rowtide.rows_of OWNER TO $login`, warning, "asked", "its row-level security binds $login", `ALTER FUNCTION rowtide.rows_of OWNER TO CURRENT_USER`},
		"asked, large":     {asks + `; UPDATE pg_class SET reltuples = 2e6 WHERE relname = 'secrets'`, note, "asked", "public.secrets: policies ask it, and it would take about", `ANALYZE secrets`},
		"asked, no index":  {asks + `; ALTER POLICY own ON tasks USING (title IN (SELECT task::text FROM secrets)); UPDATE pg_class SET reltuples = 2e6 WHERE relname = 'tasks'`, note, "asked", "public.tasks: each change of what its policies ask reads all of it: there is no index on title", ""},
		"asked, no rights": {asks + `; REVOKE EXECUTE ON FUNCTION rowtide.rows_of FROM $login`, warning, "installation", "login $login may not execute it", ""},
		"asked, old":       {asks + `; DROP FUNCTION rowtide.rows_near; UPDATE rowtide.schema_migrations SET version = 4`, warning, "installation", "rowtide.rows_near(oid, text[], jsonb, bigint): it is not there", ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Exec(t, w.words(c.breaks))
			w.provoke(t, w.cfg, doctor.Finding{Severity: c.severity, Check: c.check, Object: c.part}, c.other)
		})
	}
}

func TestARoleThatIsNotThereIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	gone := w.role + "_new"
	w.cfg.Roles = append(w.cfg.Roles, gone)
	w.provoke(t, w.cfg, doctor.Finding{Severity: fatal, Check: "role", Object: "role " + gone + ": it does not exist"}, "")
	w.Exec(t, "DROP ROLE "+gone)
}

func TestASchemaThatIsNotThereIsFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.Schemas = []string{"public", "later"}
	w.provoke(t, w.cfg, doctor.Finding{Severity: warning, Check: "schema", Object: "schema later: it does not exist"}, `CREATE SCHEMA later; GRANT USAGE ON SCHEMA later TO $login`)
}

func TestAnAnnotationsFileIsExamined(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var err error
	if w.cfg.Annotations, err = annotation.ParseFile("notes.sql", "COMMENT ON TABLE secrets IS '@subscribe(rowSecurity: NOT_REQUIRED)';\nCOMMENT ON TABLE taks IS ''"); err != nil {
		t.Fatal(err)
	}
	w.provoke(t, w.cfg, doctor.Finding{Severity: fatal, Check: "membership", Object: "table public.secrets: it is annotated but not in publication rowtide"}, "")
	if f := find(examine(t, w.cfg), "annotation", "table taks, notes.sql, line 2, column 18"); f == nil || f.Severity != warning {
		t.Errorf("the name that is not there: %v", f)
	}
}

func TestAServerThatIsNotReachedIsAFinding(t *testing.T) {
	t.Parallel()
	findings := examine(t, doctor.Config{DatabaseURL: "postgres://u:pw@127.0.0.1:1/x?sslmode=disable"})
	if len(findings) != 1 || findings[0].Check != "connection" || findings[0].Severity != fatal || strings.Contains(findings[0].String(), "pw") {
		t.Error(lines(findings))
	}
	if _, err := doctor.Examine(t.Context(), doctor.Config{}); err == nil {
		t.Error("nothing to examine is no error")
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	return conn
}

func cluster(t *testing.T, settings map[string]string) *testcontainers.Cluster {
	t.Helper()
	return pgtest.Cluster(t, testcontainers.Config{Settings: settings})
}
