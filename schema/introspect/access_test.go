package introspect_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/introspect"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// policies gives the names of the policies that apply to a role.
func policies(tab *schema.TableDef, role string) []string {
	out := []string{}
	for _, i := range tab.Access[role].Policies {
		out = append(out, tab.Policies[i].Name)
	}
	return out
}

// Covers R01.
func TestOnlyPoliciesThatCountForSelectAreRead(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE a (id int); ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		COMMENT ON TABLE a IS '@subscribe';
		CREATE POLICY every ON a USING (id > 0);
		CREATE POLICY look ON a FOR SELECT USING (id > 1);
		CREATE POLICY narrow ON a AS RESTRICTIVE FOR SELECT USING (id > 2);
		CREATE POLICY put ON a FOR INSERT WITH CHECK (true);
		CREATE POLICY upd ON a FOR UPDATE USING (true);
		CREATE POLICY del ON a FOR DELETE USING (true)`)
	role := db.Role(t, "web_user")
	a := table(t, load(t, db, role), "a")
	equal(t, policies(a, role), []string{"every", "look", "narrow"})
	if len(a.Policies) != 3 {
		t.Fatalf("policies: %+v", a.Policies)
	}
	for i, want := range []schema.Policy{
		{Name: "every", Permissive: true, Using: "(id > 0)"},
		{Name: "look", Permissive: true, Using: "(id > 1)"},
		{Name: "narrow", Permissive: false, Using: "(id > 2)"},
	} {
		if a.Policies[i] != want {
			t.Errorf("policy %+v, want %+v", a.Policies[i], want)
		}
	}
}

// Covers R03, R36.
func TestPoliciesApplyByTheRolesWhosePrivilegesARoleHas(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	group, heir, stranger := db.Role(t, "grp"), db.Role(t, "heir"), db.Role(t, "stranger")
	bypass := db.Role(t, "bypass")
	db.Exec(t, fmt.Sprintf(`
		ALTER ROLE %[3]s NOINHERIT; ALTER ROLE %[4]s BYPASSRLS;
		GRANT %[1]s TO %[2]s; GRANT %[1]s TO %[3]s; GRANT %[4]s TO %[2]s;
		CREATE TABLE a (id int); ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		COMMENT ON TABLE a IS '@subscribe';
		CREATE POLICY to_all ON a USING (true);
		CREATE POLICY to_group ON a TO %[1]s USING (true);
		CREATE POLICY to_heir ON a TO %[2]s USING (true)`, group, heir, stranger, bypass))
	a := table(t, load(t, db, group, heir, stranger, bypass), "a")
	equal(t, policies(a, group), []string{"to_all", "to_group"})
	equal(t, policies(a, heir), []string{"to_all", "to_group", "to_heir"})
	equal(t, policies(a, stranger), []string{"to_all"})
	if !a.Access[heir].RowSecurity {
		t.Error("membership in a role with BYPASSRLS lifted row security")
	}
	if a.Access[bypass].RowSecurity {
		t.Error("row security binds a role with BYPASSRLS")
	}
}

// Covers R04.
func TestRowSecurityIsWhatPostgresSaysUnderTheRole(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	owner, member, other := db.Role(t, "owner"), db.Role(t, "member"), db.Role(t, "other")
	db.Exec(t, fmt.Sprintf(`
		GRANT %[1]s TO %[2]s;
		CREATE TABLE off (id int); CREATE TABLE ena (id int); CREATE TABLE forced (id int);
		ALTER TABLE off OWNER TO %[1]s; ALTER TABLE ena OWNER TO %[1]s; ALTER TABLE forced OWNER TO %[1]s;
		ALTER TABLE ena ENABLE ROW LEVEL SECURITY;
		ALTER TABLE forced ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
		COMMENT ON TABLE off IS '@'; COMMENT ON TABLE ena IS '@'; COMMENT ON TABLE forced IS '@'`, owner, member))
	d := load(t, db, owner, member, other)
	for name, want := range map[string][3]bool{
		"off": {false, false, false}, "ena": {false, false, true}, "forced": {true, true, true},
	} {
		acc := table(t, d, name).Access
		if got := [3]bool{acc[owner].RowSecurity, acc[member].RowSecurity, acc[other].RowSecurity}; got != want {
			t.Errorf("%s: owner, member, other: %v, want %v", name, got, want)
		}
	}
}

// Covers R05.
func TestPrivilegesAreThoseOfSchemaTableAndColumns(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	whole, part, none := db.Role(t, "whole"), db.Role(t, "part"), db.Role(t, "none")
	db.Exec(t, fmt.Sprintf(`
		CREATE SCHEMA closed;
		GRANT USAGE ON SCHEMA closed TO %[1]s;
		CREATE TABLE closed.a (gone int, id int, secret text, note text);
		ALTER TABLE closed.a DROP COLUMN gone;
		GRANT SELECT ON closed.a TO %[1]s; GRANT SELECT (id, note), INSERT ON closed.a TO %[2]s; GRANT INSERT, UPDATE ON closed.a TO %[3]s;
		COMMENT ON TABLE closed.a IS '@subscribe'`, whole, part, none))
	conn := connect(t, db, db.Login(t, "svc", whole, part, none))
	d, err := introspect.Load(t.Context(), conn, introspect.Config{Schemas: []string{"closed"}, Roles: []string{whole, part, none}})
	if err != nil {
		t.Fatal(err)
	}
	acc := table(t, d, "a").Access
	for role, want := range map[string]string{
		whole: "{true [true true true]", part: "{false [true false true]", none: "{false [false false false]",
	} {
		if got := fmt.Sprint(acc[role]); !strings.HasPrefix(got, want) {
			t.Errorf("%s: %s, want %s", role, got, want)
		}
	}
}

// Covers R09.
func TestDeparsedTextDoesNotDependOnTheLogin(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE teams (id int, until timestamptz);
		CREATE FUNCTION me() RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
		CREATE TABLE a (id int, d date, f float8, doubled int GENERATED ALWAYS AS (id * 2) STORED);
		ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		COMMENT ON TABLE a IS '@subscribe';
		CREATE POLICY p ON a USING (id = me() AND d > '2024-02-01'::date AND f > 0.1::float8
			AND EXISTS (SELECT FROM teams t WHERE t.id = a.id AND t.until > '2024-02-01 00:00+00'::timestamptz))`)
	login := db.Login(t, "svc")
	db.Exec(t, fmt.Sprintf(`ALTER ROLE %[1]s SET search_path = public; ALTER ROLE %[1]s SET datestyle = 'SQL, DMY';
		ALTER ROLE %[1]s SET timezone = 'Asia/Kolkata'; ALTER ROLE %[1]s SET extra_float_digits = -15;
		ALTER ROLE %[1]s SET quote_all_identifiers = on`, login))
	d, err := introspect.Load(t.Context(), connect(t, db, login), introspect.Config{Schemas: []string{"public"}})
	if err != nil {
		t.Fatal(err)
	}
	using := strings.Join(strings.Fields(table(t, d, "a").Policies[0].Using), " ")
	for _, want := range []string{
		"public.me()", "FROM public.teams t", "'2024-02-01'::date", "'2024-02-01 00:00:00+00'::timestamp with time zone", "(0.1)",
	} {
		if !strings.Contains(using, want) {
			t.Errorf("%s\nis not in\n%s", want, using)
		}
	}
}

// Covers R15.
func TestPoliciesOfThePartitionedTableAndOfItsPartitionsAreKeptApart(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE root (id int) PARTITION BY RANGE (id);
		CREATE TABLE leaf PARTITION OF root DEFAULT;
		ALTER TABLE root ENABLE ROW LEVEL SECURITY;
		ALTER TABLE leaf ENABLE ROW LEVEL SECURITY;
		CREATE POLICY of_root ON root USING (id > 0);
		CREATE POLICY of_leaf ON leaf USING (id > 1);
		COMMENT ON TABLE root IS '@subscribe'; COMMENT ON TABLE leaf IS '@subscribe'`)
	role := db.Role(t, "web_user")
	d := load(t, db, role)
	equal(t, policies(table(t, d, "root"), role), []string{"of_root"})
	equal(t, policies(table(t, d, "leaf"), role), []string{"of_leaf"})
}

func TestARoleThatTheLoginMayNotTakeIsNamed(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	login := db.Login(t, "svc")
	_, err := introspect.Load(t.Context(), connect(t, db, login), introspect.Config{Schemas: []string{"public"}, Roles: []string{role}})
	if err == nil || !strings.Contains(err.Error(), "GRANT") || !strings.Contains(err.Error(), role) {
		t.Errorf("error %v", err)
	}
}

// A moving DB changes the catalog between the snapshot of a Load and what it reads, each time.
type moving struct {
	introspect.DB
	change func()
}

func (m moving) BeginTx(ctx context.Context, o pgx.TxOptions) (pgx.Tx, error) {
	tx, err := m.DB.BeginTx(ctx, o)
	return &movingTx{Tx: tx, change: m.change}, err
}

// A movingTx makes the change when its first real query comes: the snapshot is taken.
type movingTx struct {
	pgx.Tx
	change func()
}

func (m *movingTx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if m.change != nil {
		m.change()
		m.change = nil
	}
	return m.Tx.Query(ctx, sql, args...)
}

func TestACatalogThatChangesWhileItIsReadIsReadAnew(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, `
		CREATE TABLE a (id int, x int); ALTER TABLE a ENABLE ROW LEVEL SECURITY;
		COMMENT ON TABLE a IS '@subscribe';
		CREATE POLICY p ON a USING (x > 0)`)
	conn := connect(t, db, db.Login(t, "svc"))
	changes := 0
	d, err := introspect.Load(t.Context(), moving{conn, func() {
		if changes++; changes < 3 {
			db.Exec(t, fmt.Sprintf(`ALTER TABLE a RENAME COLUMN x TO x%d; ALTER TABLE a RENAME COLUMN x%[1]d TO x`, changes))
			db.Exec(t, `ALTER TABLE a RENAME COLUMN x TO y; ALTER TABLE a RENAME COLUMN id TO x; ALTER TABLE a RENAME COLUMN y TO id`)
		}
	}}, introspect.Config{Schemas: []string{"public"}})
	if err != nil {
		t.Fatal(err)
	}
	if changes < 3 {
		t.Errorf("%d reads: the changed catalog was taken for the one of the snapshot", changes)
	}
	a := table(t, d, "a")
	if want := "(" + a.Columns[1].Name + " > 0)"; a.Policies[0].Using != want {
		t.Errorf("policy %s, want %s", a.Policies[0].Using, want)
	}
	_, err = introspect.Load(t.Context(), moving{conn, func() {
		db.Exec(t, `ALTER TABLE a ADD COLUMN z int; ALTER TABLE a DROP COLUMN z`)
	}}, introspect.Config{Schemas: []string{"public"}})
	if err == nil {
		t.Error("a catalog that changes for ever was taken")
	}
}
