package schema

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/validator"

	"github.com/rowtide/rowtide/cdc"
)

// A role's schema is joined from parts, some of them of earlier catalogs. It is what gqlparser makes of
// the SDL that the role prints, which also says that this is valid.
func TestASchemaOfPartsIsThatOfItsText(t *testing.T) {
	t.Parallel()
	db := zooOfTables()
	before, _ := New(Database{Roles: db.Roles, Schemas: db.Schemas}, Options{})
	for round := range 2 * len(db.Tables) {
		now := db
		now.Tables = slices.Clone(db.Tables)
		if round > 0 {
			d := &now.Tables[round%len(now.Tables)]
			d.Columns = slices.Clone(d.Columns)
			d.Columns[1].Name = fmt.Sprintf("renamed_%d", round)
		}
		c, problems := New(now, Options{Previous: before})
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		for i := range now.Tables {
			oid := now.Tables[i].OID
			if kept := c.Table(oid) == before.Table(oid); kept != (round > 0 && i != round%len(now.Tables) && (round == 1 || i != (round-1)%len(now.Tables))) {
				t.Errorf("round %d: table %d was kept: %t", round, i, kept)
			}
		}
		for _, name := range db.Roles {
			r := c.Role(name)
			want, err := validator.LoadSchema(validator.Prelude, &ast.Source{Name: "schema", Input: r.SDL()})
			if err != nil {
				t.Fatalf("role %s: %v", name, err)
			}
			delete(want.Directives, "defer")
			if a, b := printed(want), printed(r.schema); a != b {
				t.Errorf("role %s: the schema is another than its text:\n%s\n\n%s", name, b, a)
			}
			if len(want.PossibleTypes) != len(r.schema.PossibleTypes) || len(want.Implements) != len(r.schema.Implements) {
				t.Errorf("role %s has %d possible types and %d that implement, want %d and %d", name,
					len(r.schema.PossibleTypes), len(r.schema.Implements), len(want.PossibleTypes), len(want.Implements))
			}
			if whole, _ := New(now, Options{}); whole.Role(name).SDL() != r.SDL() || whole.Role(name).Hash() != r.Hash() {
				t.Errorf("role %s: the SDL is another where nothing is kept", name)
			}
		}
		before = c
	}
}

func printed(s *ast.Schema) string {
	var b strings.Builder
	formatter.NewFormatter(&b, formatter.WithBuiltin()).FormatSchema(s)
	return b.String()
}

// zooOfTables has two roles that see the tables differently.
func zooOfTables() Database {
	base := func(oid uint32, name string) *Type {
		return &Type{OID: oid, Schema: "pg_catalog", Name: name, Kind: 'b', Delimiter: ','}
	}
	mood := &Type{OID: 20_000, Schema: "public", Name: "mood", Kind: 'e', Labels: []string{"ok", "not so"}}
	types := []*Type{
		base(oidInt8, "int8"), base(oidText, "text"), base(oidJSONB, "jsonb"), mood, base(oidNumeric, "numeric"),
		{OID: 20_001, Schema: "public", Name: "_mood", Kind: 'b', Delimiter: ',', Elem: mood},
		{OID: 20_002, Schema: "public", Name: "pair", Kind: 'c', Fields: []ColumnDef{{Name: "x", Type: base(oidInt4, "int4")}, {Name: "y", Type: mood}}},
		{OID: 3904, Schema: "pg_catalog", Name: "int4range", Kind: 'r', Base: base(oidInt4, "int4")},
		base(869, "inet"),
	}
	db := Database{Roles: []string{"a", "b"}, Schemas: []string{"public"}}
	for n := range types {
		d := TableDef{
			OID: uint32(1000 + n), Schema: "public", Name: fmt.Sprintf("kinds_%d", n), Kind: 'r', Persistence: 'p', Identity: cdc.IdentityFull, RowSecurity: true,
			Columns:    []ColumnDef{{Name: "id", Number: 1, Type: types[0], NotNull: true}, {Name: "one", Number: 2, Type: types[n]}, {Name: "two", Number: 3, Type: types[(n+3)%len(types)]}},
			Keys:       []KeyDef{{Name: "k", Columns: []string{"id"}, Primary: true, Usable: true}},
			Directives: Directives{Subscribe: &Subscribe{}, Description: "About \"\"\" it."},
			Access:     map[string]Access{"a": {Usage: true, Columns: []bool{true, true, true}}, "b": {Usage: n%2 == 0, Columns: []bool{true, n%4 == 0, true}}},
		}
		db.Tables = append(db.Tables, d)
	}
	return db
}
