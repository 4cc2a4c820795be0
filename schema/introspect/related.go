package introspect

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// reach is, where Related is asked for, a recursive common table expression: the relations that tables names, all that the policies for
// SELECT on them depend on, and so on. The body of a function in SQL is a text, which depends on
// nothing: what it may name is found by looking for the names of all relations and functions in
// it, so more is found than is meant. Nobody follows what is in pg_catalog.
func (c Config) reach(tables string) string {
	if !c.Related {
		return `reach(class, oid) AS (SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, t.oid FROM ` + tables + ` t)`
	}
	return `body AS MATERIALIZED (
  SELECT p.oid, pg_catalog.lower(coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)) AS text
  FROM pg_catalog.pg_proc p WHERE p.prolang = (SELECT l.oid FROM pg_catalog.pg_language l WHERE l.lanname = 'sql') AND p.oid >= 16384
), word AS MATERIALIZED (
  SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AS class, c.oid, pg_catalog.lower(c.relname::text) AS name FROM pg_catalog.pg_class c
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.oid >= 16384 AND c.relpersistence <> 't'
  UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, p.oid, pg_catalog.lower(p.proname::text) FROM pg_catalog.pg_proc p WHERE p.oid >= 16384
), asks AS MATERIALIZED (
  SELECT q.polrelid, d.refclassid AS class, d.refobjid AS oid FROM pg_catalog.pg_policy q JOIN pg_catalog.pg_depend d
    ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = q.oid
    AND d.refclassid IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass)
  WHERE q.polcmd IN ('r', '*')
), reach(class, oid) AS (
  SELECT 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, t.oid FROM ` + tables + ` t
  UNION
  SELECT x.class, x.oid FROM reach CROSS JOIN LATERAL (
    SELECT asks.class, asks.oid FROM asks WHERE reach.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND asks.polrelid = reach.oid
    UNION ALL
    SELECT word.class, word.oid FROM body JOIN word ON pg_catalog.strpos(body.text, word.name) > 0
    WHERE reach.class = 'pg_catalog.pg_proc'::pg_catalog.regclass AND body.oid = reach.oid
  ) x(class, oid)
)`
}

// related reads the functions that policies may call, and gives each annotated table what its
// policies may read. Tables that nobody annotated are not among the database's own.
func (r *reader) related(ctx context.Context) error {
	if !r.cfg.Related {
		return nil
	}
	oids := make([]uint32, len(r.db.Tables))
	for i := range r.db.Tables {
		oids[i], r.db.Tables[i].Trusted = r.db.Tables[i].OID, nil
	}
	rows, err := r.tx.Query(ctx, `
WITH RECURSIVE rel AS MATERIALIZED (SELECT unnest($1::oid[]) AS oid), `+r.cfg.reach("rel")+`, who AS MATERIALIZED (
  SELECT o.oid, o.rolname::text FROM pg_roles o WHERE o.rolname = ANY($2::text[])
    OR o.oid IN (SELECT p.proowner FROM reach JOIN pg_proc p ON p.oid = reach.oid WHERE reach.class = 'pg_proc'::regclass AND p.prosecdef)
), shadow AS MATERIALIZED (
  `+shadows+`
)
SELECT n.nspname::text, p.proname::text,
       ARRAY(SELECT format_type(a, NULL) FROM unnest(p.proargtypes::oid[]) WITH ORDINALITY u(a, i) ORDER BY i),
       coalesce(p.proargnames, '{}'), format_type(p.prorettype, NULL),
       coalesce(pg_get_function_sqlbody(p.oid), p.prosrc), p.prosqlbody IS NOT NULL, p.proisstrict,
       ARRAY(SELECT who.rolname FROM who WHERE has_function_privilege(who.oid, p.oid, 'EXECUTE')),
       ARRAY(SELECT who.rolname FROM who WHERE has_schema_privilege(who.oid, p.pronamespace, 'USAGE')),
       CASE WHEN p.prosecdef THEN pg_get_userbyid(p.proowner)::text ELSE '' END, p.proretset,
       coalesce((SELECT substr(s, strpos(s, '=') + 1) FROM unnest(p.proconfig) u(s) WHERE s LIKE 'search\_path=%'), ''),
       p.proconfig IS NOT NULL
FROM reach JOIN pg_proc p ON reach.class = 'pg_proc'::regclass AND p.oid = reach.oid
JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang
WHERE l.lanname = 'sql' AND p.prokind = 'f' AND p.provariadic = 0 AND p.proallargtypes IS NULL
  AND n.nspname <> 'pg_catalog'
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) s(setting) WHERE s.setting NOT LIKE 'search\_path=%')
  AND (p.prosqlbody IS NOT NULL OR NOT EXISTS (SELECT FROM shadow s WHERE strpos(CASE WHEN s.symbol THEN p.prosrc ELSE lower(p.prosrc) END, s.word) > 0))
ORDER BY 1, 2, 3`, oids, r.db.Roles)
	if err != nil {
		return fmt.Errorf("helper functions: %w", err)
	}
	out := &schema.Related{}
	var f schema.FunctionDef
	var path string
	_, err = pgx.ForEachRow(rows, []any{
		&f.Schema, &f.Name, &f.Args, &f.Names, &f.Result, &f.Body, &f.Deparsed, &f.Strict, &f.Roles, &f.Named, &f.Definer, &f.Set, &path, &f.Pathed,
	}, func() error {
		f.Path = splitPath(path)
		out.Functions = append(out.Functions, f)
		f.Args, f.Names, f.Roles, f.Named = nil, nil, nil, nil
		return nil
	})
	if err != nil {
		return fmt.Errorf("helper functions: %w", err)
	}
	if err := r.trusted(ctx, oids, out.Functions); err != nil {
		return err
	}
	for i := range r.db.Tables {
		out.Tables = append(out.Tables, &r.db.Tables[i])
	}
	out.Version = version(out)
	for i := range r.db.Tables {
		r.db.Tables[i].Related = out
	}
	return nil
}

// version changes with whatever may change the meaning of a policy that asks a table or calls a function.
// A table that no policy and no function can mean has no part in it: annotating one more resyncs nobody.
func version(related *schema.Related) string {
	var said strings.Builder
	h := sha256.New()
	for _, f := range related.Functions {
		fmt.Fprintf(h, "%+v", f)
		said.WriteString(strings.ToLower(f.Body))
	}
	for _, t := range related.Tables {
		for _, p := range t.Policies {
			said.WriteString(strings.ToLower(p.Using))
		}
	}
	for _, t := range related.Tables {
		// Inside of quotes a quote is doubled.
		if strings.Contains(said.String(), strings.ToLower(strings.ReplaceAll(t.Name, `"`, `""`))) {
			fmt.Fprintf(h, "%d %t %+v %+v %v", t.OID, t.RowSecurity, t.Policies, t.Access, t.Trusted)
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}

// splitPath reads a search_path as it stands in a function's settings. What is special in it, such as "$user", is no schema's name.
func splitPath(path string) []string {
	var out []string
	for _, part := range strings.Split(path, ",") {
		part = strings.TrimSpace(part)
		if len(part) > 1 && part[0] == '"' && part[len(part)-1] == '"' {
			part = strings.ReplaceAll(part[1:len(part)-1], `""`, `"`)
		}
		if part != "" {
			out = append(out, part)
		}
	}
	return out
}

// trusted finds the owners of functions with owner's rights whom no policy keeps from reading all
// of a table.
func (r *reader) trusted(ctx context.Context, oids []uint32, functions []schema.FunctionDef) error {
	var owners []string
	for _, f := range functions {
		if f.Definer != "" {
			owners = append(owners, f.Definer)
		}
	}
	rows, err := r.tx.Query(ctx, `
SELECT c.oid, o.rolname::text FROM pg_class c JOIN pg_roles o ON o.rolname = ANY($2::text[])
WHERE c.oid = ANY($1::oid[]) AND has_table_privilege(o.oid, c.oid, 'SELECT')
  AND has_schema_privilege(o.oid, c.relnamespace, 'USAGE')
  AND (NOT c.relrowsecurity OR o.rolsuper OR o.rolbypassrls OR NOT c.relforcerowsecurity AND pg_has_role(o.oid, c.relowner, 'USAGE'))`, oids, owners)
	if err != nil {
		return fmt.Errorf("owners of helper functions: %w", err)
	}
	var oid uint32
	var owner string
	_, err = pgx.ForEachRow(rows, []any{&oid, &owner}, func() error {
		t := &r.db.Tables[r.table[oid]]
		t.Trusted = append(t.Trusted, owner)
		return nil
	})
	if err != nil {
		return fmt.Errorf("owners of helper functions: %w", err)
	}
	return nil
}
