package fanout

import (
	"slices"
	"sync"

	"github.com/rowtide/rowtide/cdc"
)

// settled are the transactions that were dispatched but that other sessions may not see yet: a
// commit is streamed before it is visible. A snapshot that a subscription starts from must see
// them, since it will not be sent them.
type settled struct {
	mu   sync.Mutex
	xids []uint32 // in commit order
}

// maxSettled bounds the list. A transaction stays invisible while its session waits for a
// standby, so there are at most as many as sessions, and the newest; PostgreSQL allows 262,143
// sessions but nobody has nearly as many.
const maxSettled = 1 << 16

func (s *settled) add(xid uint32) {
	if xid == 0 { // a position alone is of no transaction
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.xids); n > 0 && s.xids[n-1] == xid {
		return
	}
	if len(s.xids) >= maxSettled {
		s.xids = slices.Clone(s.xids[maxSettled/2:])
	}
	s.xids = append(s.xids, xid)
}

func (s *settled) list() []uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.xids)
}

// prune forgets what a snapshot has seen: later ones see it too.
func (s *settled) prune(seen cdc.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.xids = slices.DeleteFunc(s.xids, seen.Sees)
}

// clear forgets everything: the stream begins anew, perhaps on another server.
func (s *settled) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.xids = nil
}
