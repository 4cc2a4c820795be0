package migrations

import (
	"strings"
	"testing"
)

// What this machine has no server for is examined by its settings.
//
// Covers S53, C26.
func TestServersThatAreOldOrOfAnotherKindAreFound(t *testing.T) {
	t.Parallel()
	good := Server{Version: 180001, Host: Plain, walLevel: "logical", maxSlots: 1, maxSenders: 1, keepSize: "16GB", idleTimeout: "0"}
	if got := good.Problems(); got != nil {
		t.Errorf("a good server: %v", got)
	}
	for want, change := range map[string]func(*Server){
		"fatal PostgreSQL 14: Rowtide needs 15":             func(s *Server) { s.Version = 140014 },
		"fatal it is a standby":                             func(s *Server) { s.recovery = true },
		"warning PostgreSQL 15.8 reuses plans across roles": func(s *Server) { s.Version = 150008 },
		"warning PostgreSQL 16.4 reuses plans across roles": func(s *Server) { s.Version = 160004 },
		"warning PostgreSQL 17.0 reuses plans across roles": func(s *Server) { s.Version = 170000 },
		"warning idle_replication_slot_timeout is 1d":       func(s *Server) { s.idleTimeout = "1d" },
		"fatal no replication slot is left of 1":            func(s *Server) { s.slots = 1 },
		"fatal max_slot_wal_keep_size is unlimited: while":  func(s *Server) { s.keepSize = "-1" },
	} {
		s := good
		change(&s)
		severity, message, _ := strings.Cut(want, " ")
		got := s.Problems()
		if len(got) != 1 || got[0].Fatal != (severity == "fatal") || !strings.Contains(got[0].Message, message) {
			t.Errorf("want %s, got %v", want, got)
		}
	}
	for _, version := range []int{150009, 160005, 170001} {
		s := good
		s.Version = version
		if got := s.Problems(); got != nil {
			t.Errorf("%d: %v", version, got)
		}
	}
}
