// Package bus is the contract between the one node that reads the WAL and the nodes that serve
// subscribers: an ordered log of batches with a window behind it.
//
// Guarantees of every implementation, proved by package bustest:
//   - Batches come out of every Stream in the order in which they were published, whole, once.
//   - When Publish returns nil the bus holds the batch; until then it may or may not.
//   - A Stream never skips: where it cannot go on, Next returns ErrNotHeld and stays there.
//   - Publishing again what the bus holds already (a replay after a crash) changes nothing. A
//     batch of which it holds a part is cut to the rest, so the replay may be divided into
//     batches differently.
//
// It does not guarantee that a batch is held for ever: the window is bounded in age and bytes.
//
// What the publisher owes it: transactions in commit order, each from its first batch to its
// last with no other between; a batch without Last has events; an empty batch with Last, at an
// LSN where nothing was committed, promises that nothing at or before that LSN is still to come.
package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rowtide/rowtide/cdc"
)

// ErrNotHeld says that the bus does not hold what follows a position: it is older than the
// window, or beyond the newest batch. The subscriber must resync.
var ErrNotHeld = errors.New("position is not held by the bus")

// A Break says that the bus began anew: what it held is of a history that is no longer the
// server's. It is an ErrNotHeld.
type Break struct {
	// Reason is why, one of the resync reasons of the API.
	Reason string
}

// Error names the reason.
func (b *Break) Error() string { return "the bus began anew: " + b.Reason }

// Is tells that the position of a stream that is broken is not held.
func (b *Break) Is(err error) bool { return err == ErrNotHeld }

// ErrClosed says that the bus was closed.
var ErrClosed = errors.New("bus is closed")

// ErrOrder says that the publisher broke the order of batches. Nothing was published.
var ErrOrder = errors.New("batch is out of order")

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
	// Follow is Stream for a reader that must not fall off the window: where publisher and
	// reader share a process, Publish waits for it within a bound, which holds the WAL back
	// and loses nothing. A batch counts as read at the call of Next behind it. Across
	// processes nobody waits, and Follow is Stream.
	Follow(ctx context.Context, after cdc.Position) (Stream, error)
	// Window gives the positions between which the bus can be read: a Stream may be opened
	// at oldest or later, newest is that of the last batch.
	Window() (oldest, newest cdc.Position)
	// Restart forgets everything, as if nothing had ever been published, and ends all streams
	// with a *Break of that reason. Positions from before are not held; those of what is
	// published from then on may be lower. Only the publisher may call it.
	Restart(reason string) error
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

// After gives the part of a batch that lies behind a position: the batch itself, a batch
// without the events and messages up to the position, or nil.
func After(b *cdc.Batch, p cdc.Position) *cdc.Batch {
	if b.Position().Compare(p) <= 0 {
		return nil
	}
	if b.Commit != p.Commit {
		return b
	}
	n := slices.IndexFunc(b.Events, func(e cdc.Event) bool { return e.Seq > p.Seq })
	switch n {
	case 0:
		return b
	case -1:
		n = len(b.Events)
	}
	return &cdc.Batch{Transaction: b.Transaction, Events: b.Events[n:], Last: b.Last}
}

// Admit gives what Publish has to append where the newest position is known: the part of the
// batch that is not held yet, or nil where all of it is. It is ErrOrder where the publisher
// broke its side of the contract. Every Bus publishes by it.
//
// A transaction that a crash of the server cut short may never be sent again. Whoever knows
// that publishes a Gap of every relation first, and so starts anew behind it.
func Admit(newest cdc.Position, b *cdc.Batch) (*cdc.Batch, error) {
	if b.Commit == 0 {
		return nil, fmt.Errorf("publish transaction: %w: it has no commit LSN", ErrOrder)
	}
	if len(b.Events) == 0 && !b.Last {
		return nil, fmt.Errorf("publish transaction at %s: %w: it is empty, and not the last of its transaction", b.Commit, ErrOrder)
	}
	unfinished := !newest.IsZero() && newest.Seq != cdc.EndOfTransaction
	if unfinished && b.Commit > newest.Commit && !startsAnew(b) {
		return nil, fmt.Errorf("publish transaction at %s: %w: the one at %s is not finished", b.Commit, ErrOrder, newest.Commit)
	}
	return After(b, newest), nil
}

func startsAnew(b *cdc.Batch) bool {
	return len(b.Events) > 0 && b.Events[0].Op == cdc.Gap && b.Events[0].Relation == nil
}
