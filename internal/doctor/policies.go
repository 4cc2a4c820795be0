package doctor

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgerrcode"
	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
	"github.com/rowtide/rowtide/schema/introspect"
)

// policies looks at what policies say, and asks PostgreSQL whether they can be asked.
func (e *exam) policies(ctx context.Context) error {
	for _, t := range e.catalog.Wanted() {
		for _, p := range t.Policies {
			e.sessionUser(t, p)
		}
		for _, who := range e.database.Roles {
			if a := t.Access[who]; a.Usage && slices.Contains(a.Columns, true) {
				if err := e.ask(ctx, t, who, slices.Index(a.Columns, true)); err != nil {
					return err
				}
			}
		}
	}
	if err := e.systemColumns(ctx); err != nil {
		return err
	}
	return e.moments(ctx)
}

// moments: policies are judged when a change comes.
func (e *exam) moments(ctx context.Context) error {
	moments, err := introspect.Moments(ctx, e.conn, e.wantedOIDs())
	if err != nil {
		return err
	}
	for _, m := range moments {
		for _, t := range e.catalog.Wanted() {
			switch object := "policy " + name(m.Policy) + " on " + t.SQLName(); {
			case t.OID != m.Table:
			case m.Clock != "":
				e.tell(Note, "policy_clock", object, m.String(), "where rows have to go when their time is over, let a job change a column of theirs, and ask that one")
			default:
				e.tell(Warning, "policy_lookup", object, m.String(), "give the function the columns of the row that it needs instead of the row's key")
			}
		}
	}
	return nil
}

// askTimeout bounds planning, in which stable functions run.
const askTimeout = "SET LOCAL statement_timeout = '3s'"

// ask plans a query as the role: rewriting it is what finds recursion, and privileges that
// policies lack are found before the first row.
func (e *exam) ask(ctx context.Context, t *schema.TableDef, who string, column int) error {
	tx, err := e.asker.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("ask as role %s: %w", who, err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	if _, err := tx.Exec(ctx, askTimeout+"; SET LOCAL ROLE "+pgx.Identifier{who}.Sanitize()); err != nil {
		return fmt.Errorf("ask as role %s: %w", who, err)
	}
	_, err = tx.Exec(ctx, "SELECT "+pgx.Identifier{t.Columns[column].Name}.Sanitize()+" FROM "+pgx.Identifier{t.Schema, t.Name}.Sanitize()+" LIMIT 0")
	state, message := code(err)
	object := "table " + t.SQLName()
	switch {
	case err == nil:
	case state == "":
		return fmt.Errorf("ask as role %s: %w", who, err)
	case state == pgerrcode.InvalidObjectDefinition: // 42P17
		e.tell(Fatal, "policy", object, "its policies cannot be asked as "+who+": "+message,
			"read the other table in a function that is SECURITY DEFINER and has SET search_path, owned by a role whom that table's policies do not bind, and call it in the policy")
	case state == pgerrcode.InsufficientPrivilege:
		var fix []string
		if other, ok := strings.CutPrefix(message, "permission denied for table "); ok {
			fix = []string{"GRANT SELECT ON " + name(other) + " TO " + name(who)}
		}
		e.tell(Fatal, "policy", object, "its policies cannot be asked as "+who+": "+message, fix...)
	default:
		e.tell(Fatal, "policy", object, "its policies cannot be asked as "+who+": "+message, "correct the policy that says so, with ALTER POLICY")
	}
	return nil
}

// sessionUser: the session's user is the service login, whoever the client is.
func (e *exam) sessionUser(t *schema.TableDef, p schema.Policy) {
	// Strings and quoted names are left as they are.
	pieces := regexp.MustCompile(`'(?:[^']|'')*'|"(?:[^"]|"")*"|\bSESSION_USER\b`)
	uses := false
	mended := pieces.ReplaceAllStringFunc(p.Using, func(s string) string {
		if s != "SESSION_USER" {
			return s
		}
		uses = true
		return "CURRENT_USER"
	})
	if uses {
		e.tell(Fatal, "policy", "policy "+name(p.Name)+" on "+t.SQLName(), "it reads session_user, which is the service login for every client",
			"ALTER POLICY "+name(p.Name)+" ON "+t.SQLName()+" USING ("+mended+")")
	}
}

// systemColumns: an image from the log has no ctid, xmin or tableoid.
func (e *exam) systemColumns(ctx context.Context) error {
	var policy, space, table, column string
	return rows(ctx, e.conn, "policies", `
SELECT DISTINCT p.polname::text, n.nspname::text, c.relname::text, a.attname::text
FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid = p.polrelid AND d.refobjsubid < 0
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
WHERE p.polrelid = ANY($1::oid[]) AND p.polcmd IN ('r', '*') ORDER BY 2, 3, 1, 4`, []any{e.wantedOIDs()}, []any{&policy, &space, &table, &column}, func() {
		e.tell(Fatal, "policy", "policy "+name(policy)+" on "+name(space, table), "it reads "+column+", which rows in the log do not have: the table's changes are not delivered",
			"ALTER POLICY "+name(policy)+" ON "+name(space, table)+" USING (…) without "+column)
	})
}

func (e *exam) wantedOIDs() []uint32 {
	var oids []uint32
	for _, t := range e.catalog.Wanted() {
		oids = append(oids, t.OID)
	}
	return oids
}

// functions looks at those that policies call: what their bodies name is found by the
// search_path of whoever asks.
func (e *exam) functions(ctx context.Context) error {
	var function, fix string
	var definer bool
	return rows(ctx, e.conn, "functions", `
SELECT DISTINCT format('%I.%I', n.nspname, f.proname), f.prosecdef,
       format('ALTER FUNCTION %I.%I(%s) SET search_path = %s, pg_temp', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid),
         (SELECT string_agg(DISTINCT quote_ident(s), ', ') FROM unnest($2::text[] || n.nspname::text) s))
FROM pg_policy p
JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid AND d.refclassid = 'pg_proc'::regclass
JOIN pg_proc f ON f.oid = d.refobjid JOIN pg_namespace n ON n.oid = f.pronamespace JOIN pg_language l ON l.oid = f.prolang
WHERE p.polrelid = ANY($1::oid[]) AND p.polcmd IN ('r', '*') AND n.nspname <> 'pg_catalog' AND l.lanname NOT IN ('c', 'internal')
  AND f.prosqlbody IS NULL
  AND NOT EXISTS (SELECT FROM unnest(f.proconfig) s WHERE s LIKE 'search_path=%')
  AND NOT EXISTS (SELECT FROM pg_depend x WHERE x.classid = 'pg_proc'::regclass AND x.objid = f.oid AND x.deptype = 'e')
ORDER BY 1`, []any{e.wantedOIDs(), e.cfg.Schemas}, []any{&function, &definer, &fix}, func() {
		severity, why := Note, "names without a schema in it are found by the search_path of whoever asks"
		if definer {
			severity, why = Warning, "it is SECURITY DEFINER, and whoever can make objects on the search_path decides what it does"
		}
		e.tell(severity, "function", "function "+function, "a policy calls it and it has no SET search_path: "+why, fix)
	})
}
