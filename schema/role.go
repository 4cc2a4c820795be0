package schema

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/validator"
)

// A Role is the GraphQL schema that one Postgres role sees.
type Role struct {
	name    string
	options *Options
	sdl     string
	hash    string
	schema  *ast.Schema
	tables  []*roleTable // by field
	byField map[string]*roleTable
	byTable map[*Table]*roleTable
}

// A roleTable is a table as a role sees it.
type roleTable struct {
	*Table
	readable []bool
	// shown are the indexes of the columns that the role may read and that are not omitted,
	// and byName the same by GraphQL name.
	shown  []int
	byName map[string]int
}

func newRole(c *Catalog, name string) (*Role, error) {
	r := &Role{
		name: name, options: &c.options,
		byField: map[string]*roleTable{}, byTable: map[*Table]*roleTable{},
	}
	for _, t := range c.tables {
		rt := newRoleTable(t, name)
		if rt == nil {
			continue
		}
		r.tables = append(r.tables, rt)
		r.byField[t.Field] = rt
		r.byTable[t] = rt
	}
	slices.SortFunc(r.tables, func(x, y *roleTable) int { return cmp.Compare(x.Field, y.Field) })
	r.sdl = writeSDL(r)
	sum := sha256.Sum256([]byte(r.sdl))
	r.hash = hex.EncodeToString(sum[:8])
	if r.schema = c.parsed(r.sdl); r.schema != nil {
		return r, nil
	}
	s, err := validator.LoadSchema(validator.Prelude, &ast.Source{Name: "schema", Input: r.sdl})
	if err != nil {
		return nil, fmt.Errorf("load schema of role %s: %w", name, err)
	}
	// gqlparser knows @defer, which subscriptions must not have (specification, 6.2.3) and
	// which nothing here could serve.
	delete(s.Directives, "defer")
	r.schema = s
	return r, nil
}

// parsed finds a schema with that SDL among the roles of this catalog and of the one before:
// parsing is what costs most of making a catalog, and most changes leave most schemas as they are.
func (c *Catalog) parsed(sdl string) *ast.Schema {
	for _, of := range []*Catalog{c, c.options.Previous} {
		if of == nil {
			continue
		}
		for _, r := range of.roles {
			if r.sdl == sdl {
				return r.schema
			}
		}
	}
	return nil
}

// newRoleTable gives nil where the role does not see the table: it needs the schema and every
// column of the key.
func newRoleTable(t *Table, role string) *roleTable {
	access := t.Def.Access[role]
	if !access.Usage {
		return nil
	}
	rt := &roleTable{Table: t, readable: make([]bool, len(t.Columns)), byName: map[string]int{}}
	for i, c := range t.Columns {
		rt.readable[i] = i < len(access.Columns) && access.Columns[i]
		if rt.readable[i] && c.Name != "" {
			rt.shown = append(rt.shown, i)
			rt.byName[c.Name] = i
		}
	}
	for _, k := range t.Key {
		if !rt.readable[k] {
			return nil
		}
	}
	return rt
}

// Name is the role's name in Postgres.
func (r *Role) Name() string { return r.name }

// SDL prints the schema, stable enough to commit and diff.
func (r *Role) SDL() string { return r.sdl }

// Hash is short and differs where the SDL does.
func (r *Role) Hash() string { return r.hash }

// Tables are the tables that the role sees, by field.
func (r *Role) Tables() []*Table {
	out := make([]*Table, len(r.tables))
	for i, t := range r.tables {
		out[i] = t.Table
	}
	return out
}

// Readable tells, for each of t.Columns, whether the role may read it; nil where it does not
// see the table.
func (r *Role) Readable(t *Table) []bool {
	rt := r.byTable[t]
	if rt == nil {
		return nil
	}
	return slices.Clone(rt.readable)
}
