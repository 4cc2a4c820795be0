package replication

import (
	"sync"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// Progress is what may be acknowledged: the position up to which everything that concerns us is
// held by the bus. It is the only source of status updates, so that what is acknowledged can
// never be 0 (PostgreSQL and pglogrepl take a flush position of 0 for "all that was written"),
// never falls back, and never lies inside or behind a transaction that is not held.
//
// The handler tells it what is held; the Consumer tells it the rest. It is safe for concurrent
// use.
type Progress struct {
	mu sync.Mutex
	// position is what a status says.
	position cdc.LSN
	// begun is the commit LSN of the newest transaction handed to the handler, and held the
	// end of the newest that the bus has. While held does not lie behind begun, a transaction
	// is open, and the server's word that it has sent everything up to here is none of ours.
	begun, held cdc.LSN
	// pinned keeps position where it is: of a slot that is read and not moved.
	pinned bool
	moved  chan struct{} // holds a token when position has risen
}

// NewProgress gives the progress of a consumer that is about to start.
func NewProgress() *Progress {
	return &Progress{moved: make(chan struct{}, 1)}
}

// pinnedProgress is that of a slot which must not move from its position.
func pinnedProgress(position cdc.LSN) *Progress {
	p := NewProgress()
	p.position, p.pinned = position, true
	return p
}

// Held says that the bus holds every transaction that ends at or before end, with all of its
// events. It may be called at any time, also long after Handle returned.
func (p *Progress) Held(end cdc.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = max(p.held, end)
	p.riseLocked(end)
}

// Position is the position that is acknowledged, 0 before the first connection.
func (p *Progress) Position() cdc.LSN {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.position
}

// start says that the stream begins anew behind from. What was begun and not held will come
// again.
func (p *Progress) start(from cdc.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = 0
	p.riseLocked(from)
}

// restart says that the stream begins anew behind from, wherever it was: what was held before is
// of another history, or behind a loss that was told.
func (p *Progress) restart(from cdc.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.position, p.begun, p.held = from, 0, 0
}

// begin says that the handler is about to get a transaction that commits at this LSN.
func (p *Progress) begin(commit cdc.LSN) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun = max(p.begun, commit)
}

// keepalive says that the handler has been given all that the server sent before a keepalive
// with this WAL end. Where no transaction is open, nothing up to there concerns us: without
// this the slot of a quiet table would hold back the WAL of a busy database for ever. It tells
// whether that is so.
func (p *Progress) keepalive(serverEnd cdc.LSN) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held <= p.begun && p.begun != 0 {
		return false
	}
	p.riseLocked(serverEnd)
	return true
}

func (p *Progress) riseLocked(to cdc.LSN) {
	if to <= p.position || p.pinned {
		return
	}
	p.position = to
	select {
	case p.moved <- struct{}{}:
	default: // one token says it
	}
}

// status gives the standby status update to send now and the position in it. Before the first
// start there is nothing to say: it gives nil.
func (p *Progress) status(now time.Time, wantReply bool) ([]byte, cdc.LSN) {
	position := p.Position()
	if position == 0 {
		return nil, 0
	}
	return appendStatus(nil, position, now, wantReply), position
}
