// Package bus is the contract between the one node that reads the WAL and the nodes that serve
// subscribers: an ordered log of batches with a window behind it.
//
// Guarantees of every implementation, proved by package bustest:
//   - Batches come out of every Stream in the order in which they were published, whole, once.
//   - When Publish returns nil the bus holds the batch; until then it may or may not.
//   - A Stream never skips: where it cannot go on, Next returns ErrNotHeld and stays there.
//   - Publishing again what the bus holds already (a replay after a crash) changes nothing.
//
// It does not guarantee that a batch is held for ever: the window is bounded in age and bytes.
package bus

import (
	"context"
	"errors"

	"github.com/rowtide/rowtide/cdc"
)

// ErrNotHeld says that the bus does not hold what follows a position: it is older than the
// window, or beyond the newest batch. The subscriber must resync.
var ErrNotHeld = errors.New("position is not held by the bus")

// ErrClosed says that the bus was closed.
var ErrClosed = errors.New("bus is closed")

// A Bus is an ordered log of batches. Its methods may be called from many goroutines, but only
// one may publish.
type Bus interface {
	// Publish appends a batch. It returns when the bus holds it, or with an error when it is
	// not known to. It blocks while the bus cannot take more.
	Publish(ctx context.Context, b *cdc.Batch) error
	// Stream opens a reader of everything behind a position. The zero Position means
	// everything from now on. A position behind which something is no longer held is
	// ErrNotHeld.
	Stream(ctx context.Context, after cdc.Position) (Stream, error)
	// Window gives the positions between which the bus can be read: a Stream may be opened
	// at oldest or later, newest is that of the last batch.
	Window() (oldest, newest cdc.Position)
	// Close releases what the bus owns and ends its streams with ErrClosed. It is idempotent.
	Close() error
}

// A Stream reads batches in order. Only one goroutine may use it.
type Stream interface {
	// Next waits for the next batch. A stream opened in the middle of a batch gives that
	// batch without the events up to its position. The batch is shared: it must not be
	// changed.
	Next(ctx context.Context) (*cdc.Batch, error)
	// Close ends the stream. It is idempotent.
	Close() error
}
