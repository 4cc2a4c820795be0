package annotation

import (
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// Apply reads the comments of all tables, columns and types and fills in their Directives. Tables
// with a mistake in their comment, in that of a column or in that of a column's type become
// Invalid: schema.New leaves them out. The problems tell each mistake, and what is left to other
// tools. Tables and types that are Annotated, since a Catalog may have them already, are only read.
func Apply(db *schema.Database) []schema.Problem {
	a := &applier{}
	for i := range db.Tables {
		a.table(&db.Tables[i])
	}
	return a.problems
}

type applier struct{ problems []schema.Problem }

func (a *applier) table(d *schema.TableDef) {
	if d.Annotated {
		return
	}
	d.Annotated = true
	var mistakes []Mistake
	d.Directives, mistakes = Parse(OnTable, d.Comment)
	a.tell(d, "table "+d.SQLName(), mistakes)
	told := map[*schema.Type]bool{}
	for i := range d.Columns {
		c := &d.Columns[i]
		c.Directives, mistakes = Parse(OnColumn, c.Comment)
		a.tell(d, "column "+schema.QuoteName(d.Schema, d.Name, c.Name), mistakes)
		a.typ(d, c.Type, told)
	}
}

// typ reads the comments of a column's type and of all that it is made of. Their mistakes count
// for each table that uses it: they may decide names there.
func (a *applier) typ(d *schema.TableDef, t *schema.Type, told map[*schema.Type]bool) {
	if t == nil || told[t] {
		return
	}
	told[t] = true
	fresh := !t.Annotated
	if fresh {
		t.Annotated = true
	}
	name := schema.QuoteName(t.Schema, t.Name)
	switch t.Kind {
	case 'e', 'c':
		says, mistakes := Parse(OnType, t.Comment)
		if fresh {
			t.Directives = says
		}
		a.tell(d, "type "+name, mistakes)
	default:
		a.useless(t)
	}
	for i := range t.Fields {
		f := &t.Fields[i]
		says, mistakes := Parse(OnColumn, f.Comment)
		if fresh {
			f.Directives = says
		}
		a.tell(d, "column "+schema.QuoteName(t.Schema, t.Name, f.Name), mistakes)
		a.typ(d, f.Type, told)
	}
	a.typ(d, t.Elem, told)
	a.typ(d, t.Base, told)
}

// useless tells of a directive on a type that the API does not name: a domain is its base type.
func (a *applier) useless(t *schema.Type) {
	if !strings.Contains(t.Comment, "@") {
		return
	}
	if says, _ := Parse(OnType, t.Comment); says.Name != "" {
		a.problems = append(a.problems, schema.Problem{
			Object: "type " + schema.QuoteName(t.Schema, t.Name), Message: "@name has no effect: only enums and composite types have names in the API",
			Hint: "take it out",
		})
	}
}

// tell makes mistakes problems, and the table invalid where one is more than a note.
func (a *applier) tell(d *schema.TableDef, object string, mistakes []Mistake) {
	for _, m := range mistakes {
		p := schema.Problem{Object: object, Line: m.Line, Column: m.Column, Message: m.Message, Hint: m.Hint}
		if !m.Note {
			p.Table = d.OID
			d.Invalid = true
		}
		a.problems = append(a.problems, p)
	}
}
