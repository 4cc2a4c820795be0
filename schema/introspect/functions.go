package introspect

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// shadows is a query of what a function's body could mean instead of what is in pg_catalog: the
// word that stands for it, and whether it is an operator.
const shadows = `SELECT p.oid, p.xmin, p.proname::pg_catalog.text AS word, false AS symbol FROM pg_catalog.pg_proc p
  WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace
    AND EXISTS (SELECT FROM pg_catalog.pg_proc b WHERE b.proname = p.proname AND b.pronamespace = 'pg_catalog'::pg_catalog.regnamespace)
  UNION ALL SELECT t.oid, t.xmin, t.typname::pg_catalog.text, false FROM pg_catalog.pg_type t
  WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
    AND EXISTS (SELECT FROM pg_catalog.pg_type b WHERE b.typname = t.typname AND b.typnamespace = 'pg_catalog'::pg_catalog.regnamespace)
  UNION ALL SELECT o.oid, o.xmin, o.oprname::pg_catalog.text, true FROM pg_catalog.pg_operator o
  WHERE o.oprnamespace <> 'pg_catalog'::pg_catalog.regnamespace AND NOT EXISTS (SELECT FROM pg_catalog.pg_type t
    WHERE t.oid IN (o.oprleft, o.oprright) AND t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace)`

// called are two common table expressions: the functions that roots call, and those that such a
// function calls in turn, by its dependencies or by a qualified name in its text. What merely looks like a
// name counts too.
func called(roots string) string {
	return `named AS MATERIALIZED (
  SELECT p.oid, pg_catalog.lower(n.nspname || '.' || p.proname) AS name FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
), called(root, oid) AS (
  ` + roots + `
  UNION SELECT c.root, x.oid FROM called c CROSS JOIN LATERAL (
    SELECT named.oid FROM pg_catalog.pg_proc p JOIN named ON pg_catalog.strpos(pg_catalog.lower(p.prosrc), named.name) > 0 WHERE p.oid = c.oid
    UNION ALL SELECT d.refobjid FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass
      AND d.objid = c.oid AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  ) x
)`
}

// policyCalls are the functions that the policies of tables $1 call, each with the policy.
const policyCalls = `SELECT q.oid, d.refobjid FROM pg_catalog.pg_policy q
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = q.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass
  WHERE q.polrelid = ANY($1::pg_catalog.oid[]) AND q.polcmd IN ('r', '*')`

// functions reads the functions that policies call and that may be read in place of the call.
//
// A body that is text is parsed by Postgres at each call, with the search_path of the call. One
// that uses a word which another schema has as well, as a function or operator over types of
// pg_catalog, or as a type, might mean that: it is left out. Operators are looked for by their
// characters, wherever they stand.
func (r *reader) functions(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
WITH RECURSIVE `+called(policyCalls)+`, shadow AS MATERIALIZED (
  `+shadows+`
)
SELECT c.polrelid, n.nspname::text, p.proname::text,
       ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(a, i) ORDER BY i),
       coalesce(p.proargnames, '{}'), format_type(p.prorettype, NULL),
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), p.prosqlbody IS NOT NULL, p.proisstrict,
       ARRAY(SELECT o.rolname::text FROM pg_roles o WHERE o.rolname = ANY($2::text[]) AND has_function_privilege(o.oid, p.oid, 'EXECUTE')),
       ARRAY(SELECT o.rolname::text FROM pg_roles o WHERE o.rolname = ANY($2::text[]) AND has_schema_privilege(o.oid, n.oid, 'USAGE'))
FROM (SELECT DISTINCT q.polrelid, called.oid FROM called JOIN pg_policy q ON q.oid = called.root) c JOIN pg_proc p ON p.oid = c.oid JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname = 'sql' AND p.prokind = 'f' AND NOT p.prosecdef AND NOT p.proretset AND p.provariadic = 0
  AND p.proallargtypes IS NULL
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s(setting) WHERE s.setting NOT LIKE 'search\_path=%')
  AND (p.prosqlbody IS NOT NULL OR NOT EXISTS (SELECT FROM shadow s WHERE strpos(CASE WHEN s.symbol THEN p.prosrc ELSE lower(p.prosrc) END, s.word) > 0))
ORDER BY 1, 2, 3, 4`, r.oids, r.db.Roles)
	if err != nil {
		return fmt.Errorf("functions: %w", err)
	}
	var oid uint32
	var f schema.FunctionDef
	_, err = pgx.ForEachRow(rows, []any{&oid, &f.Schema, &f.Name, &f.Args, &f.Names, &f.Result, &f.Body, &f.Deparsed, &f.Strict, &f.Roles, &f.Named}, func() error {
		t := &r.db.Tables[r.table[oid]]
		t.Functions = append(t.Functions, f)
		f.Args, f.Names, f.Roles, f.Named = nil, nil, nil, nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("functions: %w", err)
	}
	return nil
}

// builtins asks whether the roles may execute what is everybody's by default: an operator's
// function is checked as any other. Functions with privileges of their own since initdb are not
// everybody's. Nobody may have put a function beside one of theirs. A cast that somebody made may stand between types of pg_catalog, or an enum: it is
// deparsed as theirs is. The encoding and the locale are the database's.
func (r *reader) builtins(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
SELECT o.rolname::text, NOT EXISTS (
         SELECT FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proacl IS NOT NULL
           AND NOT EXISTS (SELECT FROM pg_init_privs i WHERE i.classoid = 'pg_proc'::regclass AND i.objoid = p.oid)
           AND NOT has_function_privilege(o.oid, p.oid, 'EXECUTE'))
         AND NOT EXISTS (SELECT FROM pg_proc p JOIN pg_proc b ON b.proname = p.proname AND b.pronamespace = p.pronamespace AND b.oid < 16384
           WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.oid >= 16384)
         AND NOT EXISTS (SELECT FROM pg_cast k WHERE k.oid >= 16384 AND NOT EXISTS (
           SELECT FROM pg_depend d WHERE d.classid = 'pg_cast'::regclass AND d.objid = k.oid AND d.deptype = 'e')),
       pg_encoding_to_char(d.encoding) = 'UTF8',
       -- The provider's locale; the column has had other names.
       coalesce(CASE d.datlocprovider WHEN 'c' THEN d.datctype ELSE coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') END
         ~ '^(C|POSIX|PG_UNICODE_FAST|und|(en|de|fr|es|it|pt|nl|sv|da|nb|nn|fi|pl|cs|ja|zh|ko|ru|uk))([-_.@].*)?$', false)
FROM pg_roles o CROSS JOIN pg_database d WHERE d.datname = current_database() AND o.rolname = ANY($1::text[])`, r.db.Roles)
	if err != nil {
		return fmt.Errorf("built-in functions: %w", err)
	}
	var role string
	var builtins, utf8, usual bool
	_, err = pgx.ForEachRow(rows, []any{&role, &builtins, &utf8, &usual}, func() error {
		for _, oid := range r.oids {
			t := &r.db.Tables[r.table[oid]]
			a := t.Access[role]
			a.Builtins = builtins
			t.Access[role] = a
			t.UTF8, t.UsualCase = utf8, usual
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("built-in functions: %w", err)
	}
	return nil
}
