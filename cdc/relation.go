package cdc

// Identity is a relation's REPLICA IDENTITY, as pg_class.relreplident spells it.
type Identity byte

// The replica identities of PostgreSQL.
const (
	IdentityDefault Identity = 'd' // the primary key
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f' // the whole old row
	IdentityIndex   Identity = 'i'
)

// A Column is one column of a Relation as the stream described it.
type Column struct {
	Name string
	// Type is the type's OID in pg_type.
	Type uint32
	// Modifier is the type modifier (atttypmod), -1 for none.
	Modifier int32
	// Identity tells that the column belongs to the replica identity. Under full identity
	// every column does, so it does not tell the key.
	Identity bool
}

// A Relation describes a table at one point of the stream. It is immutable: a change of the
// table is a new Relation, so its address is a key for caches.
//
// Columns are in the order of the stream: attribute order, without dropped columns and, before
// PostgreSQL 18 and by default, without generated ones.
type Relation struct {
	OID      uint32
	Schema   string
	Name     string
	Identity Identity
	Columns  []Column
}

// Column gives the index of the column of that name, or -1.
func (r *Relation) Column(name string) int {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// String is schema.name, unquoted, for logs.
func (r *Relation) String() string { return r.Schema + "." + r.Name }
