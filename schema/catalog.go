package schema

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"slices"
)

// A Catalog is the served tables and the GraphQL schema of each role, at one state of the
// database. It is immutable: a change of the database is a new Catalog.
type Catalog struct {
	options Options
	tables  []*Table
	byOID   map[uint32]*Table
	wanted  []*TableDef
	roles   map[string]*Role
	parts   map[[sha256.Size]byte]*part // while it is made
}

// New makes a Catalog. Tables with the Columns of a previous catalog's are as they were there, and so
// is the Table, down to its address. A table with a mistake is left out, and told in the problems; the others
// are served. The Catalog keeps db's tables: they must not change any more.
func New(db Database, o Options) (*Catalog, []Problem) {
	o.Limits = o.Limits.withDefaults()
	b := &builder{
		db: &db, types: namedTypes{enums: map[uint32]*enumType{}, objects: map[uint32]*objectType{}},
		typeNames: map[uint32]string{}, faults: map[uint32]*Problem{},
	}
	b.admit()
	b.nameTables()
	c := &Catalog{options: o, byOID: map[uint32]*Table{}, roles: map[string]*Role{}, parts: map[[sha256.Size]byte]*part{}}
	for _, cand := range b.tables {
		c.wanted = append(c.wanted, cand.def)
		if !b.identified(cand.def) {
			continue
		}
		t := o.Previous.Table(cand.def.OID)
		if !b.stays(t, cand) {
			t = b.table(cand)
		}
		c.tables = append(c.tables, t)
		c.byOID[t.Def.OID] = t
	}
	slices.SortFunc(c.tables, func(x, y *Table) int {
		return cmp.Or(cmp.Compare(x.Def.Schema, y.Def.Schema), cmp.Compare(x.Def.Name, y.Def.Name))
	})
	for _, name := range db.Roles {
		r, err := newRole(c, name)
		if err != nil {
			// Names were checked one by one, so this is a mistake of ours; the other
			// roles go on.
			b.note("role "+QuoteName(name), fmt.Sprintf("has no valid schema: %v", err), "report this as a bug of Rowtide")
			continue
		}
		c.roles[name] = r
	}
	c.options.Previous, c.parts = nil, nil // else each catalog would keep all before it
	return c, b.problems
}

// Table is the served table of that OID, or nil.
func (c *Catalog) Table(oid uint32) *Table {
	if c == nil {
		return nil
	}
	return c.byOID[oid]
}

// Tables are the served tables, by schema and name.
func (c *Catalog) Tables() []*Table { return slices.Clone(c.tables) }

// Wanted are the tables that are served or would be, but for their replica identity: those that
// rowtide sync publishes and gives the identity that they need.
func (c *Catalog) Wanted() []*TableDef { return slices.Clone(c.wanted) }

// Role is the schema of a role of the allow-list, or nil.
func (c *Catalog) Role(name string) *Role {
	if c == nil {
		return nil
	}
	return c.roles[name]
}

// table makes a candidate a table.
func (b *builder) table(c *candidate) *Table {
	t := &Table{
		Def: c.def, Field: c.field, Type: c.typ, Key: c.key,
		Kinds: tableKinds(c.def.Directives.Subscribe.Kinds),
	}
	for i := range c.def.Columns {
		d := &c.def.Columns[i]
		col := &Column{Def: d, Name: c.names[i]}
		if col.Name != "" {
			col.typ = typeOf(d.Type, b.types).collated(d)
			// A JSON column that is NOT NULL may hold JSON's null.
			col.nonNull = d.NotNull && !col.typ.holdsJSON()
			d.Type.eachNamed(func(n *Type) { t.named = append(t.named, namedType{n.OID, b.typeNames[n.OID]}) })
		}
		t.Columns = append(t.Columns, col)
	}
	return t
}

// stays tells whether a table of the previous catalog is what would be made of a candidate.
func (b *builder) stays(t *Table, c *candidate) bool {
	if t == nil || t.Field != c.field || t.Type != c.typ || !sameArray(t.Def.Columns, c.def.Columns) ||
		!slices.Equal(t.Def.Trusted, c.def.Trusted) || t.Def.Related != c.def.Related {
		return false // what is kept for policies of one reading is not found by those of another
	}
	for _, n := range t.named {
		if b.typeNames[n.oid] != n.name {
			return false
		}
	}
	return true
}

// sameArray tells whether two slices are one.
func sameArray[T any](a, b []T) bool { return len(a) == len(b) && len(a) > 0 && &a[0] == &b[0] }

// tableKinds are the kinds that a table gives which serves these operations; nil means all.
func tableKinds(operations []ChangeKind) KindSet {
	if operations == nil {
		return AllKinds
	}
	s := controlKinds.With(KindSnapshot)
	for _, op := range operations {
		s = s.With(op)
		switch op { //nolint:exhaustive // only these three can stand in @subscribe
		case KindUpdate:
			s = s.With(KindEnter).With(KindLeave)
		case KindDelete:
			s = s.With(KindTruncate)
		}
	}
	return s
}

// controlKinds tell of the subscription, not of rows: no argument filters them.
const controlKinds KindSet = 1<<KindReset | 1<<KindLive | 1<<KindProgress
