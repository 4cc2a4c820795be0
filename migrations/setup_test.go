package migrations_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// The login that setup makes passes the check, with the password that setup generated, on a server
// that asks for passwords.
//
// Covers S50.
func TestSetupMakesALoginThatIsFitToServe(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{Password: "admin secret"})
	db := pgtest.On(t, c, `CREATE SCHEMA app; CREATE TABLE app.tasks (id int PRIMARY KEY)`)
	role := db.Role(t, "web_user")
	cfg := setupConfig(db, role)
	cfg.Schemas = []string{"app"}
	cfg.Tables = []migrations.Table{{Schema: "app", Name: "tasks", Full: true}}
	r := setup(t, cfg)
	if r.Password == "" || strings.Contains(r.String(), r.Password) {
		t.Errorf("password %q in the report:\n%s", r.Password, r)
	}
	err := migrations.CheckLogin(t.Context(), migrations.LoginConfig{URL: r.DatabaseURL, Roles: cfg.Roles, Tables: cfg.Tables})
	if err != nil {
		t.Error(err)
	}
	conn := connect(t, r.DatabaseURL)
	i, err := migrations.ReadInstallation(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	if len(i.ID) != 36 || len(i.CursorSecret) != 32 || len(i.MessageKey) != 32 || !i.EventTriggers {
		t.Errorf("installation %+v", i)
	}
	if string(i.CursorSecret) == string(i.MessageKey) {
		t.Error("one secret for two purposes")
	}
	// The schemas are open to the parser, the tables to nobody but the roles.
	if _, err := conn.Exec(t.Context(), `SELECT NULL::app.tasks`); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT * FROM app.tasks`); err == nil {
		t.Error("the login reads a table")
	}
	if _, err := conn.Exec(t.Context(), `SET ROLE `+role); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT * FROM rowtide.installation`); err == nil {
		t.Error("a role of the allow-list reads the secrets")
	}
}

func TestThePasswordIsNotInTheSQL(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	cfg := setupConfig(db, db.Role(t, "web_user"))
	cfg.Password = "correct horse"
	var sql strings.Builder
	for _, s := range setup(t, cfg).Steps {
		sql.WriteString(strings.Join(s.SQL, "\n"))
	}
	if strings.Contains(sql.String(), cfg.Password) || !strings.Contains(sql.String(), "SCRAM-SHA-256$4096:") {
		t.Error("the password was sent")
	}
	if r := setup(t, cfg); r.Changed() {
		t.Errorf("the same password was set again:\n%s", r)
	}
	cfg.Password = "another"
	if got := states(setup(t, cfg), "login "+cfg.Login); got[0] != migrations.Done {
		t.Errorf("a new password: %v", got)
	}
	cfg.Password = "müsli"
	if _, err := migrations.Setup(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "ASCII") {
		t.Errorf("a password that SASLprep would change: %v", err)
	}
}

func TestSetupAgainChangesNothing(t *testing.T) {
	t.Parallel()
	db, cfg := installed(t, `CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE log (id int)`)
	cfg.Tables = []migrations.Table{full("a"), insertOnly("log")}
	if r := setup(t, cfg); !r.Changed() {
		t.Errorf("the new tables were not published:\n%s", r)
	}
	r := setup(t, cfg)
	for _, s := range r.Steps {
		if s.State != migrations.Already {
			t.Errorf("%s", s)
		}
	}
	if pgtest.One[int](t, db, `SELECT count(*) FROM rowtide.installation`) != 1 {
		t.Error("there is not one installation")
	}
}

// What a dry run prints is a script that does what a run does.
func TestADryRunChangesNothingAndPrintsAScriptThatDoesItAll(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int PRIMARY KEY, note text DEFAULT E'\\'); CREATE TABLE log (id int)`)
	cfg := setupConfig(db, db.Name+`_o'\"dd`)
	cfg.CreateRoles = true
	cfg.Tables = []migrations.Table{full("a"), insertOnly("log")}
	before := catalog(t, db)
	var script strings.Builder
	dry := cfg
	dry.DryRun = &script
	r := setup(t, dry)
	same(t, before, catalog(t, db))
	if r.Changed() || r.Password == "" {
		t.Errorf("dry run:\n%s", r)
	}
	db.Exec(t, script.String())
	if r := setup(t, cfg); r.Changed() {
		t.Errorf("the script left something to do:\n%s", r)
	}
	if r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	same(t, before, catalog(t, db))
}

func TestADryRunOfDownIsAScriptToo(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE a (id int PRIMARY KEY)`)
	before := catalog(t, db)
	cfg := setupConfig(db, db.Role(t, "web_user"))
	cfg.Tables = []migrations.Table{full("a")}
	setup(t, cfg)
	var script strings.Builder
	if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin, DryRun: &script}); err != nil {
		t.Fatal(err)
	}
	db.Exec(t, script.String())
	same(t, before, catalog(t, db))
}

// Covers S32.
func TestSetupRefusesRolesAboveRowSecurity(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	for attribute, word := range map[string]string{"SUPERUSER": "superuser", "BYPASSRLS": "BYPASSRLS", "REPLICATION": "REPLICATION"} {
		role := db.Role(t, "web_user")
		db.Exec(t, "ALTER ROLE "+role+" "+attribute)
		cfg := setupConfig(db, role)
		_, err := migrations.Setup(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", attribute, err)
		}
		login := db.Login(t, "svc", role)
		err = migrations.CheckLogin(t.Context(), migrations.LoginConfig{URL: db.URL(login), Roles: []string{role}})
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", attribute, err)
		}
		err = migrations.CheckLogin(t.Context(), migrations.LoginConfig{URL: db.URL(login), Roles: []string{role}, PrivilegedRoles: true})
		if err != nil {
			t.Errorf("%s, though it was asked for: %v", attribute, err)
		}
	}
	nothingLeft(t, db)
}

// nothingLeft tells of anything that a refused setup made.
func nothingLeft(t *testing.T, db *pgtest.DB) {
	t.Helper()
	equal(t, strs(t, db, `SELECT nspname::text FROM pg_namespace WHERE nspname = 'rowtide'
		UNION ALL SELECT pubname::text FROM pg_publication UNION ALL SELECT evtname::text FROM pg_event_trigger
		UNION ALL SELECT rolname::text FROM pg_roles WHERE rolname = $1`, db.Name+"_svc"))
}

func TestBadInputGetsOneLineThatNamesTheFixAndLeavesNothing(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role, weak := db.Role(t, "web_user"), db.Login(t, "weak")
	creator := db.Login(t, "creator")
	inheriting := db.Login(t, "inheriting")
	db.Exec(t, fmt.Sprintf(`GRANT CREATE ON DATABASE %s TO %s; ALTER ROLE %s INHERIT`, db.Name, creator, inheriting))
	good := setupConfig(db, role)
	for name, c := range map[string]struct {
		change func(*migrations.SetupConfig)
		want   string
	}{
		"no roles":          {func(c *migrations.SetupConfig) { c.Roles = nil }, "--roles"},
		"unknown role":      {func(c *migrations.SetupConfig) { c.Roles = []string{"nobody_here"} }, `CREATE ROLE "nobody_here" NOLOGIN`},
		"login among roles": {func(c *migrations.SetupConfig) { c.Roles = []string{c.Login} }, "choose another --login"},
		"no URL":            {func(c *migrations.SetupConfig) { c.AdminURL = "postgres://%" }, "write postgres://login:password@host:5432/database"},
		"nobody listens":    {func(c *migrations.SetupConfig) { c.AdminURL = "postgres://postgres@localhost:1/x" }, "connect to localhost:1 as postgres: nobody listens there"},
		"no such database":  {func(c *migrations.SetupConfig) { c.AdminURL = strings.Replace(db.Admin, db.Name, "gone", 1) }, `database "gone" does not exist`},
		"may not create":    {func(c *migrations.SetupConfig) { c.AdminURL = db.URL(weak) }, "GRANT CREATE ON DATABASE"},
		"may not make login": {
			func(c *migrations.SetupConfig) { c.AdminURL = db.URL(creator) },
			"connect as a role that may do that, such as a superuser",
		},
		"unfit login": {func(c *migrations.SetupConfig) { c.Login = inheriting }, "NOINHERIT"},
	} {
		cfg := good
		c.change(&cfg)
		_, err := migrations.Setup(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		nothingLeft(t, db)
	}
}

func TestAForeignSchemaRowtideIsLeftAlone(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE SCHEMA rowtide; CREATE TABLE rowtide.theirs (id int)`)
	_, err := migrations.Setup(t.Context(), setupConfig(db, db.Role(t, "web_user")))
	if err == nil || !strings.Contains(err.Error(), "RENAME") {
		t.Errorf("error %v", err)
	}
	if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Error(err)
	}
	equal(t, strs(t, db, `SELECT relname::text FROM pg_class WHERE relnamespace = 'rowtide'::regnamespace`), "theirs")
}

// The policies' functions lie in a schema that only the roles may use: the login parses them.
func TestSchemasThatPoliciesNameAreOpenedToTheLogin(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE SCHEMA auth; CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		CREATE SCHEMA teams; CREATE TABLE teams.members (id int);
		CREATE SCHEMA unrelated;
		CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON a USING (id = auth.uid() OR id IN (SELECT m.id FROM teams.members m))`)
	cfg := setupConfig(db, db.Role(t, "web_user"))
	cfg.Tables = []migrations.Table{full("a")}
	setup(t, cfg)
	equal(t, strs(t, db, `SELECT nspname::text FROM pg_namespace WHERE has_schema_privilege($1, oid, 'USAGE')
		AND nspname !~ '^pg_' ORDER BY 1`, cfg.Login), "auth", "information_schema", "public", "rowtide", "teams")
}

func TestPreflightSaysWhatIsInTheWay(t *testing.T) {
	t.Parallel()
	t.Run("wal_level", func(t *testing.T) {
		t.Parallel()
		db := pgtest.On(t, pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"wal_level": "replica"}}))
		refusedWith(t, db, "ALTER SYSTEM SET wal_level = 'logical'")
	})
	t.Run("slots", func(t *testing.T) {
		t.Parallel()
		db := pgtest.On(t, pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_replication_slots": "1"}}))
		db.Exec(t, `SELECT pg_create_physical_replication_slot('theirs')`)
		refusedWith(t, db, "ALTER SYSTEM SET max_replication_slots = 5")
		db.Exec(t, `SELECT pg_drop_replication_slot('theirs'); SELECT pg_create_physical_replication_slot('`+db.Name+`_slot')`)
		setup(t, setupConfig(db, db.Role(t, "web_user")))
	})
	t.Run("senders", func(t *testing.T) {
		t.Parallel()
		db := pgtest.On(t, pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"max_wal_senders": "1"}}))
		conn, err := pgconn.Connect(t.Context(), db.Admin+"&replication=database")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(t.Context())
		refusedWith(t, db, "ALTER SYSTEM SET max_wal_senders = 5")
	})
	t.Run("standby", func(t *testing.T) {
		t.Parallel()
		c := pgtest.Cluster(t, testcontainers.Config{})
		db := pgtest.On(t, c)
		role := db.Role(t, "web_user")
		makeStandby(t, c)
		_, err := migrations.Setup(t.Context(), setupConfig(db, role))
		if err == nil || !strings.Contains(err.Error(), "use the address of the primary") {
			t.Errorf("error %v", err)
		}
		if err := c.StopMode(t.Context(), "immediate"); err != nil { // nothing can be dropped in it
			t.Fatal(err)
		}
	})
}

func refusedWith(t *testing.T, db *pgtest.DB, want string) {
	t.Helper()
	_, err := migrations.Setup(t.Context(), setupConfig(db, db.Role(t, "web_user")))
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %s", err, want)
	}
	nothingLeft(t, db)
}

func TestTwoRunsInOneDatabaseAreKeptApart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	conn := connect(t, db.Admin)
	if _, err := conn.Exec(t.Context(), `SELECT pg_advisory_lock(x'726f7774696465'::bigint)`); err != nil {
		t.Fatal(err)
	}
	cfg := setupConfig(db, db.Role(t, "web_user"))
	cfg.LockTimeout = time.Millisecond
	_, err := migrations.Setup(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "wait until it has ended") {
		t.Errorf("error %v", err)
	}
	nothingLeft(t, db)
}

func TestWithoutSetupTheInstallationIsNotThere(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	if _, err := migrations.ReadInstallation(t.Context(), db.Pool(t)); !errors.Is(err, migrations.ErrNotInstalled) {
		t.Errorf("error %v", err)
	}
	if _, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.Admin}); !errors.Is(err, migrations.ErrNotInstalled) {
		t.Errorf("error %v", err)
	}
	setup(t, setupConfig(db, db.Role(t, "web_user")))
	other := connect(t, db.URL(db.Login(t, "other")))
	if _, err := migrations.ReadInstallation(t.Context(), other); !errors.Is(err, migrations.ErrNotInstalled) {
		t.Errorf("a login that nothing was granted: %v", err)
	}
}
