package graphqlws

import (
	"net"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
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
	client *authz.Client
	// gone is closed with the connection.
	gone    chan struct{}
	closing sync.Once

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

// Read is net.Conn's. A client that sends faster than it may is read no faster: what it sends
// counts here, where frames without content, and pings, count too.
func (g *gatherer) Read(p []byte) (int, error) {
	n, err := g.Conn.Read(p)
	if wait := g.client.Wait(authz.Received, n); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-g.gone:
		}
	}
	return n, err
}

// Close is net.Conn's.
func (g *gatherer) Close() error {
	g.closing.Do(func() { close(g.gone) })
	return g.Conn.Close()
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
