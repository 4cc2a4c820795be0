package membus

import (
	"context"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

// A stream is a place in the window. Its fields are guarded by the mutex of its bus.
type stream struct {
	b      *Bus
	follow bool
	// next is the number of the batch that counts as unread: behind the one that the last
	// call of Next gave it lies only from the following call on.
	next uint64
	// given tells that the batch at next was given.
	given bool
	// after cuts the first batch; at is the position up to which everything was given.
	after, at cdc.Position
	lost      bool
	// restarts is how often the bus had begun anew when the stream was opened.
	restarts int
	closed   bool
}

// Next waits for the next batch.
func (s *stream) Next(ctx context.Context) (*cdc.Batch, error) {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	s.advanceLocked()
	for {
		switch {
		case b.closed || s.closed:
			return nil, bus.ErrClosed
		case s.restarts != b.restarts:
			return nil, &bus.Break{Reason: b.reason}
		case s.next < b.first && !s.lost && s.at.Compare(b.oldest) >= 0:
			s.next = b.first // what went was promises
			continue
		case s.lost || s.next < b.first:
			s.lost = true
			return nil, bus.ErrNotHeld
		case s.next < b.first+uint64(len(b.window)):
			s.given = true
			batch := b.window[s.next-b.first].batch
			s.at = batch.Position()
			if !s.after.IsZero() {
				batch = bus.After(batch, s.after)
				s.after = cdc.Position{}
			}
			return batch, nil
		}
		if err := b.waitLocked(ctx, b.appended); err != nil {
			return nil, err
		}
	}
}

// advanceLocked counts the batch that was given as read.
func (s *stream) advanceLocked() {
	if !s.given {
		return
	}
	s.given = false
	s.next++
	if s.follow {
		s.b.wakeLocked()
	}
}

// Close ends the stream; Publish waits for it no longer.
func (s *stream) Close() error {
	b := s.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	delete(b.followers, s)
	b.wakeLocked()
	return nil
}

// wakeLocked lets a waiting Publish look again.
func (b *Bus) wakeLocked() {
	if b.closed {
		return
	}
	close(b.advanced)
	b.advanced = make(chan struct{})
}
