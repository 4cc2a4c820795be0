package graphqlws

import (
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// A below is the network connection below a WebSocket. The library reads from it (receive.go), and
// writes its control frames; text messages are framed here, any number of them at once, since a
// system call costs far more than a frame.
type below struct {
	net.Conn
	client *authz.Client
	// within is how long a write may take.
	within time.Duration
	// gone is closed with the connection.
	gone    chan struct{}
	closing sync.Once
	inbound
	// part is the beginning of a control frame; the library writes one after the other.
	part []byte

	// mu is held across a write, which keeps frames whole and in order; closing the connection
	// ends one that hangs.
	mu sync.Mutex
	// shut tells that a close frame was sent: nothing may follow it (RFC 6455, 5.5.1).
	shut bool
	// wrote counts the writes of frames that the client's system, or ours for it, has taken.
	wrote atomic.Uint32
	// unanswered is 0, or there is a ping without a pong: then one more than wrote was when it was sent.
	unanswered atomic.Uint32
}

// errShut says that nothing was written, since the close frame was.
var errShut = errors.New("the close frame was sent")

// The first bytes of frames that are whole (RFC 6455, 5.2), and how a length is given.
const (
	frameText  = 0x81
	frameClose = 0x88
	framePing  = 0x89

	length16 = 126
	length64 = 127
)

// Write is net.Conn's, for the library: it comes with one control frame at a time, in parts where
// that is longer than its buffer. Such a frame has at most 125 bytes, and is not masked.
func (b *below) Write(p []byte) (int, error) {
	frame := p
	if b.part != nil || len(p) < 2 || len(p) < 2+int(p[1]) {
		b.part = append(b.part, p...)
		if frame = b.part; len(frame) < 2 || len(frame) < 2+int(frame[1]) {
			return len(p), nil
		}
		b.part = nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if frame[0] == frameClose {
		b.shut = true
	}
	if err := b.SetWriteDeadline(time.Now().Add(b.within)); err != nil {
		return 0, err
	}
	_, err := b.Conn.Write(frame)
	return len(p), err
}

// ping sends one, unless the client has neither answered the last one nor been sent anything since.
func (b *below) ping() (alive bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.wrote.Load() + 1
	if b.shut {
		return true, nil
	}
	if b.unanswered.Load() == now {
		return false, nil
	}
	b.unanswered.Store(now)
	if err := b.SetWriteDeadline(time.Now().Add(b.within)); err != nil {
		return true, err
	}
	_, err = b.Conn.Write([]byte{framePing, 0})
	return true, err
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
	if err == nil {
		b.wrote.Add(1)
	}
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

// Close is net.Conn's.
func (b *below) Close() error {
	b.closing.Do(func() { close(b.gone) })
	return b.Conn.Close()
}
