package explain

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// hidden says which privileges a role lacks for the tables that a document names and the role does
// not see: to a subscriber these do not exist. It gives err where there are none.
func hidden(c *schema.Catalog, role *schema.Role, name, document string, err error) error {
	for _, t := range c.Tables() {
		if role.Readable(t) != nil || !regexp.MustCompile(`\b`+regexp.QuoteMeta(t.Field)+`\b`).MatchString(document) {
			continue
		}
		if missing := lacks(t, name); missing != "" {
			err = fmt.Errorf("%w: to role %s there is no %s: %s", err, name, t.Field, missing)
		}
	}
	return err
}

// lacks is the first thing that keeps a role from a table.
func lacks(t *schema.Table, role string) string {
	a := t.Def.Access[role]
	to := " TO " + pgx.Identifier{role}.Sanitize()
	if !a.Usage {
		return "GRANT USAGE ON SCHEMA " + pgx.Identifier{t.Def.Schema}.Sanitize() + to
	}
	var missing []string
	for _, k := range t.Key {
		if !a.Columns[k] {
			missing = append(missing, pgx.Identifier{t.Columns[k].Def.Name}.Sanitize())
		}
	}
	if len(missing) == 0 {
		return ""
	}
	return "it may not read the whole key: GRANT SELECT (" + strings.Join(missing, ", ") + ") ON " + t.Def.SQLName() + to
}
