package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/migrations"
)

// A role is what matters of one.
type role struct {
	login, super, inherit, bypass, replication, createRole bool
	reads                                                  bool // member of pg_read_all_data
}

func (e *exam) readRole(ctx context.Context, who string) (*role, error) {
	var r role
	err := e.conn.QueryRow(ctx, `
SELECT rolcanlogin, rolsuper, rolinherit, rolbypassrls, `+migrations.MayReplicate+`, rolcreaterole,
       EXISTS (SELECT FROM pg_auth_members m WHERE m.member = r.oid AND m.roleid = 'pg_read_all_data'::regrole)
FROM pg_roles r WHERE rolname = $1`, who).
		Scan(&r.login, &r.super, &r.inherit, &r.bypass, &r.replication, &r.createRole, &r.reads)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read role %s: %w", who, err)
	}
	return &r, nil
}

// roles looks at the allow-list (S32).
func (e *exam) roles(ctx context.Context) error {
	if len(e.cfg.Roles) == 0 {
		e.tell(Warning, "role", "--roles", "no role is named, so what clients may see is not examined", "give the --roles that serve gets")
	}
	for _, who := range e.cfg.Roles {
		r, err := e.readRole(ctx, who)
		if err != nil {
			return err
		}
		if r == nil {
			e.tell(Fatal, "role", "role "+name(who), "it does not exist", "CREATE ROLE "+name(who)+" NOLOGIN")
			continue
		}
		for _, c := range []struct {
			is        bool
			what, not string
		}{
			{r.super, "it is a superuser, whom no policy binds", "NOSUPERUSER"},
			{r.bypass, "it has BYPASSRLS, so no policy binds it", "NOBYPASSRLS"},
			{r.replication, "it has REPLICATION, so it can read all changes", "NOREPLICATION"},
		} {
			if c.is {
				e.tell(Fatal, "role", "role "+name(who), c.what, "ALTER ROLE "+name(who)+" "+c.not)
			}
		}
		if r.reads {
			e.tell(Warning, "role", "role "+name(who), "it is a member of pg_read_all_data: no grant keeps a table or a column from it",
				"REVOKE pg_read_all_data FROM "+name(who))
		}
	}
	return nil
}

// loginFitness looks at the service login: it may do what the service does, and nothing else (S50).
func (e *exam) loginFitness(ctx context.Context) error {
	if e.login == "" {
		return nil
	}
	r, err := e.readRole(ctx, e.login)
	if err != nil || r == nil {
		return err
	}
	before := len(e.findings)
	object, alter := "login "+name(e.login), "ALTER ROLE "+name(e.login)+" "
	for _, c := range []struct {
		is        bool
		what, fix string
	}{
		{r.super, "it is a superuser, whom no policy binds", alter + "NOSUPERUSER"},
		{r.bypass, "it has BYPASSRLS: a policy that resets the role would see all rows", alter + "NOBYPASSRLS"},
		{r.createRole, "it has CREATEROLE, more than the service needs", alter + "NOCREATEROLE"},
		{!r.replication && !r.super, "it lacks REPLICATION, so it cannot read the log", e.host.Host.ReplicationSQL(e.login)},
	} {
		if c.is {
			e.tell(Fatal, "login", object, c.what, c.fix)
		}
	}
	if !r.super {
		if err := e.memberships(ctx, object); err != nil {
			return err
		}
	}
	if e.cfg.Running || len(e.findings) > before || slices.ContainsFunc(e.findings, func(f Finding) bool { return f.Check == "role" && f.Severity == Fatal }) {
		return nil
	}
	// What is left is told in one line: among it a replication connection, which no query can
	// stand for.
	err = migrations.CheckLogin(ctx, migrations.LoginConfig{URL: e.cfg.DatabaseURL, Roles: e.cfg.Roles})
	var unfit *migrations.UnfitError
	switch {
	case errors.As(err, &unfit):
		e.tell(Fatal, "login", object, unfit.Problems[0], unfit.Fix)
	case err != nil && ctx.Err() == nil:
		e.tell(Fatal, "login", object, err.Error())
	}
	return ctx.Err()
}

// memberships looks at how the login is a member of the allow-list.
func (e *exam) memberships(ctx context.Context, object string) error {
	for _, who := range e.cfg.Roles {
		var there, set, inherits bool
		var version int
		err := e.conn.QueryRow(ctx, `
SELECT current_setting('server_version_num')::int, count(*) > 0,
       coalesce(bool_or(pg_has_role($1::name, oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)), false),
       coalesce(bool_or(pg_has_role($1::name, oid, 'USAGE')), false)
FROM pg_roles WHERE rolname = $2`, e.login, who).Scan(&version, &there, &set, &inherits)
		if err != nil {
			return fmt.Errorf("read membership in %s: %w", who, err)
		}
		grant := "GRANT " + name(who) + " TO " + name(e.login)
		quiet := "ALTER ROLE " + name(e.login) + " NOINHERIT"
		if version >= 160000 {
			grant += " WITH INHERIT FALSE, SET TRUE"
			quiet = grant
		}
		if there && !set {
			e.tell(Fatal, "login", object, "it may not act as "+who, grant)
		}
		if there && inherits {
			e.tell(Fatal, "login", object, "it inherits the rights of "+who+", which a policy could use for others", quiet)
		}
	}
	return nil
}

// schemas looks at who may make objects in served schemas, and whether the login may enter those
// that it has to.
func (e *exam) schemas(ctx context.Context) error {
	var space, who string
	var public, missing bool
	err := rows(ctx, e.conn, "schemas", `
SELECT w.name, n.oid IS NULL, coalesce(r.rolname::text, ''),
       EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CREATE')
FROM unnest($1::text[]) w(name) LEFT JOIN pg_namespace n ON n.nspname = w.name
LEFT JOIN pg_roles r ON r.rolname = ANY($2::text[]) AND NOT r.rolsuper AND has_schema_privilege(r.oid, n.oid, 'CREATE')
WHERE n.oid IS NULL OR r.oid IS NOT NULL ORDER BY 1, 3`,
		[]any{e.cfg.Schemas, e.cfg.Roles}, []any{&space, &missing, &who, &public}, func() {
			if missing {
				e.tell(Warning, "schema", "schema "+name(space), "it does not exist", "correct --schemas, or CREATE SCHEMA "+name(space))
				return
			}
			from := name(who)
			if public {
				from = "PUBLIC"
			}
			e.tell(Warning, "schema", "schema "+name(space), who+" may create objects in it, and put them before those that policy functions mean",
				"REVOKE CREATE ON SCHEMA "+name(space)+" FROM "+from)
		})
	if err != nil || e.login == "" {
		return err
	}
	return e.loginUsage(ctx)
}

// loginUsage: policies are parsed as the login (R06), though evaluated under the role.
func (e *exam) loginUsage(ctx context.Context) error {
	oids := make([]uint32, 0, len(e.database.Tables))
	for _, t := range e.database.Tables {
		oids = append(oids, t.OID)
	}
	var space string
	return rows(ctx, e.conn, "schemas", `
WITH named(oid) AS (
  SELECT n.oid FROM pg_namespace n WHERE n.nspname = ANY($2::text[])
  UNION
  SELECT coalesce(f.pronamespace, c.relnamespace, t.typnamespace, o.oprnamespace)
  FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
  LEFT JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
  LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
  LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
  LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
  WHERE p.polrelid = ANY($3::oid[]) AND p.polcmd IN ('r', '*')
)
SELECT n.nspname::text FROM named JOIN pg_namespace n ON n.oid = named.oid
WHERE NOT has_schema_privilege($1::name, n.oid, 'USAGE') ORDER BY 1`,
		[]any{e.login, e.cfg.Schemas, oids}, []any{&space}, func() {
			e.tell(Fatal, "schema", "schema "+name(space), "login "+e.login+" may not use it: policies that name it cannot be asked",
				"GRANT USAGE ON SCHEMA "+name(space)+" TO "+name(e.login))
		})
}
