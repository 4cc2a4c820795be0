package rls

import "sync/atomic"

// ways counts the verdicts that were given, by how they were found.
type ways struct{ fixed, compiled, kept, asked atomic.Uint64 }

// Evaluations counts verdicts since the start: "none" where privileges alone decide, "compiled"
// in process by the row and the claims, "set" in process by what is kept of other tables too,
// "postgres" by asking.
func (g *Postgres) Evaluations() map[string]uint64 {
	return map[string]uint64{
		"none": g.ways.fixed.Load(), "compiled": g.ways.compiled.Load(), "set": g.ways.kept.Load(), "postgres": g.ways.asked.Load(),
	}
}
