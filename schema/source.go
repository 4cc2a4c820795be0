package schema

import (
	"fmt"

	"github.com/rowtide/rowtide/cdc"
)

// A Database is what a Catalog is made from: the tables of the served schemas as pg_catalog
// describes them, with the directives that their comments hold. Package introspect reads it,
// package annotation the comments; the caller joins them.
type Database struct {
	// Version is server_version_num, such as 150018.
	Version int
	// Roles are the roles of the allow-list that exist, in its order.
	Roles []string
	// Schemas are the served schemas; the names of those behind the first carry a prefix.
	Schemas []string
	Tables  []TableDef
}

// A TableDef is one table, partitioned table, or other relation that bears a comment.
type TableDef struct {
	OID    uint32
	Schema string
	Name   string
	// Kind is pg_class.relkind: 'r' table, 'p' partitioned table, 'v' view, 'm' materialised
	// view, 'f' foreign table, …
	Kind byte
	// Persistence is pg_class.relpersistence: 'p' permanent, 'u' unlogged, 't' temporary.
	Persistence byte
	// Partition tells that the table is a partition of another.
	Partition bool
	// Inherited tells that other tables inherit from this one, which is not partitioned.
	Inherited bool
	// Partitions are those of a partitioned table, at any depth, by OID.
	Partitions []PartitionDef
	// Unpublished tells that the table is in none of the publications that were asked for.
	Unpublished bool
	// PartlyPublished tells that a publication has it with a WHERE or a list of columns, or its partitions
	// as tables of their own; InsertsPublished that its INSERTs alone are published.
	PartlyPublished, InsertsPublished bool
	// Publication is of its entries in the publications, and of what these publish: another where it was
	// taken out and put back, or changes of a kind were not published for a while.
	Publication uint32
	// Identity is the table's; of a partitioned table the weakest among its own and those of
	// its partitions, since a partition's own identity decides what its old images hold.
	Identity cdc.Identity
	Owner    string
	// RowSecurity and ForceRowSecurity are the table's switches. Whether they bind a role is
	// in Access.
	RowSecurity      bool
	ForceRowSecurity bool
	Comment          string
	// Directives are those of Comment; annotation.Apply fills them in, and notes that it has.
	Directives Directives
	Annotated  bool
	// Invalid tells that an annotation of the table, of a column or of an enum that it shows
	// has a mistake: the table is not served, and rowtide sync leaves it as it is. Set by
	// annotation.Apply.
	Invalid bool
	// Columns are the live ones, in attribute order.
	Columns []ColumnDef
	// Keys are the unique indexes, the primary key first.
	Keys []KeyDef
	// Policies are all policies that count for SELECT: those FOR SELECT and FOR ALL (R01).
	Policies []Policy
	// Functions are those that the policies call, or such a function does by its qualified
	// name, and that may be read in their place.
	Functions []FunctionDef
	// Storage is pg_class.relfilenode, or a hash over those of a partitioned table's partitions: with
	// another one, all rows may have been written anew, which the stream does not tell.
	Storage uint32
	// Related is what the policies may read and call, shared by all tables of a Database.
	Related *Related
	// Trusted are the owners of functions in Related who read every row of the table.
	Trusted []string
	// UTF8 tells that the server's encoding is UTF8: what a client sends is what is stored.
	UTF8 bool
	// UsualCase tells that the database's own locale changes the case of ASCII letters as ASCII
	// has it, which Turkish does not.
	UsualCase bool
	// Access has an entry for each of Database.Roles.
	Access map[string]Access
}

// A PartitionDef is a partition.
type PartitionDef struct {
	OID uint32
	// Attached tells that it was a table before it became a partition, and may have brought rows. It may
	// also be set of one whose columns were all changed since.
	Attached bool
}

// Related is what policies may read and call beyond their own row: directly, or by way of
// functions in SQL and of the policies on what they read.
type Related struct {
	// Tables are all of them, the annotated ones too.
	Tables []*TableDef
	// Version is a hash over all that policies may mean by it: rights, policies, functions.
	Version string
	// Functions are those in SQL without settings but a search_path, and with a fixed number of
	// arguments, of whatever rights and schema but pg_catalog.
	Functions []FunctionDef
}

// A FunctionDef is a function that a policy calls itself and whose body can be read in place of
// the call: in SQL, without SECURITY DEFINER, giving one value, with no setting of its own but a
// search_path, and naming nothing that a schema other than pg_catalog has as well.
type FunctionDef struct {
	Schema string
	Name   string
	// Args are the types of the arguments, as format_type writes them with an empty
	// search_path; Names are their names, "" where they have none.
	Args  []string
	Names []string
	// Result is the type of the value, likewise.
	Result string
	// Body is the text of the body, or the deparsed one where it is SQL-standard: then
	// Deparsed is set.
	Body     string
	Deparsed bool
	// Strict tells that the function is not called for NULL.
	Strict bool
	// Roles are those of the allow-list that may execute it, Named those that may call it by
	// its name: they have USAGE on its schema.
	Roles, Named []string
	// Definer is the owner under whose rights it runs, "" where it is SECURITY INVOKER.
	Definer string
	// Set tells that it returns a set.
	Set bool
	// Path is its own search_path, where Pathed is set.
	Path   []string
	Pathed bool
}

// A ColumnDef is one live column of a table.
type ColumnDef struct {
	Name   string
	Number int16 // pg_attribute.attnum
	// Version is another after each change of the column: the transaction of its row in pg_attribute.
	Version    uint32
	Type       *Type
	Modifier   int32 // atttypmod
	NotNull    bool
	Comment    string
	Directives Directives
	// Generated is pg_attribute.attgenerated: 0, 's' stored or 'v' virtual; Expression is
	// its deparsed expression, with an empty search_path.
	Generated  byte
	Expression string
	// CollationC tells that the column's collation orders by bytes ("C", "POSIX",
	// "C.UTF-8" of the builtin provider); Deterministic that equality is equality of bytes.
	CollationC    bool
	Deterministic bool
	// CollationDefault tells that the collation is the database's own, so that an expression
	// over such columns never has two.
	CollationDefault bool
	// Collation is the collation's name in SQL; "" for types without one, and where the reader
	// may not use its schema.
	Collation string
	// FoldsBytes tells that lower() by the collation changes A to Z and nothing else (C and
	// POSIX), FoldsASCII that it does so to texts that are ASCII (all but a few languages).
	FoldsBytes, FoldsASCII bool
	// Storage tells that values may be kept out of line (attstorage other than plain).
	Toastable bool
}

// A KeyDef is a unique index.
type KeyDef struct {
	Name    string
	Columns []string // plain columns, in index order; nil where it has an expression
	Primary bool
	// Usable tells that it identifies rows: valid, immediate, complete (no predicate), over
	// plain columns that are all not null. Problem says what it lacks, for people.
	Usable  bool
	Problem string
}

// A Type is a type of pg_type with what is needed to read its text.
type Type struct {
	OID    uint32
	Schema string
	Name   string // as in pg_type.typname, such as "int4"
	// Kind is pg_type.typtype: 'b' base, 'c' composite, 'd' domain, 'e' enum, 'r' range,
	// 'm' multirange, 'p' pseudo.
	Kind byte
	// Elem is the element type of an array; nil for all else.
	Elem *Type
	// Base is the base type of a domain, or the subtype of a range or multirange.
	Base *Type
	// Labels are an enum's, in sort order.
	Labels []string
	// Fields are a composite's.
	Fields []ColumnDef
	// Delimiter separates elements in the text of an array of this type: ',' but for box.
	Delimiter byte
	Comment   string
	// Directives are those of Comment, for enums and composites; annotation.Apply fills them in, and
	// notes that it has.
	Directives Directives
	Annotated  bool
}

// A Policy is a row-level security policy that counts for SELECT.
type Policy struct {
	Name       string
	Permissive bool
	// Using is the deparsed USING expression, with an empty search_path; "" where the policy
	// has none: a permissive one then lets nothing in, a restrictive one keeps nothing out.
	Using string
	// Calls is a hash over the present versions of the functions that it calls, and of those
	// that they call by a qualified name; "" for none. A function that is replaced may let
	// other rows through.
	Calls string
}

// Access is what one role may do with one table, as PostgreSQL itself answers: the functions
// has_…_privilege, row_security_active under the role, pg_has_role(…, 'USAGE').
type Access struct {
	// Usage is the privilege USAGE on the table's schema.
	Usage bool
	// Columns tells SELECT, for each of TableDef.Columns; a privilege on the table counts
	// for all.
	Columns []bool
	// RowSecurity tells that policies bind this role here (R04).
	RowSecurity bool
	// Policies are the indexes of TableDef.Policies that apply to the role (R03).
	Policies []int
	// Builtins tells that the role may execute every function of pg_catalog that everybody
	// may by default, those of operators included, and that all casts are those of pg_catalog
	// or of extensions.
	Builtins bool
}

// Directives are what a comment says to Rowtide. The zero value is a comment that says nothing.
type Directives struct {
	// Subscribe is set by @subscribe.
	Subscribe *Subscribe
	// Omit is set by @omit.
	Omit bool
	// Name is set by @name(as: …).
	Name string
	// Key is set by @key(columns: […]).
	Key []string
	// Deprecated is set by @deprecated(reason: …); nil means not deprecated.
	Deprecated *string
	// Description is the rest of the comment.
	Description string
}

// Subscribe are the arguments of @subscribe.
type Subscribe struct {
	Field string // "" derives it from the table's name
	Type  string // likewise
	// Kinds are the operations to serve; nil means all. Only INSERT, UPDATE and DELETE can
	// stand here.
	Kinds []ChangeKind
	// NoRowSecurity is rowSecurity: NOT_REQUIRED.
	NoRowSecurity bool
}

// A Problem is a mistake in an annotation, or a table that cannot be served as it is. It
// disables its table alone.
type Problem struct {
	// Object is the thing at fault in SQL's words: "table public.todo_items",
	// "column public.todo_items.is_done".
	Object string
	// Table is the OID of the table that is disabled; 0 where the problem is a note only.
	Table uint32
	// File is the file of annotations that Line and Column are in; "" for the comment in the
	// database.
	File string
	// Line and Column are places in the comment, or in File, from 1; 0 where it is not about a
	// place.
	Line, Column int
	// Missing tells that File names an object that is not there: nothing can be disabled, but
	// it is no note either.
	Missing bool
	// Message says what is wrong; Hint what to write instead.
	Message string
	Hint    string
}

// Note tells that the problem disables nothing.
func (p Problem) Note() bool { return p.Table == 0 && !p.Missing }

// String is one line for people.
func (p Problem) String() string {
	s := p.Object
	if p.File != "" {
		s += ", " + p.File
	}
	if p.Line > 0 {
		s += fmt.Sprintf(", line %d, column %d", p.Line, p.Column)
	}
	s += ": " + p.Message
	if p.Hint != "" {
		s += " (" + p.Hint + ")"
	}
	return s
}
