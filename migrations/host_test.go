package migrations_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// A hostLook is what gives a host away, as far as a server of our own can have it.
type hostLook struct {
	host     migrations.Host
	make     string
	unmake   string
	guide    string
	logical  string   // how wal_level is changed there
	loginSQL []string // that make the service login
}

func hostLooks() []hostLook {
	roles := func(names ...string) (string, string) {
		return "CREATE ROLE " + strings.Join(names, "; CREATE ROLE "), "DROP ROLE " + strings.Join(names, ", ")
	}
	look := func(l hostLook, names ...string) hostLook {
		l.make, l.unmake = roles(names...)
		return l
	}
	user := []string{"CREATE ROLE $login LOGIN NOINHERIT", "ALTER USER $login WITH REPLICATION"}
	rds := []string{"CREATE ROLE $login LOGIN NOINHERIT", "GRANT rds_replication TO $login"}
	return []hostLook{
		look(hostLook{host: migrations.RDS, guide: "rds.md", logical: "set rds.logical_replication = 1", loginSQL: rds}, "rds_superuser", "rds_replication"),
		{
			host: migrations.Aurora, guide: "rds.md", logical: "in the cluster's parameter group", loginSQL: rds,
			make:   "CREATE FUNCTION pg_catalog.aurora_version() RETURNS text LANGUAGE sql AS $$ SELECT '16.4' $$; CREATE ROLE rds_superuser; CREATE ROLE rds_replication",
			unmake: "DROP FUNCTION pg_catalog.aurora_version(); DROP ROLE rds_superuser, rds_replication",
		},
		look(hostLook{host: migrations.CloudSQL, guide: "cloud-sql.md", logical: "--database-flags=cloudsql.logical_decoding=on", loginSQL: user}, "cloudsqlsuperuser"),
		look(hostLook{host: migrations.Azure, guide: "azure.md", logical: "--name wal_level --value logical", loginSQL: user}, "azure_pg_admin"),
		look(hostLook{host: migrations.Neon, guide: "neon.md", logical: "in Neon's console", loginSQL: []string{"CREATE ROLE $login LOGIN REPLICATION"}}, "neon_superuser"),
		look(hostLook{host: migrations.Supabase, guide: "supabase.md", logical: "--config wal_level=logical", loginSQL: []string{"CREATE ROLE $login LOGIN REPLICATION"}}, "supabase_admin"),
	}
}

// TestSetupDoesItInTheHostsWay looks like each host in turn: setup knows it, makes the login with
// that host's SQL, finds all done when repeated, and takes it all back.
func TestSetupDoesItInTheHostsWay(t *testing.T) {
	c := pgtest.Cluster(t, testcontainers.Config{})
	for _, look := range hostLooks() {
		t.Run(look.host.String(), func(t *testing.T) {
			db := pgtest.On(t, c, `CREATE TABLE a (id int PRIMARY KEY)`, look.make)
			defer db.Exec(t, look.unmake)
			cfg := setupConfig(db, db.Role(t, "web_user"))
			cfg.Tables = []migrations.Table{full("a")}
			before := catalog(t, db)

			var script strings.Builder
			dry := cfg
			dry.DryRun = &script
			setup(t, dry)
			same(t, before, catalog(t, db))

			r := setup(t, cfg)
			if r.Host != look.host || !strings.Contains(r.String(), "this is "+look.host.String()) || !strings.Contains(r.String(), look.guide) {
				t.Errorf("it is taken for %s:\n%s", r.Host, r)
			}
			for _, want := range look.loginSQL {
				want = strings.ReplaceAll(want, "$login", `"`+cfg.Login+`"`)
				if !strings.Contains(sqlOf(r, "login "+cfg.Login), want) || !strings.Contains(script.String(), want) {
					t.Errorf("the login is not made with %s:\n%s", want, sqlOf(r, "login "+cfg.Login))
				}
			}
			if r := setup(t, cfg); r.Changed() {
				t.Errorf("the second run changed something:\n%s", r)
			}
			if r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
				t.Fatalf("%v\n%s", err, r)
			}
			same(t, before, catalog(t, db))
		})
	}
}

func sqlOf(r migrations.Report, what string) string {
	for _, s := range r.Steps {
		if s.What == what {
			return strings.Join(s.SQL, "\n")
		}
	}
	return ""
}

// TestSetupNamesWhatOnlyAConsoleCanSet has a server whose log does not carry rows.
func TestSetupNamesWhatOnlyAConsoleCanSet(t *testing.T) {
	c := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"wal_level": "replica"}})
	for _, look := range hostLooks() {
		t.Run(look.host.String(), func(t *testing.T) {
			db := pgtest.On(t, c, look.make)
			defer db.Exec(t, look.unmake)
			refusedWith(t, db, look.logical)
			server, err := migrations.ReadServer(t.Context(), db.Pool(t), "rowtide")
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range server.Problems() {
				if strings.Contains(p.String(), "ALTER SYSTEM") {
					t.Errorf("%s: nobody may run that there", p)
				}
			}
		})
	}
}

// TestSetupWithoutASuperuser is an administrator as RDS gives one: no superuser, owner of the
// tables, may create roles. Event triggers are beyond him, so the service polls; all else is done,
// and taken back again.
func TestSetupWithoutASuperuser(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, c, `CREATE ROLE rds_superuser; CREATE ROLE rds_replication; CREATE ROLE web_user;
CREATE ROLE master LOGIN CREATEROLE CREATEDB; GRANT rds_superuser TO master; GRANT rds_replication, web_user TO master WITH ADMIN OPTION`)
	db.Exec(t, `GRANT CREATE ON DATABASE `+db.Name+` TO master; GRANT ALL ON SCHEMA public TO master WITH GRANT OPTION;
CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO master`)
	cfg := setupConfig(db, "web_user")
	cfg.AdminURL = db.URL("master")
	cfg.Tables = []migrations.Table{full("a")}
	before := catalog(t, db)
	r := setup(t, cfg)
	if got := states(r, "event trigger "); len(got) != 2 || got[0] != migrations.Skipped || got[1] != migrations.Skipped {
		t.Errorf("event triggers: %v", got)
	}
	if !strings.Contains(r.String(), "noticed by polling") {
		t.Errorf("what that means is not told:\n%s", r)
	}
	// What RDS lets the members of rds_replication do is our server's to allow by the attribute.
	lc := migrations.LoginConfig{URL: r.DatabaseURL, Roles: cfg.Roles, Slot: cfg.Slot}
	err := migrations.CheckLogin(t.Context(), lc)
	if err == nil || strings.Contains(err.Error(), "lacks REPLICATION") {
		t.Errorf("a member of rds_replication: %v", err)
	}
	db.Exec(t, fmt.Sprintf(`ALTER ROLE %q REPLICATION`, cfg.Login))
	if err := migrations.CheckLogin(t.Context(), lc); err != nil {
		t.Error(err)
	}
	if r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: cfg.AdminURL}); err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	same(t, before, catalog(t, db))
}

// TestAzuresAdministratorTakesReplicationFirst has an administrator whom our server, unlike Azure's,
// does not let take it: that is found before anything is made.
func TestAzuresAdministratorTakesReplicationFirst(t *testing.T) {
	t.Parallel()
	c := pgtest.Cluster(t, testcontainers.Config{})
	db := pgtest.On(t, c, `CREATE ROLE azure_pg_admin; CREATE ROLE web_user; CREATE ROLE boss LOGIN CREATEROLE; GRANT web_user TO boss WITH ADMIN OPTION`)
	db.Exec(t, `GRANT CREATE ON DATABASE `+db.Name+` TO boss`)
	cfg := setupConfig(db, "web_user")
	cfg.AdminURL = db.URL("boss")
	_, err := migrations.Setup(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "connect as a role that may do that") {
		t.Errorf("he took it on a server that is not Azure's: %v", err)
	}
	nothingLeft(t, db)
}

func TestAPoolerIsKnownByItsName(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://postgres.abcd:x@aws-0-eu-central-1.pooler.supabase.com:6543/postgres": "db.abcd.supabase.co:5432",
		"postgres://postgres.abcd:x@aws-0-eu-central-1.pooler.supabase.com:5432/postgres": "db.abcd.supabase.co:5432",
		"postgres://postgres:x@db.abcd.supabase.co:6543/postgres":                         "db.abcd.supabase.co:5432",
		"postgres://me:x@ep-cool-1.eu-central-1.aws.neon.tech/app":                        "",
		"postgres://me:x@ep-cool-1-pooler.eu-central-1.aws.neon.tech/app":                 "ep-cool-1.eu-central-1.aws.neon.tech",
		"postgres://me:x@app.postgres.database.azure.com:6432/app":                        "app.postgres.database.azure.com:5432",
		"postgres://me:x@app.proxy-abc.eu-west-1.rds.amazonaws.com/app":                   "the instance's own endpoint",
	} {
		if want == "" {
			continue
		}
		err := migrations.Reach(t.Context(), "--admin-url", url)
		if err == nil || !strings.Contains(err.Error(), "this is a connection pooler and not PostgreSQL itself") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
