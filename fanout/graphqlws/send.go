package graphqlws

import (
	"errors"
	"os"
	"sync"
)

// sendBytes is how much is written at once where more waits: enough that the system call costs
// little, few enough that pongs and others' messages do not wait long.
const sendBytes = 64 << 10

// buffers are what is used while something is sent. No connection has one of its own: most are
// idle.
type buffers struct{ pool sync.Pool }

// A buffer holds payloads that were taken, and frames that are about to be written.
type buffer struct {
	payloads [][]byte
	frames   []byte
}

// mostPayloads is how many payloads a buffer keeps room for.
const mostPayloads = 8192

func (b *buffers) get() *buffer {
	if p, ok := b.pool.Get().(*buffer); ok {
		return p
	}
	return &buffer{frames: make([]byte, 0, sendBytes+sendBytes/4)}
}

// put takes a buffer back, unless an unusually large message has made it grow.
func (b *buffers) put(p *buffer) {
	if cap(p.frames) <= 2*sendBytes && cap(p.payloads) <= mostPayloads {
		p.frames = p.frames[:0]
		b.pool.Put(p)
	}
}

// Wake is fanout.Waker's: the operation has something to send. The goroutine that sends exists
// only while there is anything.
func (op *operation) Wake() {
	c := op.c
	c.queue.Lock()
	defer c.queue.Unlock()
	if op.ready || op.sub == nil { // begin calls once it is there
		return
	}
	op.ready = true
	c.ready = append(c.ready, op)
	if !c.sending && c.join() {
		c.sending = true
		go c.sendReady()
	}
}

// next gives the operation that has waited longest, or nil: then nobody sends any more.
func (c *conn) next() *operation {
	c.queue.Lock()
	defer c.queue.Unlock()
	if len(c.ready) == 0 {
		c.ready, c.sending = nil, false
		return nil
	}
	op := c.ready[0]
	c.ready = c.ready[1:]
	op.ready = false
	return op
}

// more tells whether anything waits.
func (c *conn) more() bool {
	c.queue.Lock()
	defer c.queue.Unlock()
	return len(c.ready) > 0
}

// sendReady sends what operations have, in turn, in as few writes as it fits.
func (c *conn) sendReady() {
	defer c.wg.Done()
	buf := c.h.buffers.get()
	defer c.h.buffers.put(buf)
	for {
		op := c.next()
		if op == nil {
			return
		}
		err := c.gather(op, buf)
		if err != nil || !c.more() {
			c.flush(buf)
		}
		if err != nil {
			op.sub.Close()
			c.finish(op, err)
		}
	}
}

// gather puts what an operation has into the buffer, writing whenever that is full. The error is
// how the operation has ended.
func (c *conn) gather(op *operation, buf *buffer) error {
	payloads, err := op.sub.Take(buf.payloads[:0])
	for _, p := range payloads {
		if op.stopped.Load() {
			break
		}
		if buf.frames = appendFrame(buf.frames, op.head, p, closingBrace); len(buf.frames) >= sendBytes {
			c.flush(buf)
		}
	}
	clear(payloads)
	if buf.payloads = payloads; len(payloads) > 0 { // there may be more, and it is to count as sent
		op.Wake()
	}
	return err
}

var closingBrace = []byte{'}'}

func (c *conn) flush(buf *buffer) {
	if len(buf.frames) > 0 {
		_ = c.write(buf.frames) // the connection is cut off then
		buf.frames = buf.frames[:0]
	}
}

// errStopped says that a message was not sent because its operation or the connection is over.
var errStopped = errors.New("it is over")

// send writes one message. A client that does not take it in time is cut off.
func (c *conn) send(data []byte) error { return c.write(appendFrame(nil, data)) }

// sendOf writes a message of an operation, unless that was stopped meanwhile.
func (c *conn) sendOf(op *operation, data []byte) error {
	if op.stopped.Load() {
		return errStopped
	}
	return c.send(data)
}

// write writes whole frames.
func (c *conn) write(frames []byte) error {
	if c.over.Load() {
		return errStopped
	}
	err := c.below.frames(frames)
	if err != nil && !errors.Is(err, errShut) {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.log.Info("client does not read")
		}
		c.cut()
	}
	return err
}
