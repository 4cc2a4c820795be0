package introspect

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rowtide/rowtide/schema"
)

// access asks what the roles may do. Nothing is derived from membership or attributes: Postgres
// answers. A policy counts for the roles that have the privileges of one that it names (R03);
// role 0 is PUBLIC.
func (r *reader) access(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
SELECT c.oid, r.rolname::text,
       coalesce(has_schema_privilege(r.oid, c.relnamespace, 'USAGE'), false),
       p.every,
       CASE WHEN p.every THEN '{}' ELSE ARRAY(SELECT a.attnum FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
           AND has_column_privilege(r.oid, c.oid, a.attnum, 'SELECT')) END,
       ARRAY(SELECT p.polname::text FROM pg_policy p WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*')
         AND EXISTS (SELECT FROM unnest(p.polroles) m(role)
           WHERE m.role = 0 OR pg_has_role(r.oid, m.role, 'USAGE')))
FROM pg_class c CROSS JOIN pg_roles r
CROSS JOIN LATERAL (SELECT coalesce(has_table_privilege(r.oid, c.oid, 'SELECT'), false)) p(every)
WHERE c.oid = ANY($1::oid[]) AND r.rolname = ANY($2::text[])`, r.oids, r.db.Roles)
	if err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	var (
		oid          uint32
		role         string
		usage, every bool
		columns      []int16
		policies     []string
	)
	_, err = pgx.ForEachRow(rows, []any{&oid, &role, &usage, &every, &columns, &policies}, func() error {
		t := &r.db.Tables[r.table[oid]]
		a := schema.Access{Usage: usage, Columns: make([]bool, len(t.Columns))}
		for i := range t.Columns {
			a.Columns[i] = every || slices.Contains(columns, t.Columns[i].Number)
		}
		for i := range t.Policies {
			if slices.Contains(policies, t.Policies[i].Name) {
				a.Policies = append(a.Policies, i)
			}
		}
		if t.Access == nil {
			t.Access = make(map[string]schema.Access, len(r.db.Roles))
		}
		t.Access[role] = a
		return nil
	})
	if err != nil {
		return fmt.Errorf("privileges: %w", err)
	}
	return nil
}

// rowSecurity asks row_security_active as each role: superusers, BYPASSRLS, owners and FORCE are
// all in its answer (R04).
func (r *reader) rowSecurity(ctx context.Context) error {
	for _, role := range r.db.Roles {
		if err := r.assume(ctx, role); err != nil {
			return err
		}
		rows, err := r.tx.Query(ctx, `SELECT t.oid FROM unnest($1::oid[]) t(oid) WHERE row_security_active(t.oid)`, r.oids)
		if err != nil {
			return fmt.Errorf("row security of role %q: %w", role, err)
		}
		var oid uint32
		_, err = pgx.ForEachRow(rows, []any{&oid}, func() error {
			t := &r.db.Tables[r.table[oid]]
			a := t.Access[role]
			a.RowSecurity = true
			t.Access[role] = a
			return nil
		})
		if err != nil {
			return fmt.Errorf("row security of role %q: %w", role, err)
		}
	}
	return nil
}

// insufficientPrivilege is the SQLSTATE 42501.
const insufficientPrivilege = "42501"

func (r *reader) assume(ctx context.Context, role string) error {
	_, err := r.tx.Exec(ctx, "SET LOCAL ROLE "+pgx.Identifier{role}.Sanitize())
	var pe *pgconn.PgError
	if errors.As(err, &pe) && pe.Code == insufficientPrivilege {
		return fmt.Errorf("the login may not act as role %q: GRANT %s TO the login, or run `rowtide setup` again: %w",
			role, pgx.Identifier{role}.Sanitize(), err)
	}
	if err != nil {
		return fmt.Errorf("act as role %q: %w", role, err)
	}
	return nil
}
