package replication

import (
	"sync"

	"github.com/rowtide/rowtide/cdc"
)

// A queue holds what the reader has received and the handler has not yet got to, in the order
// of the stream. It is bounded in bytes: the reader fills one slab while the handler empties
// the other, so that no more than twice the bound is held, and one message where that alone is
// larger. Slabs are used again and again; a message costs no allocation.
type queue struct {
	max int

	mu      sync.Mutex
	filling *slab
	spare   *slab
	unseen  int // bytes pushed since the handler was last woken

	filled  chan struct{} // holds a token when there is something to take
	drained chan struct{} // holds a token when the handler has taken a slab
}

// A slab is messages one after the other, with the keepalives between them.
type slab struct {
	data  []byte
	items []item
}

// An item is a message, up to end in the slab's data from where the one before ended; or, where
// serverEnd is set, a keepalive.
type item struct {
	end       int
	serverEnd cdc.LSN
}

func newQueue(maxBytes int) *queue {
	return &queue{
		max:     maxBytes,
		filling: &slab{},
		spare:   &slab{},
		filled:  make(chan struct{}, 1),
		drained: make(chan struct{}, 1),
	}
}

// wakeBytes is how much is pushed until the handler is woken all the same.
const wakeBytes = 32 << 10

// push appends a copy of a message, unless the queue is full. A message larger than the whole
// queue gets in once the queue is empty. The handler may not notice before wake.
func (q *queue) push(message []byte) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.filling
	if len(s.data) > 0 && len(s.data)+len(message) > q.max {
		return false
	}
	s.data = append(s.data, message...)
	s.items = append(s.items, item{end: len(s.data)})
	if q.unseen += len(message); q.unseen >= wakeBytes {
		q.unseen = 0
		signal(q.filled)
	}
	return true
}

// wake has the handler look at what was pushed: a wake-up for each message would cost more than the
// messages do.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.unseen > 0 {
		q.unseen = 0
		signal(q.filled)
	}
}

// pushKeepalive appends a keepalive. It always finds a place, since those that follow each other
// become one: a storm of them takes no memory, and a full queue does not stop them.
func (q *queue) pushKeepalive(serverEnd cdc.LSN) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.filling
	if n := len(s.items); n > 0 && s.items[n-1].serverEnd != 0 {
		s.items[n-1].serverEnd = max(s.items[n-1].serverEnd, serverEnd)
	} else if serverEnd != 0 {
		s.items = append(s.items, item{end: len(s.data), serverEnd: serverEnd})
	}
	signal(q.filled)
}

// take gives all that is queued, nil where there is nothing. The slab is the caller's until it
// gives it back with the next call.
func (q *queue) take(back *slab) *slab {
	q.mu.Lock()
	defer q.mu.Unlock()
	if back != nil {
		if cap(back.data) > 2*q.max {
			back.data = nil // grown by one huge message: not kept for ever
		}
		back.data, back.items = back.data[:0], back.items[:0]
		q.spare = back
	}
	if len(q.filling.items) == 0 {
		return nil
	}
	s := q.filling
	q.filling, q.spare = q.spare, nil
	signal(q.drained)
	return s
}

// depth is how much waits.
func (q *queue) depth() (bytes, messages int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.filling.data), len(q.filling.items)
}

// signal leaves a token in a channel that holds one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
