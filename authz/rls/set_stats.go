package rls

// SetStats are about the tables that policies ask, at present.
type SetStats struct {
	// Kept are those whose rows are kept in the process, Reading those on the way to it, and
	// Refused those of which Postgres is asked.
	Kept, Reading, Refused int
	// Bytes is about the memory that they take, and what changed in them of late.
	Bytes int
}

func (s *keeps) stats() (out SetStats) {
	if s == nil {
		return out
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	out.Bytes = s.bytes
	for _, k := range s.tables {
		switch k.phase {
		case phaseKept:
			out.Kept++
		case phaseLoading, phaseRead:
			out.Reading++
		case phaseRefused, phaseGone:
			out.Refused++
		}
	}
	return out
}
