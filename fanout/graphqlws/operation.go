package graphqlws

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// An operation is one that a client has subscribed to.
type operation struct {
	id      string
	request schema.Request
	cancel  context.CancelFunc
	// stopped is set when the client has completed it: nothing more of it is sent.
	stopped atomic.Bool
}

// start runs an operation in a goroutine of its own.
func (c *conn) start(ctx context.Context, id string, req schema.Request) {
	ctx, cancel := context.WithCancel(ctx)
	op := &operation{id: id, request: req, cancel: cancel}
	c.mu.Lock()
	c.ops[id] = op
	c.mu.Unlock()
	c.wg.Go(func() {
		defer cancel()
		c.finish(ctx, op, c.run(ctx, op))
	})
}

// stop ends an operation that the client has completed. Its id is free at once.
func (c *conn) stop(id string) {
	c.mu.Lock()
	op := c.ops[id]
	delete(c.ops, id)
	c.mu.Unlock()
	if op != nil { // it may have ended this moment
		op.stopped.Store(true)
		op.cancel()
	}
}

// run sends an operation's results until it ends. It is nil where that is the end of it.
func (c *conn) run(ctx context.Context, op *operation) error {
	r, err := c.session.Subscribe(ctx, op.request)
	if err != nil {
		return err
	}
	head := frameHead(typeNext, op.id)
	if r.Subscription == nil {
		return c.sendOf(ctx, op, append(append(head, r.Result...), '}'))
	}
	defer r.Subscription.Close()
	var buf []byte
	for {
		payloads, err := r.Subscription.Next(ctx)
		if err != nil {
			return err
		}
		for len(payloads) > 0 {
			// Other operations, and pongs, get their turn in between.
			n := min(len(payloads), gatherFrames)
			if buf, err = c.sendAll(ctx, op, head, buf, payloads[:n]); err != nil {
				return err
			}
			payloads = payloads[n:]
		}
	}
}

// gatherFrames is how many results are written together at most: enough to share the system call,
// few enough that pongs and other operations of the socket do not wait long.
const gatherFrames = 64

// shrink lets go of the memory of an unusually large message.
func shrink(b []byte) []byte {
	const most = 64 << 10
	if cap(b) > most {
		return nil
	}
	return b
}

// finish tells the client how an operation ended: complete, error, or the end of the connection.
func (c *conn) finish(ctx context.Context, op *operation, err error) {
	last := c.forget(op)
	switch {
	case op.stopped.Load(), errors.Is(err, errStopped), errors.Is(err, fanout.ErrClosed), ctx.Err() != nil:
		return // nobody waits for an answer
	case err == nil:
		_ = c.sendOf(ctx, op, completeMessage(op.id))
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
		_ = c.sendOf(ctx, op, errorMessage(op.id, err))
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
	if c.ops[op.id] == op {
		delete(c.ops, op.id)
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
