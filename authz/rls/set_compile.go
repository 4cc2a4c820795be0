package rls

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/schema"
)

// An asking is what the sub-selects of one predicate are compiled with.
type asking struct {
	// keep gives what is kept of a table; path is where a session looks for tables.
	keep    func(*schema.TableDef) *kept
	path    []string
	related *schema.Related
	// outer is the table whose policies are compiled. One that asks itself changes what it asks
	// with every write, so Postgres is asked.
	outer *schema.TableDef

	// within counts the sub-selects, depth the functions and policies, around what is compiled.
	slots, cells, within, depth int

	queries []*setQuery
	kept    []*kept
	// risky is what something reads that may raise an error: rows that an index leaves out would
	// raise none.
	risky reads
}

// A scope has the tables of a sub-select, by the names that they go by there.
type scope struct {
	parent *scope
	tables []*scopeTable
}

type scopeTable struct {
	alias string
	def   *schema.TableDef
	slot  int
	kept  *kept
	// every tells that privileges on columns are not asked for: they are not for what the
	// table's own policies read (R07).
	every bool
}

func (t *scopeTable) bit() reads { return 1 << t.slot }

// A rowColumn is a column of a row that is kept.
type rowColumn struct {
	table   *scopeTable
	at      int // in the kept row
	notNull bool
}

var (
	errOther = errors.New("it asks another table")
	errRisky = errors.New("it may raise an error of a row of another table")
	errLarge = errors.New("it is too large")
)

// maxNesting bounds functions and policies within each other.
const maxNesting = 20

// risk notes that an operation on formulas may raise an error.
func (c *compiler) risk(of ...formula) {
	if c.ask == nil {
		return
	}
	for _, f := range of {
		c.ask.risky |= f.reads & readsSlots
		if c.ask.within > 0 && f.reads&readsRow != 0 && f.reads&readsPrincipal != 0 {
			c.ask.risky |= readsSlots // it is evaluated for the rows alone, if there are any
		}
	}
}

// lossless tells a cast that never raises an error.
func lossless(from, to string) bool {
	return to == "text" || isInt(from) && (to == "numeric" || isInt(to) && from < to)
}

// user is current_user.
func (c *compiler) user() formula {
	if rights := c.rights; rights != "" {
		return formula{typ: "name", eval: func(*evaluation) datum { return datum{s: rights} }}
	}
	c.reads |= readsPrincipal
	return formula{typ: "name", eval: func(e *evaluation) datum { return datum{s: e.role} }}
}

// scoped finds a column of the sub-selects around.
func (c *compiler) scoped(path []string) (f formula, found bool, err error) {
	name := path[len(path)-1]
	for s := c.scope; s != nil; s = s.parent {
		var of *scopeTable
		at := -1
		for _, t := range s.tables {
			if len(path) == 2 && path[0] != t.alias {
				continue
			}
			i := slices.IndexFunc(t.def.Columns, func(col schema.ColumnDef) bool { return col.Name == name })
			if i < 0 && len(path) == 1 {
				continue
			}
			if i < 0 || at >= 0 || len(path) > 2 {
				return f, true, fmt.Errorf("it reads %s", strings.Join(path, "."))
			}
			of, at = t, i
		}
		if of == nil {
			continue
		}
		row := c.row
		c.row = of
		f, err = c.columnOf(&of.def.Columns[at], at)
		c.row = row
		return f, true, err
	}
	return f, false, nil
}

// rowColumn reads the column i of a kept row.
func (c *compiler) rowColumn(t *scopeTable, i int, typ string, read func(*evaluation, string) datum) (formula, error) {
	if !t.every && c.rights == "" && !t.def.Access[c.role].Columns[i] {
		return formula{}, fmt.Errorf("the role may not read %s.%s", t.def.Name, t.def.Columns[i].Name)
	}
	c.reads |= t.bit()
	at, slot := t.kept.column(i), t.slot
	if at < 0 {
		return formula{}, fmt.Errorf("it reads %s.%s, which is not kept", t.def.Name, t.def.Columns[i].Name)
	}
	return formula{
		typ: typ, kept: &rowColumn{t, at, t.def.Columns[i].NotNull},
		eval: func(e *evaluation) datum {
			switch v := e.rows[slot][at]; {
			case !v.Known():
				return e.refuse()
			case v.IsNull():
				return null
			default:
				return read(e, v.Text())
			}
		},
	}, nil
}

// enter begins the body of a function.
func (c *compiler) enter(f *schema.FunctionDef, args []formula) (*compiler, error) {
	in := &compiler{
		table: c.table, role: c.role, enums: c.enums, inBody: true, function: f, args: args, size: c.size,
		depth: c.depth + 1, memo: c.memo, ask: c.ask, rights: c.rights,
	}
	if f.Definer != "" {
		in.rights = f.Definer
	}
	return in, c.nest()
}

// leave ends it.
func (c *compiler) leave(in *compiler) {
	c.size = in.size
	c.reads |= in.reads
	if c.ask != nil {
		c.ask.depth--
	}
}

func (c *compiler) nest() error {
	if c.ask == nil {
		return nil
	}
	if c.ask.depth++; c.ask.depth > maxNesting {
		return errDeep
	}
	return nil
}

// helper compiles a function in place of its call that asks other tables, calls other functions,
// or has its owner's rights.
func (c *compiler) helper(n *node, args []formula, name string) (formula, error) {
	f, err := c.findHelper(n, args, name)
	if err != nil {
		return formula{}, err
	}
	if f.Set {
		return formula{}, fmt.Errorf("the function %s returns a set", name)
	}
	return c.inline(f, args, name)
}

func (c *compiler) findHelper(n *node, args []formula, name string) (*schema.FunctionDef, error) {
	var found *schema.FunctionDef
	for i := range c.ask.related.Functions {
		f := &c.ask.related.Functions[i]
		if len(n.path) != 2 || f.Schema != n.path[0] || f.Name != n.path[1] || !c.takes(f, args) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("the function %s is overloaded", name)
		}
		found = f
	}
	who := c.role
	if c.rights != "" {
		who = c.rights
	}
	switch {
	case found == nil:
		return nil, fmt.Errorf("the function %s cannot be read in place of its call", name)
	case !slices.Contains(found.Roles, who):
		return nil, fmt.Errorf("the role may not execute the function %s", name)
	case c.inBody && !c.function.Deparsed && !slices.Contains(found.Named, who):
		return nil, fmt.Errorf("the role lacks USAGE on the schema of the function %s", name)
	}
	return found, nil
}

// sources finds the tables of a sub-select and gives them slots.
func (c *compiler) sources(q *query) ([]*scopeTable, error) {
	var out []*scopeTable
	for _, s := range q.from {
		def, err := c.findTable(s.path)
		if err != nil {
			return nil, err
		}
		if c.ask.slots >= maxSlots || slices.ContainsFunc(out, func(t *scopeTable) bool { return t.alias == s.alias }) {
			return nil, errLarge
		}
		if err := c.mayRead(def); err != nil {
			return nil, err
		}
		k := c.ask.keep(def)
		if k == nil {
			return nil, fmt.Errorf("it asks %s, which is not kept", def.Name)
		}
		t := &scopeTable{alias: s.alias, def: def, slot: c.ask.slots, kept: k}
		c.ask.slots++
		if !slices.Contains(c.ask.kept, t.kept) {
			c.ask.kept = append(c.ask.kept, t.kept)
		}
		addEnums(c.enums, def)
		out = append(out, t)
	}
	return out, nil
}

func addEnums(enums map[string]*schema.Type, t *schema.TableDef) {
	for _, col := range t.Columns {
		if col.Type.Kind == 'e' {
			enums[typeKey(col.Type.Schema, col.Type.Name)] = col.Type
		}
	}
}

// findTable finds a table as Postgres does, by its schema or along the search_path of the
// function. A sub-select of a policy always says the schema.
func (c *compiler) findTable(path []string) (*schema.TableDef, error) {
	name := strings.Join(path, ".")
	spaces := path[:len(path)-1]
	switch {
	case len(path) > 2:
		return nil, fmt.Errorf("it asks %s", name)
	case len(path) == 1:
		if !c.inBody || strings.HasPrefix(path[0], "pg_") {
			return nil, fmt.Errorf("it asks %s", name)
		}
		spaces = c.ask.path
		if c.function.Pathed {
			spaces = c.function.Path
		}
	}
	for _, space := range spaces {
		if space == "$user" {
			return nil, fmt.Errorf(`it looks for %s in "$user"`, name)
		}
		for _, t := range c.ask.related.Tables {
			if t.Schema != space || t.Name != path[len(path)-1] {
				continue
			}
			switch {
			case t.OID == c.ask.outer.OID:
				return nil, errors.New("it asks the table itself")
			case t.Kind != 'r' || t.Partition || t.Inherited || t.Persistence != 'p':
				return nil, fmt.Errorf("it asks %s, which is no plain table", name)
			}
			return t, nil
		}
	}
	return nil, fmt.Errorf("it asks %s, which was not found", name)
}

// mayRead tells what keeps a role from reading a table, or what would have to be known of
// another's rights.
func (c *compiler) mayRead(t *schema.TableDef) error {
	if c.rights != "" {
		if !slices.Contains(t.Trusted, c.rights) {
			return fmt.Errorf("it asks %s with the rights of %s, which does not see all of it", t.Name, c.rights)
		}
		return nil
	}
	if a, ok := t.Access[c.role]; !ok || !slices.Contains(a.Columns, true) || c.inBody && !a.Usage {
		return fmt.Errorf("the role may not read %s", t.Name)
	}
	return nil
}

// rowPolicies compiles the policies of a table of a sub-select, for its row; none where they do
// not bind the role.
func (c *compiler) rowPolicies(t *scopeTable) ([]formula, error) {
	if c.rights != "" || !t.def.Access[c.role].RowSecurity {
		return nil, nil
	}
	if err := c.nest(); err != nil {
		return nil, err
	}
	own := *t
	own.every = true
	in := &compiler{table: t.def, role: c.role, enums: c.enums, size: c.size, memo: c.memo, ask: c.ask, row: &own}
	f, err := in.together(in.policy)
	c.leave(in)
	if err != nil {
		return nil, fmt.Errorf("in a policy of %s, %w", t.def.Name, err)
	}
	f.reads = in.reads
	return []formula{f}, nil
}
