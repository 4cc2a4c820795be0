package graphqlws

import (
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// An operation is one that a client has subscribed to.
type operation struct {
	c  *conn
	id string
	// head is the beginning of its results' messages.
	head []byte
	// stopped is set when the client has completed it: nothing more of it is sent.
	stopped atomic.Bool

	// c.queue guards what follows: sub is nil until it is there, ready tells that something of it
	// waits to be sent.
	sub   *fanout.Subscription
	ready bool
}

// start begins an operation, in a goroutine, since it may have to wait.
func (c *conn) start(id string, req schema.Request) {
	op := &operation{c: c, id: id, head: frameHead(typeNext, id)}
	c.mu.Lock()
	c.ops = append(c.ops, op)
	c.mu.Unlock()
	c.wg.Go(func() { c.begin(op, req) })
}

// begin runs a query, or hands a subscription over to whoever sends.
func (c *conn) begin(op *operation, req schema.Request) {
	r, err := c.session.SubscribeFor(c.below, req, op)
	c.queue.Lock()
	op.sub = r.Subscription
	c.queue.Unlock()
	switch {
	case err != nil:
		c.finish(op, err)
	case op.sub == nil:
		_ = c.sendOf(op, append(append(op.head, r.Result...), '}'))
		c.finish(op, nil)
	case op.stopped.Load():
		op.sub.Close()
	default:
		op.Wake()
	}
}

// stop ends an operation that the client has completed. Its id is free at once.
func (c *conn) stop(id string) {
	c.mu.Lock()
	i := slices.IndexFunc(c.ops, func(op *operation) bool { return op.id == id })
	if i < 0 { // it may have ended this moment
		c.mu.Unlock()
		return
	}
	op := c.ops[i]
	c.ops = slices.Delete(c.ops, i, i+1)
	c.mu.Unlock()
	op.stopped.Store(true)
	c.queue.Lock()
	sub := op.sub
	c.queue.Unlock()
	if sub != nil {
		sub.Close()
	}
}

// finish tells the client how an operation ended: complete, error, or the end of the connection.
func (c *conn) finish(op *operation, err error) {
	last := c.forget(op)
	switch {
	case op.stopped.Load(), c.over.Load(), errors.Is(err, fanout.ErrClosed):
		return // nobody waits for an answer
	case err == nil:
		_ = c.sendOf(op, completeMessage(op.id))
	case errors.Is(err, fanout.ErrDraining):
		if last {
			c.closeFor(err)
		}
		return
	case errors.Is(err, fanout.ErrSlow), c.session.Err() != nil:
		c.closeFor(err)
		return
	default:
		if fanout.Explain(err).Code == schema.Internal {
			c.log.Error("operation ends by an error", slog.Any("error", err))
		}
		_ = c.sendOf(op, errorMessage(op.id, err))
	}
	if last && c.isDraining() {
		c.closeFor(fanout.ErrDraining)
	}
}

// forget frees the id before the client can know that it is, and tells whether the operation was
// the connection's last.
func (c *conn) forget(op *operation) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.ops, op); i >= 0 {
		c.ops = slices.Delete(c.ops, i, i+1)
		c.protocol.ended(op.id)
	}
	return len(c.ops) == 0
}

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

func errorMessage(id string, err error) []byte {
	return append(fanout.AppendErrors(frameHead(typeError, id), err), '}')
}
