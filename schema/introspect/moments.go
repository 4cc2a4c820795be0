package introspect

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A Moment is something in a policy that depends on when PostgreSQL is asked, rather than on the
// change that is judged: the clock, or a look at the table's own rows, which have changed since or are gone.
type Moment struct {
	// Table is the relation of the policy.
	Table  uint32
	Policy string
	// By is the function or view that does it, with its kind; "" is the policy itself.
	By string
	// Clock is how the clock is asked, such as now(); "" tells of a look at the table itself.
	Clock string
}

// String says for people what comes of it.
func (m Moment) String() string {
	if m.Clock != "" {
		by := ""
		if m.By != "" {
			by = " in " + m.By
		}
		return "it reads the clock (" + m.Clock + by + ") when a change is judged, not as of its commit: rows do not come or go as time passes"
	}
	return m.By + " looks the row up in the table itself: it finds the row as it is when it is asked, not as the change has it, and a deleted one not at all," +
		" so neither DELETE nor LEAVE is sent for a row that it does not find any more"
}

// ofPolicies gives the texts in which the policies of tables $1 may ask for the moment: their own, and those of the
// functions and views that they use.
var ofPolicies = `WITH RECURSIVE ` + called(policyCalls) + `, text AS (
  SELECT q.oid, '' AS by, pg_catalog.pg_get_expr(q.polqual, q.polrelid) AS body FROM pg_catalog.pg_policy q
  UNION ALL SELECT called.root, pg_catalog.format('the function %I.%I', n.nspname, p.proname), coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)
  FROM called JOIN pg_catalog.pg_proc p ON p.oid = called.oid JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
  UNION ALL SELECT DISTINCT q.oid, pg_catalog.format('the view %I.%I', n.nspname, v.relname), pg_catalog.pg_get_viewdef(v.oid) FROM pg_catalog.pg_policy q
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.objid = q.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
  JOIN pg_catalog.pg_class v ON v.oid = d.refobjid AND v.relkind = 'v' JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
)
SELECT q.polrelid, q.polname::text, n.nspname::text, c.relname::text, text.by, text.body
FROM text JOIN pg_catalog.pg_policy q ON q.oid = text.oid JOIN pg_catalog.pg_class c ON c.oid = q.polrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE q.polrelid = ANY($1::pg_catalog.oid[]) AND q.polcmd IN ('r', '*') AND text.body IS NOT NULL ORDER BY 3, 4, 2, 5`

// Moments gives what policies for SELECT on some tables ask of the moment. It goes by the texts of functions,
// in whatever language: what merely looks like it is told too, and what a function puts together to run is not.
func Moments(ctx context.Context, db DB, tables []uint32) ([]Moment, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written
	if _, err := tx.Exec(ctx, pins); err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	rows, err := tx.Query(ctx, ofPolicies, tables)
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	var out []Moment
	var m Moment
	var space, table, body string
	_, err = pgx.ForEachRow(rows, []any{&m.Table, &m.Policy, &space, &table, &m.By, &body}, func() error {
		code := silent.ReplaceAllString(body, " ")
		if clock := clocks.FindString(code); clock != "" {
			m.Clock = clock
			out = append(out, m)
		}
		if m.Clock = ""; m.By != "" && lookup(space, table).MatchString(code) {
			out = append(out, m)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read policies: %w", err)
	}
	return out, nil
}

// silent are comments and strings, which say nothing. (Not those between dollars: they may be code.)
var silent = regexp.MustCompile(`--[^\n]*|(?s:/\*.*?\*/)|'(?:[^']|'')*'`)

// clocks are what PostgreSQL prints, and people write, for the time (PostgreSQL's documentation, 9.9.5). age of one argument is
// counted from today.
var clocks = regexp.MustCompile(`(?i)\b(?:(?:now|transaction_timestamp|statement_timestamp|clock_timestamp|timeofday)\s*\(\s*\)|CURRENT_(?:DATE|TIME|TIMESTAMP)|LOCALTIME(?:STAMP)?|age\s*\([^,()]*\))`)

// lookup matches where a query reads a table, by its name or by its qualified name.
func lookup(space, table string) *regexp.Regexp {
	word := func(s string) string {
		quoted := regexp.QuoteMeta(`"` + strings.ReplaceAll(s, `"`, `""`) + `"`)
		return `(?:` + quoted + `|\b` + regexp.QuoteMeta(s) + `\b)`
	}
	return regexp.MustCompile(`(?is)\b(?:from|join)\s+(?:[^;()]*,\s*)?(?:only\s+)?\(*(?:` + word(space) + `\s*\.\s*)?` + word(table) + `\s*(?:$|[^.\s(])`)
}
