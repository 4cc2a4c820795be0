package rowtide_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

// TestNamesAreNeverTakenForMore has schemas and tables whose names, written one behind the other with a dot, are the
// same; names that would be more than one in the options of the stream, in SQL and in patterns of a bus; and a
// publication of such a name. Everybody follows their own table, and gets nothing of another.
//
// Covers S64.
func TestNamesAreNeverTakenForMore(t *testing.T) {
	t.Parallel()
	tables := []string{
		`"a"."b.c"`, `"a.b"."c"`, `"*"."x"`, `"*"."*"`, `">"."x y"`, `"a""b"."it's"`, `"$1"."%s"`, `"-- "."\"`, `"a/b"."x"`, `"public.x"."pg_class"`,
	}
	db := pgtest.New(t)
	role := db.Role(t, "web_user")
	var ddl strings.Builder
	var schemas []string
	for i, name := range tables {
		schema := name[1:strings.LastIndex(name, `"."`)]
		fmt.Fprintf(&ddl, `CREATE SCHEMA IF NOT EXISTS "%[1]s"; GRANT USAGE ON SCHEMA "%[1]s" TO %[2]s; CREATE TABLE %[3]s (id int PRIMARY KEY, owner text); GRANT SELECT ON %[3]s TO %[2]s;
			ALTER TABLE %[3]s ENABLE ROW LEVEL SECURITY; CREATE POLICY "%[4]d""." ON %[3]s USING (owner = nullif(current_setting('request.jwt.claims', true), '')::json ->> 'sub' AND id / 100 = %[4]d);
			COMMENT ON TABLE %[3]s IS '@subscribe(field: "t%[4]d", type: "T%[4]d")';`, schema, role, name, i)
		schemas = append(schemas, strings.ReplaceAll(schema, `""`, `"`))
	}
	db.Exec(t, ddl.String())
	const publication = `it's "one","two",three\`
	report, err := rowtide.Setup(t.Context(), rowtide.SetupConfig{
		AdminURL: db.Admin, Roles: []string{role}, Login: "login_" + db.Name, Slot: "slot_" + db.Name, Schemas: schemas, Publication: publication, Yes: true,
	})
	if err != nil {
		t.Fatalf("set up: %v\n%s", err, report)
	}
	dropLogin(t, db)
	s := start(t, rowtide.Config{
		DatabaseURL: report.DatabaseURL, Roles: []string{role}, JWTSecret: testSecret, Slot: "slot_" + db.Name, Schemas: schemas, Publication: publication, Logger: testLogger(t),
	})
	var mirrors []*mirror
	for i := range tables {
		mirrors = append(mirrors, follow(t, s.dial(t, role, map[string]any{"sub": "ana"}), fmt.Sprintf("subscription { t%d(snapshot: true) { kind rowId reason row { id owner } } }", i)))
	}
	conn, err := pgx.Connect(t.Context(), db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for i, name := range tables {
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("INSERT INTO %s SELECT n, 'ana' FROM generate_series(0, 1099) n; UPDATE %[1]s SET owner = 'ben' WHERE id %% 2 = 1; INSERT INTO %[1]s VALUES (%[2]d, 'ana') ON CONFLICT (id) DO UPDATE SET owner = 'ana'", name, i*100+99)); err != nil {
			t.Fatal(err)
		}
	}
	for i, m := range mirrors {
		m.until(t, i*100+99)
		want := asRole(t, conn, role, "ana", "SELECT json_build_object('id', id, 'owner', owner) FROM "+tables[i])
		if d := m.differs(want); d != "" || len(want) != 51 || m.ended != "" {
			t.Errorf("%s, of which SELECT gives %d rows: %s %s", tables[i], len(want), m.ended, d)
		}
	}
}
