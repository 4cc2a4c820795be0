// Package testcontainers starts real servers from the binaries that a machine has: private
// PostgreSQL clusters, for tests and for `rowtide demo`.
//
// It guarantees that a Cluster listens on the loopback address alone, that all it writes lies in
// one folder of its own, and that neither process nor folder outlives the program that started
// it, however that program ends: a watchdog (see watchdog.go) cleans up behind a killed one.
//
// It does not protect the data (fsync is off) and is no way to run a database that matters. It
// needs a Unix system; elsewhere Start returns an error.
package testcontainers
