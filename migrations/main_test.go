package migrations_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// setupConfig sets up a database of a test: its login and slot belong to the whole cluster, so
// they carry the database's name.
func setupConfig(db *pgtest.DB, roles ...string) migrations.SetupConfig {
	return migrations.SetupConfig{AdminURL: db.Admin, Login: db.Name + "_svc", Roles: roles, Slot: db.Name + "_slot"}
}

func setup(t testing.TB, cfg migrations.SetupConfig) migrations.Report {
	t.Helper()
	r, err := migrations.Setup(t.Context(), cfg)
	if err != nil {
		t.Fatalf("setup: %v\n%s", err, r)
	}
	return r
}

// installed makes a database that is set up, with one role.
func installed(t testing.TB, sql ...string) (*pgtest.DB, migrations.SetupConfig) {
	t.Helper()
	db := pgtest.New(t, sql...)
	cfg := setupConfig(db, db.Role(t, "web_user"))
	setup(t, cfg)
	return db, cfg
}

func syncTables(t *testing.T, db *pgtest.DB, tables ...migrations.Table) migrations.Report {
	t.Helper()
	r, err := migrations.Sync(t.Context(), migrations.SyncConfig{AdminURL: db.Admin, Tables: tables})
	if err != nil {
		t.Fatalf("sync: %v\n%s", err, r)
	}
	return r
}

func full(name string) migrations.Table {
	return migrations.Table{Schema: "public", Name: name, Full: true}
}

func insertOnly(name string) migrations.Table {
	return migrations.Table{Schema: "public", Name: name}
}

// states gives the steps whose description has a part, by state.
func states(r migrations.Report, part string) []migrations.State {
	var out []migrations.State
	for _, s := range r.Steps {
		if strings.Contains(s.What, part) {
			out = append(out, s.State)
		}
	}
	return out
}

// whyOf gives the reasons of the steps of a state.
func whyOf(r migrations.Report, state migrations.State) string {
	var out []string
	for _, s := range r.Steps {
		if s.State == state {
			out = append(out, s.What+": "+s.Why)
		}
	}
	return strings.Join(out, "\n")
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(t.Context()) })
	return conn
}

// strs is one column of a query.
func strs(t *testing.T, db *pgtest.DB, sql string, args ...any) []string {
	t.Helper()
	rows, err := db.Pool(t).Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func equal(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// identity is a table's relreplident.
func identity(t *testing.T, db *pgtest.DB, table string) string {
	t.Helper()
	return pgtest.One[string](t, db, `SELECT relreplident::text FROM pg_class WHERE oid = $1::text::regclass`, table)
}

// members are the tables of a publication.
func members(t *testing.T, db *pgtest.DB, publication string) []string {
	t.Helper()
	return strs(t, db, `SELECT prrelid::regclass::text FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
		WHERE p.pubname = $1 ORDER BY 1`, publication)
}
