package graphqlws

import (
	"net"
	"sync"
	"time"
)

// gatherBytes is how much is gathered before it is written all the same, and keptBytes how much
// memory a connection keeps for the next time.
const (
	gatherBytes = 64 << 10
	keptBytes   = 4 << 10
)

// A gatherer is a network connection that writes what comes between hold and release together,
// since a system call costs far more than a frame. What is written otherwise goes out at once.
type gatherer struct {
	net.Conn

	// mu is held across a write, which keeps frames whole and in order; closing the connection
	// ends one that hangs.
	mu   sync.Mutex
	held bool
	buf  []byte
}

// Write is net.Conn's. An error of what was held comes with a later Write, or with release.
func (g *gatherer) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.held {
		return g.Conn.Write(p)
	}
	g.buf = append(g.buf, p...)
	if len(g.buf) < gatherBytes {
		return len(p), nil
	}
	if err := g.flushLocked(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (g *gatherer) hold() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = true
}

// release writes what was held, within a time.
func (g *gatherer) release(within time.Duration) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held = false
	if err := g.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	if err := g.flushLocked(); err != nil {
		return err
	}
	return g.SetWriteDeadline(time.Time{})
}

func (g *gatherer) flushLocked() error {
	if len(g.buf) == 0 {
		return nil
	}
	_, err := g.Conn.Write(g.buf)
	g.buf = g.buf[:0]
	if cap(g.buf) > keptBytes {
		g.buf = nil
	}
	return err
}
