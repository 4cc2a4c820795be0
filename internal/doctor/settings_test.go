package doctor

import (
	"strings"
	"testing"
)

// What this machine has no server for is examined by its settings.
//
// Covers S53, C26.
func TestServersThatAreOldOrOfAnotherKindAreFound(t *testing.T) {
	t.Parallel()
	good := server{version: 180001, walLevel: "logical", maxSlots: 1, maxSenders: 1, keepSize: "16GB", idleTimeout: "0"}
	if got := good.findings(); got != nil {
		t.Errorf("a good server: %v", got)
	}
	for want, change := range map[string]func(*server){
		"fatal PostgreSQL 14: Rowtide needs 15":             func(s *server) { s.version = 140014 },
		"fatal it is a standby":                             func(s *server) { s.recovery = true },
		"warning PostgreSQL 15.8 reuses plans across roles": func(s *server) { s.version = 150008 },
		"warning PostgreSQL 16.4 reuses plans across roles": func(s *server) { s.version = 160004 },
		"warning PostgreSQL 17.0 reuses plans across roles": func(s *server) { s.version = 170000 },
		"warning idle_replication_slot_timeout is 1d":       func(s *server) { s.idleTimeout = "1d" },
		"fatal no replication slot is left of 1":            func(s *server) { s.slots = 1 },
		"fatal max_slot_wal_keep_size is unlimited: while":  func(s *server) { s.keepSize = "-1" },
	} {
		s := good
		change(&s)
		severity, message, _ := strings.Cut(want, " ")
		got := s.findings()
		if len(got) != 1 || got[0].Severity.String() != severity || !strings.Contains(got[0].Message, message) {
			t.Errorf("want %s, got %v", want, got)
		}
	}
	for _, version := range []int{150009, 160005, 170001} {
		s := good
		s.version = version
		if got := s.findings(); got != nil {
			t.Errorf("%d: %v", version, got)
		}
	}
}
