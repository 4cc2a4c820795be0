package rls

import (
	"slices"
	"strconv"
	"strings"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// Reading text as a domain checks the domain's constraints, which a row may be older than: the
// SELECT of such a row does not fail, reading its image as the table's row type does (R20). Such
// an image is judged as a row of base types instead. Where a policy needs the domains themselves
// (a function of the whole row, or of an array of a domain) it raises an error, and the image is
// hidden; domains within composite types leave it undecided. Functions overloaded for a domain
// and its base are beyond it.

// baseSQL is the statement for such images, or "" where the table has no domain.
func baseSQL(t *schema.TableDef, policies string) string {
	if !slices.ContainsFunc(t.Columns, func(c schema.ColumnDef) bool { return baseOf(c.Type) != c.Type }) {
		return ""
	}
	read := make([]string, 0, len(t.Columns))
	complete := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		name := ident(c.Name)
		complete[i] = generatedOr(c, rowAlias+"."+name) + " AS " + name
		if c.Generated != 0 {
			continue
		}
		value := "($1::pg_catalog.text[])[" + strconv.Itoa(i+1) + "]"
		read = append(read, readAs(value, baseOf(c.Type))+" AS "+name)
	}
	row := "(SELECT " + strings.Join(read, ", ") + ")"
	if hasGenerated(t) {
		row = "(SELECT " + strings.Join(complete, ", ") + " FROM " + row + " AS " + rowAlias + ")"
	}
	return "SELECT " + exists(row, t.Name, policies)
}

// baseOf is the type without domains, of itself or of its elements.
func baseOf(t *schema.Type) *schema.Type {
	for t.Kind == 'd' && t.Base != nil {
		t = t.Base
	}
	if t.Elem == nil {
		return t
	}
	elem := baseOf(t.Elem)
	if elem == t.Elem {
		return t
	}
	return &schema.Type{Elem: elem}
}

// readAs reads text by the type's input function.
func readAs(value string, t *schema.Type) string {
	if t.Elem != nil {
		if t.Name == "" { // of baseOf's making
			return "CAST(" + value + " AS " + typeName(t.Elem) + "[])"
		}
		return "CAST(" + value + " AS " + typeName(t) + ")"
	}
	return "(CAST(" + value + " AS " + typeName(t) + "[]))[1]"
}

func typeName(t *schema.Type) string { return ident(t.Schema) + "." + ident(t.Name) }

// baseValues are the parameter of the statement of baseSQL.
func baseValues(t *schema.TableDef, image cdc.Row) []byte {
	values := make([][]byte, len(image))
	for i, v := range image {
		switch {
		case v.Kind() != cdc.Text:
		case baseOf(t.Columns[i].Type).Elem != nil:
			values[i] = []byte(v.Text())
		default:
			values[i] = appendElement(nil, v.Text())
		}
	}
	return textArray(values)
}
