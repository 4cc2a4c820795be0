// Package arch holds the arrows between Rowtide's packages: table.go says who may import whom,
// the tests compare it with the source. It guarantees nothing about what is imported through
// other modules, and no program links it.
package arch
