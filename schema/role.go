package schema

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/vektah/gqlparser/v2/ast"
)

// A Role is the GraphQL schema that one Postgres role sees.
type Role struct {
	name    string
	options *Options
	hash    string
	frame   *frame
	parts   []*part // of tables
	schema  *ast.Schema
	tables  []*roleTable // by field
	byField map[string]*roleTable
	byTable map[*Table]*roleTable
}

// A roleTable is a table as a role sees it. It is immutable.
type roleTable struct {
	*Table
	readable []bool
	// shown are the indexes of the columns that the role may read and that are not omitted,
	// and byName the same by GraphQL name.
	shown  []int
	byName map[string]int
	part   *part
}

func newRole(c *Catalog, name string) (*Role, error) {
	before := c.options.Previous.Role(name)
	r := &Role{
		name: name, options: &c.options,
		byField: make(map[string]*roleTable, len(c.tables)), byTable: make(map[*Table]*roleTable, len(c.tables)),
	}
	for _, t := range c.tables {
		rt := before.of(t)
		if rt == nil {
			rt = newRoleTable(t, name)
		}
		if rt == nil {
			continue
		}
		r.tables = append(r.tables, rt)
		r.byField[t.Field] = rt
		r.byTable[t] = rt
	}
	slices.SortFunc(r.tables, func(x, y *roleTable) int { return cmp.Compare(x.Field, y.Field) })
	if err := c.joinParts(r, before); err != nil {
		return nil, fmt.Errorf("load schema of role %s: %w", name, err)
	}
	return r, nil
}

// joinParts makes the schema, of parts that other roles and the catalog before have as far as they
// are the same.
func (c *Catalog) joinParts(r, before *Role) (err error) {
	h := sha256.New()
	for _, t := range r.tables {
		if t.part == nil {
			if t.part, err = c.part(t); err != nil {
				return err
			}
		}
		r.parts = append(r.parts, t.part)
		h.Write(t.part.sum[:])
	}
	r.frame = writeFrame(r.parts, c.options.ExposePositions)
	text := r.frame.sdl()
	h.Write([]byte(text))
	r.hash = hex.EncodeToString(h.Sum(nil)[:8])
	for _, other := range append(slices.Collect(maps.Values(c.roles)), before) {
		switch {
		case other == nil:
		case other.hash == r.hash:
			r.frame, r.schema = other.frame, other.schema
			return nil
		case other.frame.sdl() == text:
			r.frame = other.frame
		}
	}
	if r.frame.schema == nil {
		if err := r.frame.load(); err != nil {
			return err
		}
	}
	r.schema, err = r.frame.join(r.parts)
	return err
}

// part gives the part of a table as a role sees it.
func (c *Catalog) part(t *roleTable) (*part, error) {
	p := writePart(t)
	if same := c.parts[p.sum]; same != nil {
		return same, nil
	}
	if err := p.parse(); err != nil {
		return nil, err
	}
	c.parts[p.sum] = p
	return p, nil
}

// of gives the table as the role sees it, nil where it does not.
func (r *Role) of(t *Table) *roleTable {
	if r == nil {
		return nil
	}
	return r.byTable[t]
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

// SDL prints the schema, stable enough to commit and diff: the roots, the system types, the tables by
// field, the enums and what the columns need.
func (r *Role) SDL() string {
	var b strings.Builder
	b.WriteString(r.frame.head)
	if len(r.parts) > 0 {
		b.WriteString("\ntype Subscription {\n")
		for _, p := range r.parts {
			b.WriteString(p.field)
		}
		b.WriteString("}\n")
	}
	b.WriteString(r.frame.middle)
	for _, p := range r.parts {
		b.WriteString(p.types)
	}
	b.WriteString(r.frame.tail)
	return b.String()
}

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

// Sees tells whether the role sees this very Table, and so whatever was compiled for it by an earlier
// catalog is as it would be by this one. It is false of a nil Role.
func (r *Role) Sees(t *Table) bool { return r.of(t) != nil }

// Readable tells, for each of t.Columns, whether the role may read it; nil where it does not
// see the table.
func (r *Role) Readable(t *Table) []bool {
	rt := r.byTable[t]
	if rt == nil {
		return nil
	}
	return slices.Clone(rt.readable)
}
