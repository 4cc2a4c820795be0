package doctor

import (
	"context"
	"fmt"
	"slices"

	"github.com/rowtide/rowtide/authz/rls"
)

// isAsked tells whether policies of others ask a table, by its quoted name.
func (e *exam) isAsked(table string) bool {
	return slices.ContainsFunc(e.asked, func(t rls.AskedTable) bool { return t.SQLName() == table })
}

// askedInstead is what comes of a table that is not kept.
const askedInstead = ": PostgreSQL is asked about each change, and a change of it alone delivers nothing"

// keeping looks at what keeps tables that policies ask from being kept in the service.
func (e *exam) keeping(ctx context.Context) error {
	if len(e.asked) == 0 {
		return nil
	}
	for _, look := range []func(context.Context) error{e.readers, e.lookedUp} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	var total, most int64
	var largest string
	for _, t := range e.asked {
		bytes, err := e.kept(ctx, t)
		if err != nil {
			return err
		}
		if total += bytes; bytes > most {
			most, largest = bytes, t.SQLName()
		}
	}
	if total > rls.DefaultSetBytes {
		e.tell(Note, "asked", "table "+largest, fmt.Sprintf("policies ask it, and it would take about %s of the memory of the service; %s are for all such tables%s",
			bytes(most), bytes(rls.DefaultSetBytes), askedInstead))
	}
	return nil
}

// kept looks at one table, and gives about what it takes in the memory of the service.
func (e *exam) kept(ctx context.Context, t rls.AskedTable) (memory int64, err error) {
	full, _ := e.publicationNames()
	var identity, member, listed, bound bool
	var owner string
	var count, width int64
	err = rows(ctx, e.conn, "tables that policies ask", `
SELECT c.relreplident = 'f', r.oid IS NOT NULL, coalesce(r.prattrs IS NOT NULL OR r.prqual IS NOT NULL, false), coalesce(o.rolname::text, ''),
       coalesce(c.relrowsecurity AND NOT o.rolsuper AND NOT o.rolbypassrls AND (c.relforcerowsecurity OR NOT pg_has_role(o.oid, c.relowner, 'USAGE')), false),
       greatest(c.reltuples, 0)::int8, (SELECT coalesce(sum(coalesce(s.avg_width, 16)), 0) FROM unnest($3::text[]) k(name)
         LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = c.relname AND s.attname = k.name)::int8
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid AND p.pubname = $2) ON r.prrelid = c.oid
LEFT JOIN pg_proc f ON f.proname = 'rows_of' AND f.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'rowtide')
LEFT JOIN pg_roles o ON o.oid = f.proowner
WHERE c.oid = $1`, []any{t.OID, full, t.Columns}, []any{&identity, &member, &listed, &owner, &bound, &count, &width}, func() {
		e.published(t, identity, member, listed)
		if bound {
			e.tell(Warning, "asked", "table "+t.SQLName(), "policies ask it, and its row-level security binds "+owner+", the owner of rowtide.rows_of, so it cannot be read"+askedInstead,
				"give "+owner+" BYPASSRLS, or have one who has it run rowtide setup")
		}
	})
	return t.Bytes(count, width), err
}

// published says what is missing in the publication. Tables that are served as well, with full
// identity, are told of as those.
func (e *exam) published(t rls.AskedTable, identity, member, listed bool) {
	for _, w := range e.catalog.Wanted() {
		if w.OID == t.OID && w.NeedsFullIdentity() {
			return
		}
	}
	full, _ := e.publicationNames()
	add := "ALTER PUBLICATION " + name(full) + " ADD TABLE ONLY " + t.SQLName()
	drop := "ALTER PUBLICATION " + name(full) + " DROP TABLE ONLY " + t.SQLName()
	var fix []string
	if !identity {
		fix = append(fix, "ALTER TABLE "+t.SQLName()+" REPLICA IDENTITY FULL")
	}
	switch {
	case listed:
		fix = append(fix, drop, add)
	case !member:
		fix = append(fix, add)
	}
	if fix != nil {
		e.tell(Warning, "asked", "table "+t.SQLName(), "policies ask it, and it is not in publication "+full+" as a whole with full replica identity"+askedInstead, fix...)
	}
}

// manyRows is where reading a whole table begins to be felt.
const manyRows = 10_000

// lookedUp looks for indexes by which rows are found whom a change of membership uncovers or hides.
func (e *exam) lookedUp(ctx context.Context) error {
	by := rls.LookedUp(e.catalog.Wanted(), e.cfg.Schemas)
	for _, t := range e.catalog.Wanted() {
		var column string
		err := rows(ctx, e.conn, "indexes", `
SELECT k.name FROM pg_class c CROSS JOIN unnest($2::text[]) k(name) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = k.name
WHERE c.oid = $1 AND c.relkind = 'r' AND c.reltuples > $3 AND NOT EXISTS (
  SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = a.attnum) ORDER BY 1`,
			[]any{t.OID, by[t], manyRows}, []any{&column}, func() {
				e.tell(Note, "asked", "table "+t.SQLName(), "each change of what its policies ask reads all of it: there is no index on "+name(column),
					"CREATE INDEX CONCURRENTLY ON "+t.SQLName()+" ("+name(column)+")")
			})
		if err != nil {
			return err
		}
	}
	return nil
}

// readers looks at the functions that read those tables for the login.
func (e *exam) readers(ctx context.Context) error {
	var function string
	var there bool
	return rows(ctx, e.conn, "functions of Rowtide", `
SELECT 'rowtide.' || w.name || '(' || w.args || ')', f.oid IS NOT NULL FROM (VALUES ('rows_of', 'oid, text[]'), ('rows_near', 'oid, text[], jsonb, bigint')) w(name, args)
LEFT JOIN pg_proc f ON f.proname = w.name AND f.pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'rowtide')
WHERE f.oid IS NULL OR $1 <> '' AND NOT has_function_privilege($1::name, f.oid, 'EXECUTE')`,
		[]any{e.login}, []any{&function, &there}, func() {
			if !there {
				e.tell(Warning, "installation", "function "+function, "it is not there, so what policies ask of other tables cannot be read"+askedInstead, "rowtide migrate up --admin-url URL")
				return
			}
			e.tell(Warning, "installation", "function "+function, "login "+e.login+" may not execute it, so what policies ask of other tables cannot be read"+askedInstead,
				"GRANT EXECUTE ON FUNCTION "+function+" TO "+name(e.login))
		})
}
