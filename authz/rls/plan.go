package rls

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/schema"
)

// A plan is how images of one table are judged for one role.
type plan struct {
	table *schema.Table
	role  string
	// fixed is the verdict on every image where Postgres need not be asked, else 0.
	fixed authz.Verdict
	// policies is the condition that an image must meet, over the table's columns.
	policies string
	// predicate is the same, evaluated in process; nil where it is not compiled.
	predicate *predicate
	// hint tells what narrows the images that the role may see: the predicate, or as much of it
	// as is compiled; nil for nothing.
	hint *predicate
	// share is what the policies read of a principal, where they are not compiled; nil where that
	// is not certain.
	share *predicate
	// eval takes a text[] of images and gives a boolean[].
	eval string
	// probe takes one image and tells whether Postgres can read it at all.
	probe string
	// base takes the values of one image and gives a boolean. It reads columns of domain
	// types as their base types, for rows that are older than the domain's constraints. It is
	// "" for tables without domains.
	base string
	// shape gives the present snapshot and the present shape of the table.
	shape string
	// expected is the shape that images have.
	expected tableShape

	mu      sync.Mutex
	refusal *refusal // nil: nothing is known against the policies
	told    bool
	pace    time.Duration // of evaluating one image; 0 while it is not known
}

// tableShape is what must not have changed between the description of a table and an
// evaluation: an image is bound to the columns by their order.
type tableShape struct{ schema, name, columns string }

// newPlan decides by privileges and policies, in the way of get_row_security_policies
// (src/backend/rewrite/rowsecurity.c).
func newPlan(t *schema.Table, role string) *plan {
	p := &plan{table: t, role: role, shape: shapeSQL(t.Def.OID), expected: shapeOf(t.Def)}
	access, known := t.Def.Access[role]
	switch {
	case !known || !access.Usage || !slices.Contains(access.Columns, true):
		p.fixed = authz.Hidden // the SELECT raises 42501 before any policy (R05)
		return p
	case !access.RowSecurity:
		p.fixed = authz.Visible
		return p
	}
	p.policies = condition(t.Def, access.Policies)
	if p.policies == "" {
		p.fixed = authz.Hidden
		return p
	}
	if word := sessionWord(p.policies); word != "" {
		// The session's user is the service, never the role (R26).
		p.refusal = &refusal{detail: "a policy reads " + word + ", which is the service's login here; use current_user"}
	}
	name := ident(t.Def.Schema) + "." + ident(t.Def.Name)
	p.eval = evalSQL(t.Def, name, p.policies)
	p.probe = "SELECT CAST($1::pg_catalog.text AS " + name + ") IS NULL"
	p.base = baseSQL(t.Def, p.policies)
	return p
}

// condition joins the policies, or is "" where none lets a row in.
//
// A policy without an expression adds nothing: a permissive one lets no row in, a restrictive
// one keeps none out. Permissive policies stand in the order in which Postgres evaluates them,
// by name from the last (RelationBuildRowSecurity puts each before the others): with an OR it
// decides whether one that raises an error is evaluated at all.
func condition(t *schema.TableDef, applying []int) string {
	var permissive, restrictive []schema.Policy
	for _, i := range applying {
		switch q := t.Policies[i]; {
		case q.Using == "":
		case q.Permissive:
			permissive = append(permissive, q)
		default:
			restrictive = append(restrictive, q)
		}
	}
	if len(permissive) == 0 {
		return ""
	}
	slices.SortFunc(permissive, func(a, b schema.Policy) int { return strings.Compare(b.Name, a.Name) })
	slices.SortFunc(restrictive, func(a, b schema.Policy) int { return strings.Compare(a.Name, b.Name) })
	terms := make([]string, 0, len(restrictive)+1)
	for _, q := range restrictive {
		terms = append(terms, "("+q.Using+")")
	}
	either := make([]string, 0, len(permissive))
	for _, q := range permissive {
		either = append(either, "("+q.Using+")")
	}
	terms = append(terms, "("+strings.Join(either, " OR ")+")")
	return strings.Join(terms, " AND ")
}

// Names of ours in the statements. A policy's own names are all nearer to it than these, so it
// cannot meet them.
const (
	imagesAlias = `"rowtide images"`
	rowAlias    = `"rowtide row"`
)

// evalSQL asks of each image whether it is a row of the table that the policies let through.
// The alias is the bare name of the table: that is what deparsed policies call it (R08).
func evalSQL(t *schema.TableDef, name, policies string) string {
	row := "CAST(" + imagesAlias + ".image AS " + name + ")"
	test := exists(row, t.Name, policies)
	if hasGenerated(t) {
		// Images lack generated columns: compute them, and judge the completed row (R17).
		values := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			values[i] = generatedOr(c, rowAlias+"."+ident(c.Name))
		}
		complete := "CAST(ROW(" + strings.Join(values, ", ") + ") AS " + name + ")"
		test = "(SELECT " + exists(complete, t.Name, policies) + " FROM " + row + " AS " + rowAlias + ")"
	}
	return "SELECT ARRAY(SELECT " + test +
		" FROM pg_catalog.unnest($1::pg_catalog.text[]) WITH ORDINALITY AS " + imagesAlias + "(image, n) ORDER BY " + imagesAlias + ".n)"
}

func exists(from, alias, policies string) string {
	return "EXISTS (SELECT FROM " + from + " AS " + ident(alias) + " WHERE " + policies + ")"
}

func hasGenerated(t *schema.TableDef) bool {
	return slices.ContainsFunc(t.Columns, func(c schema.ColumnDef) bool { return c.Generated != 0 })
}

func generatedOr(c schema.ColumnDef, otherwise string) string {
	if c.Generated != 0 {
		return "(" + c.Expression + ")"
	}
	return otherwise
}

// shapeSQL gives the snapshot, and what the table is called and consists of. It has no
// parameter, so that Postgres keeps its plan.
func shapeSQL(oid uint32) string {
	n := strconv.FormatUint(uint64(oid), 10)
	return `SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text, n.nspname, c.relname,
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attnum, a.atttypid::pg_catalog.int8, a.atttypmod, a.attgenerated,
     pg_catalog.encode(pg_catalog.convert_to(a.attname, 'UTF8'), 'hex')), ',' ORDER BY a.attnum)
   FROM pg_catalog.pg_attribute a WHERE a.attrelid = ` + n + ` AND a.attnum > 0 AND NOT a.attisdropped)
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ` + n
}

// shapeOf is what the statement of shapeSQL gave when the table was described.
func shapeOf(t *schema.TableDef) tableShape {
	columns := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		generated := ""
		if c.Generated != 0 {
			generated = string(rune(c.Generated))
		}
		columns[i] = strings.Join([]string{
			strconv.Itoa(int(c.Number)), strconv.FormatUint(uint64(c.Type.OID), 10), strconv.Itoa(int(c.Modifier)), generated,
			hex.EncodeToString([]byte(c.Name)),
		}, " ")
	}
	return tableShape{schema: t.Schema, name: t.Name, columns: strings.Join(columns, ",")}
}

// sessionWord finds a keyword that asks for the session's user in a deparsed expression,
// outside of literals and quoted names. pg_get_expr writes keywords in upper case and names
// that look like them in quotes.
func sessionWord(expression string) string {
	for _, word := range identifiers(expression) {
		if word == "SESSION_USER" || word == "SYSTEM_USER" {
			return word
		}
	}
	return ""
}

// identifiers gives the words of a deparsed expression that stand in no quotes.
func identifiers(s string) []string {
	var out []string
	isWord := func(c byte) bool {
		return c == '_' || c == '$' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\'' || c == '"': // a doubled quote ends one and begins the next
			end := strings.IndexByte(s[i+1:], c)
			if end < 0 {
				return out
			}
			i += end + 2
		case isWord(c):
			start := i
			for i < len(s) && isWord(s[i]) {
				i++
			}
			out = append(out, s[start:i])
		default:
			i++
		}
	}
	return out
}

func ident(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal is a string constant under standard_conforming_strings.
func literal(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
