package migrations

import (
	"context"
	"fmt"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"
)

// memberships lets the login take the roles on, without inheriting anything from them.
func (s *session) memberships(ctx context.Context, login string, roles []string) error {
	var version int
	if err := s.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&version); err != nil {
		return fmt.Errorf("read version: %w", err)
	}
	option := ""
	if version >= 160000 {
		option = " WITH INHERIT FALSE, SET TRUE"
	}
	for _, role := range roles {
		what := fmt.Sprintf("membership of %s in %s", login, role)
		// The options of a membership came with version 16.
		there, err := s.exists(ctx, `SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles l ON l.oid = m.member
			WHERE r.rolname = $1 AND l.rolname = $2
			HAVING bool_or(coalesce((to_jsonb(m) ->> 'set_option')::bool, true))
			AND NOT bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::bool, false))`, role, login)
		if err != nil {
			return err
		}
		if there {
			s.already(what)
			continue
		}
		err = s.do(ctx, what, fmt.Sprintf("GRANT %s TO %s%s", ident(role), ident(login), option), remember("membership", role, login))
		if err != nil {
			return err
		}
	}
	return nil
}

// grants opens the database and Rowtide's own schema to the login.
func (s *session) grants(ctx context.Context, login string) error {
	var database string
	var connect, own bool
	err := s.conn.QueryRow(ctx, `
SELECT current_database()::text,
       coalesce((SELECT has_database_privilege(r.oid, current_database(), 'CONNECT') FROM pg_roles r WHERE r.rolname = $1),
         (SELECT d.datacl IS NULL OR EXISTS (SELECT FROM aclexplode(d.datacl) a WHERE a.grantee = 0 AND a.privilege_type = 'CONNECT')
          FROM pg_database d WHERE d.datname = current_database())),
       EXISTS (SELECT FROM pg_roles r JOIN pg_namespace n ON n.nspname = 'rowtide' JOIN pg_class c ON c.relnamespace = n.oid
         WHERE r.rolname = $1 AND c.relname = 'installation'
         AND has_schema_privilege(r.oid, n.oid, 'USAGE') AND has_table_privilege(r.oid, c.oid, 'SELECT')
         AND (SELECT count(*) = 3 FROM pg_proc f WHERE f.pronamespace = n.oid AND f.proname IN ('rows_of', 'rows_near', 'revoke') AND has_function_privilege(r.oid, f.oid, 'EXECUTE'))
         AND (SELECT count(*) = 2 FROM pg_class t JOIN (VALUES ('audit', 'INSERT'), ('revocations', 'SELECT')) AS needed(name, privilege) ON needed.name = t.relname
           WHERE t.relnamespace = n.oid AND has_table_privilege(r.oid, t.oid, needed.privilege)))`, login).Scan(&database, &connect, &own)
	if err != nil {
		return fmt.Errorf("read privileges: %w", err)
	}
	what := fmt.Sprintf("CONNECT on database %s for %s", database, login)
	if connect {
		s.already(what)
	} else if err := s.do(ctx, what, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s", ident(database), ident(login)), remember("connect", database, login)); err != nil {
		return err
	}
	what = fmt.Sprintf("what %s needs of schema rowtide", login)
	if own {
		s.already(what)
		return nil
	}
	return s.do(ctx, what,
		"GRANT USAGE ON SCHEMA rowtide TO "+ident(login),
		"GRANT SELECT ON rowtide.installation, rowtide.revocations TO "+ident(login),
		"GRANT INSERT ON rowtide.audit TO "+ident(login),
		"GRANT EXECUTE ON FUNCTION rowtide.rows_of(oid, text[]), rowtide.rows_near(oid, text[], jsonb, bigint), rowtide.revoke(text, text, timestamptz, timestamptz) TO "+ident(login),
		remember("installation", login, ""))
}

// grantAgain opens what is new in Rowtide's own schema to the logins that it was opened to.
func (s *session) grantAgain(ctx context.Context) error {
	made, err := s.created(ctx)
	if err != nil {
		return err
	}
	for _, login := range names(made, "installation") {
		there, err := s.exists(ctx, `SELECT FROM pg_roles WHERE rolname = $1`, login)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if err := s.grants(ctx, login); err != nil {
			return err
		}
	}
	return nil
}

// A schemaNeed is a schema that the login has to have USAGE on.
type schemaNeed struct {
	Schema string
	Has    bool
}

// usage opens the schemas to the login that it needs.
func (s *session) usage(ctx context.Context, cfg SyncConfig) error {
	if cfg.Login == "" {
		return nil
	}
	needs, err := s.schemaNeeds(ctx, cfg)
	if err != nil {
		return err
	}
	for _, n := range needs {
		what := fmt.Sprintf("USAGE on schema %s for %s", n.Schema, cfg.Login)
		if n.Has {
			s.already(what)
			continue
		}
		grant := fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s", ident(n.Schema), ident(cfg.Login))
		err := s.do(ctx, what, grant, remember("usage", n.Schema, cfg.Login))
		if code(err) == pgerrcode.InsufficientPrivilege {
			s.step(Refused, what, "only its owner can: run, as the owner, "+grant, grant)
		} else if err != nil {
			return err
		}
	}
	return nil
}

// schemaNeeds are the served schemas, and those that the tables' policies name: policies are parsed
// as the login (R06), though evaluated under the role.
func (s *session) schemaNeeds(ctx context.Context, cfg SyncConfig) ([]schemaNeed, error) {
	schemas, names := make([]string, len(cfg.Tables)), make([]string, len(cfg.Tables))
	for i, t := range cfg.Tables {
		schemas[i], names[i] = t.Schema, t.Name
	}
	rows, err := s.conn.Query(ctx, `
WITH named(oid) AS (
  SELECT n.oid FROM pg_namespace n WHERE n.nspname = ANY($2::text[]) OR n.nspname = ANY($3::text[])
  UNION
  SELECT coalesce(f.pronamespace, c.relnamespace, t.typnamespace, o.oprnamespace)
  FROM unnest($3::text[], $4::text[]) w(schema, name)
  JOIN pg_namespace n ON n.nspname = w.schema
  JOIN pg_class k ON k.relnamespace = n.oid AND k.relname = w.name
  JOIN pg_policy p ON p.polrelid = k.oid AND p.polcmd IN ('r', '*')
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
  LEFT JOIN pg_proc f ON d.refclassid = 'pg_proc'::regclass AND f.oid = d.refobjid
  LEFT JOIN pg_class c ON d.refclassid = 'pg_class'::regclass AND c.oid = d.refobjid
  LEFT JOIN pg_type t ON d.refclassid = 'pg_type'::regclass AND t.oid = d.refobjid
  LEFT JOIN pg_operator o ON d.refclassid = 'pg_operator'::regclass AND o.oid = d.refobjid
)
SELECT n.nspname::text,
       coalesce((SELECT has_schema_privilege(r.oid, n.oid, 'USAGE') FROM pg_roles r WHERE r.rolname = $1),
         EXISTS (SELECT FROM aclexplode(n.nspacl) a WHERE a.grantee = 0 AND a.privilege_type = 'USAGE'))
FROM named JOIN pg_namespace n ON n.oid = named.oid ORDER BY 1`, cfg.Login, cfg.Schemas, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	needs, err := pgx.CollectRows(rows, pgx.RowToStructByPos[schemaNeed])
	if err != nil {
		return nil, fmt.Errorf("read schemas: %w", err)
	}
	return needs, nil
}
