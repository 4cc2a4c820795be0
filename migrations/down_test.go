package migrations_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// catalog is everything that Rowtide could leave behind: every object of the database, what a
// person could have said about it (owner, rights, options, comment), and what belongs to the
// cluster. The cluster is shared: roles, slots and memberships count where they carry the
// database's name.
func catalog(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	return strings.Join(strs(t, db, `
		SELECT format('%s %s', o.type, o.identity)
		FROM (SELECT classid, objid, objsubid FROM pg_depend UNION SELECT refclassid, refobjid, refobjsubid FROM pg_depend
			UNION SELECT 'pg_namespace'::regclass, oid, 0 FROM pg_namespace) d, pg_identify_object(d.classid, d.objid, d.objsubid) o
		WHERE d.objid >= 16384 AND o.identity IS NOT NULL
		UNION ALL SELECT format('relation %s owner %s rights %s options %s rls %s %s identity %s', oid::regclass, relowner::regrole, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)), reloptions,
			relrowsecurity, relforcerowsecurity, relreplident) FROM pg_class WHERE oid >= 16384 OR relacl IS NOT NULL
		UNION ALL SELECT format('column %s.%s %s %s rights %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, attacl)
		FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND (attrelid >= 16384 OR attacl IS NOT NULL)
		UNION ALL SELECT format('function %s owner %s rights %s is %s', oid::regprocedure, proowner::regrole, coalesce(proacl, acldefault('f', proowner)), prosrc)
		FROM pg_proc WHERE oid >= 16384 OR proacl IS NOT NULL
		UNION ALL SELECT format('schema %s owner %s rights %s', oid::regnamespace, nspowner::regrole, coalesce(nspacl, acldefault('n', nspowner))) FROM pg_namespace
		UNION ALL SELECT format('comment %s %s %s: %s', classoid::regclass, objoid, objsubid, description) FROM pg_description WHERE objoid >= 16384
		UNION ALL SELECT format('policy %s', p) FROM pg_policies p
		UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indexrelid >= 16384
		UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger
		UNION ALL SELECT format('%s on %s %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint WHERE oid >= 16384
		UNION ALL SELECT format('event trigger %s', e) FROM pg_event_trigger e
		UNION ALL SELECT format('default rights %s', a) FROM pg_default_acl a
		UNION ALL SELECT format('label %s', l) FROM pg_seclabel l
		UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname ~ $1
		UNION ALL SELECT format('membership %s', m.member::regrole) FROM pg_auth_members m WHERE m.member::regrole::text ~ $1
		UNION ALL SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database()
		UNION ALL SELECT format('publication %s', p) FROM pg_publication p
		UNION ALL SELECT format('setting %s', s) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database()
		UNION ALL SELECT format('database rights %s', datacl) FROM pg_database WHERE datname = current_database()
		ORDER BY 1`, "^"+db.Name), "\n")
}

func same(t *testing.T, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	was := map[string]bool{}
	for _, l := range strings.Split(before, "\n") {
		was[l] = true
	}
	for _, l := range strings.Split(after, "\n") {
		if !was[l] {
			t.Errorf("new: %s", l)
		}
		delete(was, l)
	}
	for l := range was {
		t.Errorf("gone or repeated: %s", l)
	}
}

func TestDownLeavesNoTrace(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE SCHEMA app; CREATE SCHEMA auth; CREATE FUNCTION auth.uid() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		CREATE TABLE app.by_key (id int PRIMARY KEY);
		ALTER TABLE app.by_key ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON app.by_key USING (id = auth.uid());
		CREATE TABLE app.nothing (id int); ALTER TABLE app.nothing REPLICA IDENTITY NOTHING;
		CREATE TABLE app.by_index (id int NOT NULL); CREATE UNIQUE INDEX "odd Name" ON app.by_index (id);
		ALTER TABLE app.by_index REPLICA IDENTITY USING INDEX "odd Name";
		CREATE TABLE app."Odd ""one""" (id int PRIMARY KEY);
		CREATE TABLE app.full_before (id int); ALTER TABLE app.full_before REPLICA IDENTITY FULL;
		CREATE TABLE app.log (id int);
		CREATE TABLE app.parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE app.part PARTITION OF app.parts FOR VALUES FROM (0) TO (9);
		CREATE PUBLICATION theirs FOR TABLE app.by_key`)
	before := catalog(t, db)
	cfg := setupConfig(db, db.Name+"_made")
	cfg.CreateRoles = true
	cfg.Schemas = []string{"app"}
	for _, name := range []string{"by_key", "nothing", "by_index", `Odd "one"`, "full_before", "parts"} {
		cfg.Tables = append(cfg.Tables, migrations.Table{Schema: "app", Name: name, Full: true})
	}
	cfg.Tables = append(cfg.Tables, migrations.Table{Schema: "app", Name: "log"})
	setup(t, cfg)
	db.Exec(t, `SELECT pg_create_logical_replication_slot('`+cfg.Slot+`', 'pgoutput')`)
	db.Exec(t, `SELECT pg_copy_logical_replication_slot('`+cfg.Slot+`', '`+cfg.Slot+`_w0abcdefg')`)
	if identity(t, db, `app."Odd ""one"""`) != "f" || identity(t, db, "app.part") != "f" {
		t.Error("the identities were not set")
	}
	// Renamed meanwhile: it is still the table whose identity was changed.
	db.Exec(t, `ALTER TABLE app.nothing RENAME TO something; ALTER TABLE app.something RENAME TO nothing`)

	r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin})
	if err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	same(t, before, catalog(t, db))
	r, err = migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin})
	if err != nil || r.Changed() {
		t.Errorf("again: %v\n%s", err, r)
	}
	setup(t, cfg)
}

func TestDownRefusesWhileTheServiceRuns(t *testing.T) {
	t.Parallel()
	db, cfg := installed(t)
	conn := connect(t, db.URL(cfg.Login))
	_, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin})
	if err == nil || !strings.Contains(err.Error(), "stop the service first") {
		t.Errorf("with a session: %v", err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop := stream(t, db, cfg.Slot)
	_, err = migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin})
	if err == nil || !strings.Contains(err.Error(), "replication slot "+cfg.Slot+" is in use") {
		t.Errorf("with a stream: %v", err)
	}
	stop()
	waitGone(t, db, cfg)
	if r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Errorf("%v\n%s", err, r)
	}
}

func TestDownDropsTheSlotsThatItIsToldAndNoOther(t *testing.T) {
	t.Parallel()
	db, cfg := installed(t)
	for _, s := range []string{cfg.Slot, db.Name + "_more", db.Name + "_theirs"} {
		db.Exec(t, `SELECT pg_create_logical_replication_slot('`+s+`', 'pgoutput')`)
	}
	if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin, Slots: []string{db.Name + "_more"}}); err != nil {
		t.Fatal(err)
	}
	equal(t, strs(t, db, `SELECT slot_name::text FROM pg_replication_slots WHERE database = current_database()`), db.Name+"_theirs")
}

func TestDownKeepsWhatOthersHaveComeToUse(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `CREATE TABLE kept (id int); CREATE TABLE mine (id int)`)
	cfg := setupConfig(db, db.Name+"_made")
	cfg.CreateRoles = true
	cfg.Tables = []migrations.Table{full("kept"), full("mine")}
	setup(t, cfg)
	db.Exec(t, `GRANT SELECT ON kept TO `+cfg.Roles[0]+`;
		CREATE PUBLICATION theirs FOR TABLE kept;
		ALTER TABLE mine REPLICA IDENTITY NOTHING;
		CREATE TABLE rowtide.theirs (id int)`)
	r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin})
	if err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	why := whyOf(r, migrations.Skipped)
	for _, want := range []string{"drop role " + cfg.Roles[0], "replica identity of public.kept", "drop schema rowtide"} {
		if !strings.Contains(why, want) {
			t.Errorf("%s is not among what stays:\n%s", want, why)
		}
	}
	// Its identity of before was by a primary key that it has not: the update would fail.
	db.Exec(t, `INSERT INTO kept VALUES (1); UPDATE kept SET id = 2`)
	if identity(t, db, "kept") != "f" || identity(t, db, "mine") != "n" {
		t.Error("an identity that others rely on was restored")
	}
}

// makeStandby turns a cluster into one in recovery.
func makeStandby(t *testing.T, c *testcontainers.Cluster) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.DataDir(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
}
