// Package schema turns annotated tables into GraphQL: an immutable Catalog with one schema per
// Postgres role, compiled operations, and the projection of changes to JSON.
//
// It is pure: it takes values and returns values, reads nothing from Postgres and starts no
// goroutine. A role's schema holds only what the role may read, so introspection, validation
// errors and suggestions can tell nothing else. It does not judge rows: that is authz.
package schema
