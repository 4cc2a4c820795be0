package migrations_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func status(t *testing.T, db *pgtest.DB) migrations.Status {
	t.Helper()
	s, err := migrations.ReadStatus(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestStatusTellsTheVersion(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	before := catalog(t, db)
	if s := status(t, db); s.Version != 0 || s.Latest < 2 || s.Interrupted || s.EventTriggers {
		t.Errorf("before: %+v", s)
	}
	same(t, before, catalog(t, db))
	if _, err := migrations.Up(t.Context(), migrations.UpConfig{AdminURL: db.Admin}); err != nil {
		t.Fatal(err)
	}
	if s := status(t, db); s.Version != s.Latest || s.Interrupted || !s.EventTriggers {
		t.Errorf("after: %+v", s)
	}
	if _, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
		t.Fatal(err)
	}
	same(t, before, catalog(t, db))
}

// A database that an earlier version set up: what later ones added is open to its login.
func TestUpOpensWhatIsNewToTheLoginsThereAre(t *testing.T) {
	t.Parallel()
	db, cfg := installed(t)
	may := func() bool {
		return pgtest.One[bool](t, db, `SELECT bool_and(has_function_privilege($1, p.oid, 'EXECUTE')) FROM pg_proc p WHERE p.proname IN ('rows_of', 'rows_near')`, cfg.Login)
	}
	if !may() {
		t.Fatal("setup did not")
	}
	db.Exec(t, without5+`REVOKE EXECUTE ON FUNCTION rowtide.rows_of FROM `+cfg.Login+`; UPDATE rowtide.schema_migrations SET version = 4`)
	r, err := migrations.Up(t.Context(), migrations.UpConfig{AdminURL: db.Admin})
	if err != nil {
		t.Fatalf("%v\n%s", err, r)
	}
	if !may() {
		t.Errorf("the login may not use what is new:\n%s", r)
	}
}

// What each migration makes, taken away.
const (
	without1 = `DROP TABLE rowtide.created, rowtide.installation, rowtide.replica_identity;`
	without2 = `DROP FUNCTION rowtide.announce() CASCADE; DROP FUNCTION rowtide.hmac_sha256, rowtide.follow_partitions;`
	without3 = `DROP FUNCTION rowtide.rows_of;`
	without4 = `DROP FUNCTION rowtide.revoke; DROP TABLE rowtide.revocations, rowtide.audit;`
	without5 = `DROP FUNCTION rowtide.rows_near;`
)

// golang-migrate notes the version before it runs a file and again behind it. Wherever a crash
// falls, the next run goes on.
func TestAnInterruptedMigrationIsFinishedByTheNextRun(t *testing.T) {
	t.Parallel()
	for _, run := range []string{"up", "down"} {
		for _, at := range []string{
			`UPDATE rowtide.schema_migrations SET version = 5, dirty = true`,
			without5 + `UPDATE rowtide.schema_migrations SET version = 5, dirty = true`,
			without5 + `UPDATE rowtide.schema_migrations SET version = 4, dirty = true`,
			without5 + without4 + `UPDATE rowtide.schema_migrations SET version = 4, dirty = true`,
			without5 + `UPDATE rowtide.schema_migrations SET version = 3, dirty = true`,
			without5 + without4 + `UPDATE rowtide.schema_migrations SET version = 3, dirty = true`,
			without5 + without4 + without3 + `UPDATE rowtide.schema_migrations SET version = 3, dirty = true`,
			without5 + without4 + `UPDATE rowtide.schema_migrations SET version = 2, dirty = true`,
			without5 + without4 + without3 + without2 + `UPDATE rowtide.schema_migrations SET version = 2, dirty = true`,
			without5 + without4 + without3 + `UPDATE rowtide.schema_migrations SET version = 1, dirty = true`,
			without5 + without4 + without3 + without2 + `UPDATE rowtide.schema_migrations SET version = 1, dirty = true`,
			without5 + without4 + without3 + without2 + without1 + `UPDATE rowtide.schema_migrations SET version = -1, dirty = true`,
			without5 + without4 + without3 + without2 + without1 + `TRUNCATE rowtide.schema_migrations`,
		} {
			db := pgtest.New(t)
			before := catalog(t, db)
			if _, err := migrations.Up(t.Context(), migrations.UpConfig{AdminURL: db.Admin}); err != nil {
				t.Fatal(err)
			}
			whole := schemaOf(t, db)
			db.Exec(t, at)
			if run == "up" {
				if r, err := migrations.Up(t.Context(), migrations.UpConfig{AdminURL: db.Admin}); err != nil {
					t.Errorf("up after %s: %v\n%s", at, err, r)
				}
				if got := schemaOf(t, db); got != whole {
					t.Errorf("up after %s left\n%s\nnot\n%s", at, got, whole)
				}
			}
			if r, err := migrations.Down(t.Context(), migrations.DownConfig{AdminURL: db.Admin}); err != nil {
				t.Errorf("down after %s: %v\n%s", at, err, r)
			}
			same(t, before, catalog(t, db))
		}
	}
}

// schemaOf lists the objects of schema rowtide.
func schemaOf(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	return strings.Join(strs(t, db, `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'rowtide'::regnamespace
		UNION ALL SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'rowtide'::regnamespace
		UNION ALL SELECT evtname::text FROM pg_event_trigger
		UNION ALL SELECT format('%s %s', version, dirty) FROM rowtide.schema_migrations ORDER BY 1`), "\n")
}

func TestADatabaseOfANewerRowtideIsLeftAlone(t *testing.T) {
	t.Parallel()
	db, cfg := installed(t)
	db.Exec(t, `UPDATE rowtide.schema_migrations SET version = 99`)
	_, err := migrations.Setup(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "newer rowtide") {
		t.Errorf("error %v", err)
	}
}

// Whoever may make a schema but no event triggers still gets all else.
func TestWithoutTheRightToEventTriggersUpGoesOn(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	login := db.Login(t, "creator")
	db.Exec(t, fmt.Sprintf(`GRANT CREATE ON DATABASE %s TO %s`, db.Name, login))
	r, err := migrations.Up(t.Context(), migrations.UpConfig{AdminURL: db.URL(login)})
	if err != nil {
		t.Fatal(err)
	}
	if why := whyOf(r, migrations.Skipped); !strings.Contains(why, "polling") {
		t.Errorf("skipped:\n%s", why)
	}
	if s := status(t, db); s.EventTriggers || s.Version != s.Latest {
		t.Errorf("status %+v", s)
	}
}

func TestACancelledRunStops(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := migrations.Up(ctx, migrations.UpConfig{AdminURL: db.Admin}); err == nil {
		t.Error("it went on")
	}
	nothingLeft(t, db)
}
