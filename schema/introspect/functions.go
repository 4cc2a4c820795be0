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

// functions reads the functions that policies call and that may be read in place of the call.
//
// A body that is text is parsed by Postgres at each call, with the search_path of the call. One
// that uses a word which another schema has as well, as a function or operator over types of
// pg_catalog, or as a type, might mean that: it is left out. Operators are looked for by their
// characters, wherever they stand.
func (r *reader) functions(ctx context.Context) error {
	rows, err := r.tx.Query(ctx, `
WITH called AS MATERIALIZED (
  SELECT DISTINCT q.polrelid, d.refobjid AS oid FROM pg_policy q
  JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = q.oid AND d.refclassid = 'pg_proc'::regclass
  WHERE q.polrelid = ANY($1::oid[]) AND q.polcmd IN ('r', '*')
), shadow AS MATERIALIZED (
  `+shadows+`
)
SELECT c.polrelid, n.nspname::text, p.proname::text,
       ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(a, i) ORDER BY i),
       coalesce(p.proargnames, '{}'), format_type(p.prorettype, NULL),
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), p.prosqlbody IS NOT NULL, p.proisstrict,
       ARRAY(SELECT o.rolname::text FROM pg_roles o WHERE o.rolname = ANY($2::text[]) AND has_function_privilege(o.oid, p.oid, 'EXECUTE'))
FROM called c JOIN pg_proc p ON p.oid = c.oid JOIN pg_namespace n ON n.oid = p.pronamespace
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
	_, err = pgx.ForEachRow(rows, []any{&oid, &f.Schema, &f.Name, &f.Args, &f.Names, &f.Result, &f.Body, &f.Deparsed, &f.Strict, &f.Roles}, func() error {
		t := &r.db.Tables[r.table[oid]]
		t.Functions = append(t.Functions, f)
		f.Args, f.Names, f.Roles = nil, nil, nil
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
// deparsed as theirs is.
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
       pg_encoding_to_char((SELECT encoding FROM pg_database WHERE datname = current_database())) = 'UTF8'
FROM pg_roles o WHERE o.rolname = ANY($1::text[])`, r.db.Roles)
	if err != nil {
		return fmt.Errorf("built-in functions: %w", err)
	}
	var role string
	var builtins, utf8 bool
	_, err = pgx.ForEachRow(rows, []any{&role, &builtins, &utf8}, func() error {
		for i := range r.db.Tables {
			t := &r.db.Tables[i]
			a := t.Access[role]
			a.Builtins = builtins
			t.Access[role] = a
			t.UTF8 = utf8
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("built-in functions: %w", err)
	}
	return nil
}
