package feedtest

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A Table is a table that subscribers follow.
type Table struct {
	Schema string
	Name   string
	// Field is its name in the API.
	Field   string
	Columns []Column
	// Key are the SQL names of the key's columns.
	Key []string
}

// A Column is a column of a Table.
type Column struct {
	Name  string // in SQL
	Field string // in the API
	Type  uint32 // OID
}

func (t *Table) sql() string { return quote(t.Schema) + "." + quote(t.Name) }

// column gives the index of a column by its SQL name, or -1.
func (t *Table) column(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Name == name })
}

// field gives the index of a column by its name in the API, or -1.
func (t *Table) field(name string) int {
	return slices.IndexFunc(t.Columns, func(c Column) bool { return c.Field == name })
}

// keyColumns are the indexes of the key.
func (t *Table) keyColumns() []int {
	out := make([]int, len(t.Key))
	for i, k := range t.Key {
		out[i] = t.column(k)
	}
	return out
}

// keySeparator stands between the columns of a key's text. No value here holds it.
const keySeparator = "\x1f"

// keyOf is the text of the key that an object of the API names; false where a column is missing.
func (t *Table) keyOf(o Object) (string, bool) {
	parts := make([]string, len(t.Key))
	for i, c := range t.keyColumns() {
		raw, ok := o[t.Columns[c].Field]
		if !ok {
			return "", false
		}
		parts[i] = plain(raw)
	}
	return strings.Join(parts, keySeparator), true
}

// A Principal is a subscriber's role and claims.
type Principal struct {
	Name   string
	Role   string
	Claims map[string]any
}

// ClaimsJSON is the text that policies find in the setting request.jwt.claims.
func (p *Principal) ClaimsJSON() string {
	out, _ := json.Marshal(p.Claims) // maps of scalars
	return string(out)
}

// A Subscription is what one client follows.
type Subscription struct {
	Name      string
	Principal *Principal
	Table     *Table
	// Columns are the SQL names of all columns that the role may read.
	Columns []string
	// Where is the argument of that name, and WhereSQL the same in SQL; both "" for none.
	Where, WhereSQL string
}

// readable are the indexes of Columns in the table.
func (s *Subscription) readable() []int {
	out := make([]int, len(s.Columns))
	for i, c := range s.Columns {
		out[i] = s.Table.column(c)
	}
	return out
}

// Query is a document that subscribes with everything selected. Arguments, such as
// "snapshot: true", are added to its own.
func (s *Subscription) Query(arguments ...string) string {
	if s.Where != "" {
		arguments = append(arguments, "where: "+s.Where)
	}
	args := ""
	if len(arguments) > 0 {
		args = "(" + strings.Join(arguments, ", ") + ")"
	}
	fields := func(names []string) string {
		out := make([]string, len(names))
		for i, n := range names {
			out[i] = s.Table.Columns[s.Table.column(n)].Field
		}
		return strings.Join(out, " ")
	}
	return fmt.Sprintf("subscription { %s%s { kind rowId key { %s } row { %s } old { %s } changed cursor "+
		"transaction { id commitTime last xid commitLsn } reason } }",
		s.Table.Field, args, fields(s.Table.Key), fields(s.Columns), fields(s.Columns))
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
