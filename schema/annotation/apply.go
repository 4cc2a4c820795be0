package annotation

import (
	"github.com/rowtide/rowtide/schema"
)

// Apply reads the comments of all tables, columns and enums and fills in their Directives. Tables
// with a mistake in their comment, in that of a column or in that of an enum of a column become
// Invalid: schema.New leaves them out. The problems tell each mistake, and what is left to other
// tools.
func Apply(db *schema.Database) []schema.Problem {
	a := &applier{}
	for i := range db.Tables {
		a.table(&db.Tables[i])
	}
	return a.problems
}

type applier struct{ problems []schema.Problem }

func (a *applier) table(d *schema.TableDef) {
	var mistakes []Mistake
	d.Directives, mistakes = Parse(OnTable, d.Comment)
	a.tell(d, "table "+d.SQLName(), mistakes)
	told := map[uint32]bool{}
	for i := range d.Columns {
		c := &d.Columns[i]
		c.Directives, mistakes = Parse(OnColumn, c.Comment)
		a.tell(d, "column "+schema.QuoteName(d.Schema, d.Name, c.Name), mistakes)
		t := enumOf(c.Type)
		if t == nil {
			continue
		}
		// Its mistakes count for each table that uses it: they may decide names there.
		t.Directives, mistakes = Parse(OnEnum, t.Comment)
		if !told[t.OID] {
			told[t.OID] = true
			a.tell(d, "type "+schema.QuoteName(t.Schema, t.Name), mistakes)
		}
	}
}

// enumOf is the enum behind arrays and domains, or nil.
func enumOf(t *schema.Type) *schema.Type {
	for t != nil && t.Kind != 'e' {
		if t.Kind == 'd' {
			t = t.Base
		} else {
			t = t.Elem
		}
	}
	return t
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
