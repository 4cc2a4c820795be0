package graphqlws

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// A below is the network connection below a WebSocket. The library reads from it, and writes its
// control frames; text messages are framed here, any number of them at once, since a system call
// costs far more than a frame.
type below struct {
	net.Conn
	client *authz.Client
	// within is how long a write may take.
	within time.Duration
	// early is what was received with the request for the upgrade.
	early []byte
	// gone is closed with the connection.
	gone    chan struct{}
	closing sync.Once

	// mu is held across a write, which keeps frames whole and in order; closing the connection
	// ends one that hangs.
	mu sync.Mutex
	// shut tells that a close frame was sent: nothing may follow it (RFC 6455, 5.5.1).
	shut bool
}

// errShut says that nothing was written, since the close frame was.
var errShut = errors.New("the close frame was sent")

// The first bytes of frames that are whole (RFC 6455, 5.2), and how a length is given.
const (
	frameText  = 0x81
	frameClose = 0x88

	length16 = 126
	length64 = 127
)

// Write is net.Conn's, for the library: it comes with one control frame at a time.
func (b *below) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(p) > 0 && p[0] == frameClose {
		b.shut = true
	}
	if err := b.SetWriteDeadline(time.Now().Add(b.within)); err != nil {
		return 0, err
	}
	return b.Conn.Write(p)
}

// frames writes whole frames.
func (b *below) frames(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.shut {
		return errShut
	}
	if err := b.SetWriteDeadline(time.Now().Add(b.within)); err != nil {
		return err
	}
	_, err := b.Conn.Write(p)
	return err
}

// appendFrame appends a text message of the given parts.
func appendFrame(dst []byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	switch {
	case n < length16:
		dst = append(dst, frameText, byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, frameText, length16), uint16(n)) //nolint:gosec // it fits
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, frameText, length64), uint64(n)) //nolint:gosec // a length
	}
	for _, p := range parts {
		dst = append(dst, p...)
	}
	return dst
}

// Read is net.Conn's. A client that sends faster than it may is read no faster: what it sends
// counts here, where frames without content, and pings, count too.
func (b *below) Read(p []byte) (int, error) {
	var n int
	var err error
	if len(b.early) > 0 {
		n = copy(p, b.early)
		if b.early = b.early[n:]; len(b.early) == 0 {
			b.early = nil
		}
	} else {
		n, err = b.Conn.Read(p)
	}
	if wait := b.client.Wait(authz.Received, n); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-b.gone:
		}
	}
	return n, err
}

// Close is net.Conn's.
func (b *below) Close() error {
	b.closing.Do(func() { close(b.gone) })
	return b.Conn.Close()
}
