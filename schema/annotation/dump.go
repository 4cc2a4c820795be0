package annotation

import (
	"cmp"
	"iter"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// Dump writes the comments of all annotated tables, of their columns and of the types of these as
// COMMENT ON statements, in an order that depends on names alone. Applied to the same database
// without comments, or given as a File, they make the same catalog.
func Dump(db *schema.Database) string {
	var out dump
	annotated := schema.Database{Schemas: db.Schemas}
	for _, d := range sortedTables(db) {
		if !annotatedTable(d) {
			continue
		}
		annotated.Tables = append(annotated.Tables, *d)
		out.comment(relationWord(d.Kind), schema.QuoteName(d.Schema, d.Name), d.Comment)
		for _, c := range d.Columns {
			out.comment("COLUMN", schema.QuoteName(d.Schema, d.Name, c.Name), c.Comment)
		}
	}
	for _, t := range sortedTypes(&annotated) {
		word := "TYPE"
		if t.Kind == 'd' {
			word = "DOMAIN"
		}
		out.comment(word, schema.QuoteName(t.Schema, t.Name), t.Comment)
		for _, f := range t.Fields {
			out.comment("COLUMN", schema.QuoteName(t.Schema, t.Name, f.Name), f.Comment)
		}
	}
	return out.String()
}

// A dump is text with a statement for each object. A column may have the row type of a table that
// is dumped too.
type dump struct {
	strings.Builder
	done map[string]bool
}

func (b *dump) comment(word, name, text string) {
	if object := word + " " + name; text != "" && !b.done[object] {
		if b.done == nil {
			b.done = map[string]bool{}
		}
		b.done[object] = true
		b.WriteString("COMMENT ON " + object + " IS " + quoteText(text) + ";\n")
	}
}

// quoteText writes a string as it reads best: in dollar quotes where it has lines.
func quoteText(s string) string {
	if strings.Contains(s, "\n") && !strings.ContainsAny(s, "\r$") {
		return "$$" + s + "$$"
	}
	q := strings.ReplaceAll(s, "'", "''")
	if strings.ContainsAny(s, "\\\r") {
		return "E'" + strings.NewReplacer(`\`, `\\`, "\r", `\r`).Replace(q) + "'"
	}
	return "'" + q + "'"
}

func relationWord(kind byte) string {
	switch kind {
	case 'v':
		return "VIEW"
	case 'm':
		return "MATERIALIZED VIEW"
	case 'f':
		return "FOREIGN TABLE"
	}
	return "TABLE"
}

// annotatedTable tells whether a comment of the table or of a column may hold a directive.
func annotatedTable(d *schema.TableDef) bool {
	return strings.Contains(d.Comment, "@") ||
		slices.ContainsFunc(d.Columns, func(c schema.ColumnDef) bool { return strings.Contains(c.Comment, "@") })
}

func sortedTables(db *schema.Database) []*schema.TableDef {
	out := make([]*schema.TableDef, len(db.Tables))
	for i := range db.Tables {
		out[i] = &db.Tables[i]
	}
	slices.SortFunc(out, func(a, b *schema.TableDef) int {
		return cmp.Or(cmp.Compare(slices.Index(db.Schemas, a.Schema), slices.Index(db.Schemas, b.Schema)), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func sortedTypes(db *schema.Database) []*schema.Type {
	return slices.SortedFunc(typesOf(db), func(a, b *schema.Type) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name), cmp.Compare(a.OID, b.OID))
	})
}

// typesOf are the types that users made, of the columns of annotated tables and within these.
func typesOf(db *schema.Database) iter.Seq[*schema.Type] {
	return func(yield func(*schema.Type) bool) {
		seen := map[*schema.Type]bool{nil: true}
		var walk func(t *schema.Type) bool
		walk = func(t *schema.Type) bool {
			if seen[t] {
				return true
			}
			seen[t] = true
			if t.Schema != "pg_catalog" && t.Elem == nil && !yield(t) {
				return false
			}
			if !walk(t.Elem) || !walk(t.Base) {
				return false
			}
			for i := range t.Fields {
				if !walk(t.Fields[i].Type) {
					return false
				}
			}
			return true
		}
		for i := range db.Tables {
			for j := range db.Tables[i].Columns {
				if !walk(db.Tables[i].Columns[j].Type) {
					return
				}
			}
		}
	}
}
