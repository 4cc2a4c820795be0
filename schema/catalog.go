package schema

import (
	"encoding/json"

	"github.com/rowtide/rowtide/cdc"
)

// A Catalog is the served tables and the GraphQL schema of each role, at one state of the
// database. It is immutable: a change of the database is a new Catalog.
type Catalog struct{}

// New makes a Catalog. A table with a mistake is left out, and told in the problems; the others
// are served.
func New(db Database) (*Catalog, []Problem) { panic("todo") }

// Table is the served table of that OID, or nil.
func (c *Catalog) Table(oid uint32) *Table { panic("todo") }

// Tables are the served tables, by schema and name.
func (c *Catalog) Tables() []*Table { panic("todo") }

// Role is the schema of a role of the allow-list, or nil.
func (c *Catalog) Role(name string) *Role { panic("todo") }

// A Table is a served table.
type Table struct {
	Def   *TableDef
	Field string // of Subscription
	Type  string
	// Columns are all live columns in attribute order, omitted and unreadable ones too:
	// policies need them. The images of a table are in this order.
	Columns []*Column
	// Key are the indexes in Columns of the key.
	Key []int
	// Kinds are the kinds that the table can give.
	Kinds KindSet
}

// A Column is a column of a served table.
type Column struct {
	Def  *ColumnDef
	Name string // GraphQL name; "" where it is omitted
}

// Bind joins the columns of a relation of the stream to those of the table, by name. It is an
// error where they differ: the catalog is older or newer than the stream.
func (t *Table) Bind(rel *cdc.Relation) (*Binding, error) { panic("todo") }

// A Binding turns rows of one relation into images of a table.
type Binding struct{}

// Image gives the row in the order of Table.Columns; columns that the relation lacks (generated
// ones) are Absent. It gives the row itself where the order is the same, and nil for nil.
func (b *Binding) Image(r cdc.Row) cdc.Row { panic("todo") }

// RowID is the opaque id of the row that an image is of: the same for the same type and key.
func (t *Table) RowID(image cdc.Row) string { panic("todo") }

// A Role is the GraphQL schema that one Postgres role sees.
type Role struct{}

// SDL prints the schema, stable enough to commit and diff.
func (r *Role) SDL() string { panic("todo") }

// Readable tells, for each of t.Columns, whether the role may read it; nil where it does not
// see the table.
func (r *Role) Readable(t *Table) []bool { panic("todo") }

// Options are the server's part of compiling.
type Options struct {
	ExposePositions bool
	Introspection   bool
	Server          ServerInfo
}

// ServerInfo is the GraphQL type of that name, less what the role gives.
type ServerInfo struct{ Version string }

// A Request is a GraphQL request as a client sends it.
type Request struct {
	Query         string
	OperationName string
	Variables     json.RawMessage // a JSON object, null or empty
}

// Compile parses and validates a request against the role's schema. Its errors are for the
// client: ErrorList.
func (r *Role) Compile(req Request, o Options) (*Operation, error) { panic("todo") }

// ErrorList are the errors of a document.
type ErrorList []*Error

// Error joins the messages.
func (l ErrorList) Error() string { panic("todo") }

// An Operation is a compiled request. It is immutable.
type Operation struct {
	// Result is set for a query: the whole response. All else is of a subscription.
	Result []byte

	Table *Table
	// Where is nil where all rows match.
	Where *Filter
	Kinds KindSet
	// Snapshot, After and Progress are the arguments. After is "" for none or null.
	Snapshot  bool
	After     string
	Progress  bool
	Selection *Selection
}

// A Filter is a where argument. Images are in the order of Table.Columns.
type Filter struct{}

// Match tells whether the filter is true of the image: not false and not NULL. It is an error
// where the image does not know a column that decides (Unchanged, Absent).
func (f *Filter) Match(image cdc.Row) (bool, error) { panic("todo") }

// A Selection is a selection set, ready to write.
type Selection struct{}

// Append writes the response to a change: {"data":{…},"extensions":{"cursor":…}}.
func (s *Selection) Append(dst []byte, c *Change) []byte { panic("todo") }

// Changed tells whether any column that the role may read differs between the images.
func (s *Selection) Changed(old, new cdc.Row) bool { panic("todo") }

// Signature is equal for selections that write the same bytes for the same change.
func (s *Selection) Signature() string { panic("todo") }

// UsesLast tells that transaction.last is selected: the writer must know it.
func (s *Selection) UsesLast() bool { panic("todo") }
