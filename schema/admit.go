package schema

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/cdc"
)

// A candidate is a table on its way into the catalog.
type candidate struct {
	def   *TableDef
	key   []int
	names []string // the columns' GraphQL names, "" where omitted
	field string
	typ   string
}

// A builder makes a Catalog and gathers the problems on the way.
type builder struct {
	db       *Database
	problems []Problem
	tables   []*candidate
	types    namedTypes
	// typeNames are the names of enums and composites, faults what keeps a composite from
	// being one, by OID.
	typeNames map[uint32]string
	faults    map[uint32]*Problem
}

func (b *builder) refuse(d *TableDef, object, message, hint string) {
	b.problems = append(b.problems, Problem{Object: object, Table: d.OID, Message: message, Hint: hint})
}

func (b *builder) note(object, message, hint string) {
	b.problems = append(b.problems, Problem{Object: object, Message: message, Hint: hint})
}

// admit gathers the tables that could be served: annotated without a mistake, streamable,
// secured and with a key. Their identity is looked at later: rowtide sync sets it.
func (b *builder) admit() {
	for i := range b.db.Tables {
		d := &b.db.Tables[i]
		if d.Invalid {
			continue
		}
		if d.Directives.Subscribe == nil {
			b.noteUseless(d)
			continue
		}
		c := &candidate{def: d}
		if b.streamable(d) && b.secured(d) && b.keyed(c) && b.nameColumns(c) {
			b.tables = append(b.tables, c)
		}
	}
	slices.SortFunc(b.tables, func(x, y *candidate) int { return int(int64(x.def.OID) - int64(y.def.OID)) })
}

// noteUseless tells directives that say nothing without @subscribe.
func (b *builder) noteUseless(d *TableDef) {
	note := func(object string, says Directives) {
		if name := says.first(); name != "" {
			b.note(object, name+" has no effect: the table is not served", "add @subscribe to the table's comment, or take "+name+" out")
		}
	}
	note(d.object(), d.Directives)
	for i := range d.Columns {
		note(d.columnObject(&d.Columns[i]), d.Columns[i].Directives)
	}
}

// first names a directive other than @subscribe, "" for none.
func (d *Directives) first() string {
	switch {
	case d.Omit:
		return "@omit"
	case d.Name != "":
		return "@name"
	case d.Key != nil:
		return "@key"
	case d.Deprecated != nil:
		return "@deprecated"
	}
	return ""
}

// streamable tells whether the WAL carries the table's changes under its own name.
func (b *builder) streamable(d *TableDef) bool {
	what := ""
	switch d.Kind {
	case 'r', 'p':
	case 'v':
		what = "it is a view"
	case 'm':
		what = "it is a materialized view"
	case 'f':
		what = "it is a foreign table"
	case 'S':
		what = "it is a sequence"
	default:
		what = fmt.Sprintf("relations of kind %q have no rows of their own", d.Kind)
	}
	if what != "" {
		b.refuse(d, d.object(), "is not streamable: "+what+", and PostgreSQL streams the changes of tables only",
			"put @subscribe on the table that the rows are in")
		return false
	}
	if d.Persistence != 'p' {
		what, hint := "unlogged", "ALTER TABLE "+d.SQLName()+" SET LOGGED"
		if d.Persistence == 't' {
			what, hint = "temporary", "make it a permanent table"
		}
		b.refuse(d, d.object(), "is not streamable: it is "+what+", so its changes are not in the WAL", hint)
		return false
	}
	if d.Partition {
		b.refuse(d, d.object(), "is a partition: its changes are published under its partitioned table",
			"put @subscribe on the partitioned table")
		return false
	}
	if d.Inherited {
		b.refuse(d, d.object(), "has tables that inherit from it: SELECT returns their rows as its own, but their changes come under their own names",
			"put @subscribe on the tables that inherit, or make it a partitioned table")
		return false
	}
	return true
}

func (b *builder) secured(d *TableDef) bool {
	if d.RowSecurity || d.Directives.Subscribe.NoRowSecurity {
		return true
	}
	b.refuse(d, d.object(), "has no row-level security: every role with SELECT would see every row",
		"ALTER TABLE "+d.SQLName()+" ENABLE ROW LEVEL SECURITY, and add policies; or, where grants alone shall decide, "+
			"@subscribe(rowSecurity: NOT_REQUIRED)")
	return false
}

// keyed finds the key: that of @key, else the primary key.
func (b *builder) keyed(c *candidate) bool {
	d := c.def
	columns, ok := b.keyColumns(d)
	if !ok {
		return false
	}
	for _, name := range columns {
		at := slices.IndexFunc(d.Columns, func(x ColumnDef) bool { return x.Name == name })
		if at < 0 {
			b.refuse(d, d.object(), fmt.Sprintf("has a key over the column %q, which it does not have", name), "correct @key")
			return false
		}
		col := &d.Columns[at]
		if col.Directives.Omit {
			b.refuse(d, d.columnObject(col), "is omitted, but it belongs to the key, by which clients tell rows apart",
				"take @omit out, or choose another key with @key(columns: […])")
			return false
		}
		if col.Generated != 0 && !b.streamsGenerated(col) {
			b.refuse(d, d.columnObject(col), "is a generated column of the key: PostgreSQL does not stream it",
				"choose another key with @key(columns: […])")
			return false
		}
		c.key = append(c.key, at)
	}
	return true
}

func (b *builder) keyColumns(d *TableDef) ([]string, bool) {
	if want := d.Directives.Key; want != nil {
		return want, b.usableKey(d, want)
	}
	for i := range d.Keys {
		k := &d.Keys[i]
		if !k.Primary {
			continue
		}
		if !k.Usable {
			b.refuse(d, d.object(), "has a primary key that cannot tell rows apart at each moment: "+k.Problem, fixKey(d, k))
			return nil, false
		}
		return k.Columns, true
	}
	hint := "ALTER TABLE " + d.SQLName() + " ADD PRIMARY KEY (…)"
	for i := range d.Keys {
		if k := &d.Keys[i]; k.Usable {
			hint += "; or @key(columns: " + graphqlList(k.Columns) + "), by its unique index " + QuoteName(k.Name)
			break
		}
	}
	b.refuse(d, d.object(), "has no primary key", hint)
	return nil, false
}

// usableKey tells whether a unique index over exactly these columns can serve.
func (b *builder) usableKey(d *TableDef, want []string) bool {
	sorted := slices.Sorted(slices.Values(want))
	var unusable *KeyDef
	for i := range d.Keys {
		k := &d.Keys[i]
		if k.Columns == nil || !slices.Equal(slices.Sorted(slices.Values(k.Columns)), sorted) {
			continue
		}
		if k.Usable {
			return true
		}
		unusable = k
	}
	if unusable != nil {
		b.refuse(d, d.object(), "has a unique index over the columns of @key that cannot tell rows apart at each moment: "+
			unusable.Problem, fixKey(d, unusable))
		return false
	}
	quoted := make([]string, len(want))
	for i, w := range want {
		quoted[i] = QuoteName(w)
	}
	b.refuse(d, d.object(), "has no unique index over the columns of @key",
		"CREATE UNIQUE INDEX ON "+d.SQLName()+" ("+strings.Join(quoted, ", ")+")")
	return false
}

// fixKey is the SQL that makes another index for the job. What a key lacks cannot be altered in
// place but for NOT NULL, so the hint says both.
func fixKey(d *TableDef, k *KeyDef) string {
	if k.Columns == nil {
		return "make a unique index over plain columns that are NOT NULL, and name it with @key(columns: […])"
	}
	var sql []string
	cols := make([]string, len(k.Columns))
	for i, name := range k.Columns {
		cols[i] = QuoteName(name)
		at := slices.IndexFunc(d.Columns, func(x ColumnDef) bool { return x.Name == name })
		if at >= 0 && !d.Columns[at].NotNull {
			sql = append(sql, "ALTER TABLE "+d.SQLName()+" ALTER "+cols[i]+" SET NOT NULL")
		}
	}
	if len(sql) == 0 {
		sql = append(sql, "CREATE UNIQUE INDEX ON "+d.SQLName()+" ("+strings.Join(cols, ", ")+")")
		if d.Directives.Key == nil {
			sql = append(sql, "annotate the table with @key(columns: "+graphqlList(k.Columns)+")")
		}
	}
	return strings.Join(sql, "; ")
}

func graphqlList(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = quoteGraphQL(n)
	}
	return "[" + strings.Join(q, ", ") + "]"
}

// NeedsFullIdentity tells whether the table needs REPLICA IDENTITY FULL: every kind but INSERT
// asks who saw the row before.
func (d *TableDef) NeedsFullIdentity() bool {
	s := d.Directives.Subscribe
	return s != nil && (s.Kinds == nil || slices.ContainsFunc(s.Kinds, func(k ChangeKind) bool { return k != KindInsert }))
}

// identified tells whether changes come, and whether the old images hold what the table's kinds
// need.
func (b *builder) identified(d *TableDef) bool {
	if d.Unpublished {
		b.refuse(d, d.object(), "is in no publication of Rowtide: its changes do not come", "run rowtide sync")
		return false
	}
	if d.PartlyPublished {
		b.refuse(d, d.object(), "is in a publication of Rowtide with a WHERE, a list of columns, or its partitions as tables of their own: changes are missing, or come without values",
			"rowtide doctor tells which: take that out there, and run rowtide sync")
		return false
	}
	if d.InsertsPublished && d.NeedsFullIdentity() {
		b.refuse(d, d.object(), "is published for INSERT alone: its other changes do not come", "run rowtide sync")
		return false
	}
	if d.Identity == cdc.IdentityFull {
		return true
	}
	if d.NeedsFullIdentity() {
		hint := "run rowtide sync, or: ALTER TABLE " + d.SQLName() + " REPLICA IDENTITY FULL"
		if d.Kind == 'p' {
			hint += ", and the same for each of its partitions"
		}
		b.refuse(d, d.object(), "has no full replica identity: without the old image nobody can say who saw the row", hint)
		return false
	}
	// An insert-only table is served without old images, but its UPDATEs must not fail once
	// it is published.
	if d.Identity == cdc.IdentityNothing || d.Identity == cdc.IdentityDefault && !hasPrimary(d) {
		b.refuse(d, d.object(), "has no replica identity: once it is published, its UPDATE and DELETE would fail",
			"run rowtide sync, or: ALTER TABLE "+d.SQLName()+" REPLICA IDENTITY FULL")
		return false
	}
	return true
}

func hasPrimary(d *TableDef) bool {
	return slices.ContainsFunc(d.Keys, func(k KeyDef) bool { return k.Primary })
}
