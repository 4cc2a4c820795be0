package graphqlws

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// An inbound is the receiving half of a below. Between messages nobody stands in the library's
// read, whose stack would be most of what an idle connection takes: Read tells the library that
// there is nothing, and whoever reads comes out of it, and rests until there is.
type inbound struct {
	// over is the connection's: from then on whoever closes it may read, and has to wait.
	over *atomic.Bool
	// raw is where to rest; nil where that cannot be, since what was received may not be seen there
	// (TLS), or the system has no way to look.
	raw syscall.RawConn
	// early is what was received with the request for the upgrade.
	early []byte
	// woken tells that there is something to read. It is the reader's own, and nobody else's when
	// the connection is over.
	woken bool
	at    place
}

// errNothing says that the client has sent nothing but whole messages: read again after rest.
var errNothing = errors.New("nothing to read yet")

// rests finds out where to rest. Only connections that are known to hold nothing back may.
func rests(c net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	switch c := c.(type) {
	case *net.TCPConn:
		raw, _ = c.SyscallConn()
	case *net.UnixConn:
		raw, _ = c.SyscallConn()
	}
	if !canPeek {
		return nil
	}
	return raw
}

// rest waits until there is something to read, or the connection has ended, on a small stack.
func (b *below) rest() {
	if b.raw != nil && !b.woken {
		_ = b.raw.Read(readable) // whoever reads next finds the error too
	}
	b.woken = true
}

// Read is net.Conn's. A client that sends faster than it may is read no faster: what it sends
// counts here, where frames without content, and pings, count too.
func (b *below) Read(p []byte) (n int, err error) {
	if b.raw != nil && b.at.between() && len(b.early) == 0 && !b.over.Load() {
		if !b.woken {
			return 0, errNothing
		}
		b.woken = false
	}
	if len(b.early) > 0 {
		n = copy(p, b.early)
		if b.early = b.early[n:]; len(b.early) == 0 {
			b.early = nil
		}
	} else {
		n, err = b.Conn.Read(p)
	}
	b.at.pass(p[:n])
	_ = b.pause(b.client.Wait(authz.Received, n))
	return n, err
}

// pause waits for a time; its error says that the connection has ended.
func (b *below) pause(d time.Duration) error {
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-b.gone:
		}
	}
	return b.Err()
}

// A below is the context of what its connection's client asks for. One of package context would
// keep maps and channels for each idle connection.

// Deadline is context.Context's: there is none.
func (*below) Deadline() (time.Time, bool) { return time.Time{}, false }

// Done is context.Context's.
func (b *below) Done() <-chan struct{} { return b.gone }

// Err is context.Context's.
func (b *below) Err() error {
	select {
	case <-b.gone:
		return context.Canceled
	default:
		return nil
	}
}

// Value is context.Context's: there is none.
func (*below) Value(any) any { return nil }

// messages are buffers for what is read. Nothing of a message is kept that is not a copy.
type messages struct{ pool sync.Pool }

// keptMessage is the largest buffer that is kept, in bytes: most messages are short.
const keptMessage = 4 << 10

func (m *messages) get() *bytes.Buffer {
	if b, ok := m.pool.Get().(*bytes.Buffer); ok {
		return b
	}
	return new(bytes.Buffer)
}

func (m *messages) put(b *bytes.Buffer) {
	if b.Cap() <= keptMessage {
		b.Reset()
		m.pool.Put(b)
	}
}

// A place is where in the client's frames what was received ends (RFC 6455, 5.2).
type place struct {
	head [10]byte
	have uint8  // bytes of the head
	left uint64 // of the mask and the payload
	open bool   // the message goes on in another frame
}

// between tells that whole messages were received and nothing of another one.
func (f *place) between() bool { return f.have == 0 && f.left == 0 && !f.open }

// pass goes on behind bytes.
func (f *place) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		f.head[f.have] = p[0]
		f.have++
		p = p[1:]
		f.begin()
	}
}

// Bits of a frame's first two bytes.
const (
	bitFinal   = 0x80
	bitMasked  = 0x80
	bitControl = 0x08
	maskBytes  = 4
)

// begin begins with the payload once the head is whole.
func (f *place) begin() {
	if f.have < 2 {
		return
	}
	length, more := uint64(f.head[1]&^bitMasked), uint8(0)
	switch length {
	case length16:
		more, length = 2, uint64(binary.BigEndian.Uint16(f.head[2:]))
	case length64:
		more, length = 8, binary.BigEndian.Uint64(f.head[2:])
	}
	if f.have < 2+more {
		return
	}
	if f.have, f.left = 0, length; f.head[1]&bitMasked != 0 {
		f.left += maskBytes
	}
	if f.head[0]&bitControl == 0 {
		f.open = f.head[0]&bitFinal == 0
	}
}
