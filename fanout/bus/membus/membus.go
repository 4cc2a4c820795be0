// Package membus is the bus of a single node: a window of batches in memory.
//
// Guarantees, beyond those of package bus:
//   - What a Follow stream has not read is never evicted; Publish waits for it within a bound.
//     So a slow dispatcher holds the WAL back, and loses nothing.
//   - Every other stream may fall off the window, and is told so.
//   - Memory is bounded: the window is at most MaxBytes, or MaxLag and one batch where followers
//     are that far behind.
//
// It does not survive the process: positions from before are not held.
package membus

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
)

// Config configures a Bus.
type Config struct {
	// MaxAge is how long a batch is held, counted from its publication; it is evicted by the
	// first Publish or Stream behind that. Defaults to 5 minutes.
	MaxAge time.Duration
	// MaxBytes bounds the memory of what is held. Defaults to 256 MiB.
	MaxBytes int
	// MaxLag is how many bytes Publish lets the slowest follower fall behind. Defaults to a
	// quarter of MaxBytes.
	MaxLag int
}

// A Bus holds the newest batches in memory.
type Bus struct {
	cfg Config

	mu sync.Mutex
	// window are the batches held, oldest first; first is the number of window[0], where
	// batches are numbered from 0 in the order of their publication.
	window []entry
	first  uint64
	bytes  int
	// published is the size of everything ever published: what entry.end counts in.
	published      uint64
	oldest, newest cdc.Position
	followers      map[*stream]struct{}
	// restarts counts the calls of Restart, reason is the last one's: streams opened before it
	// are broken.
	restarts int
	reason   string
	closed   bool
	// appended is closed, and made anew, when streams have something to look at; advanced
	// when Publish has.
	appended, advanced chan struct{}
}

type entry struct {
	batch *cdc.Batch
	at    time.Time
	size  int
	end   uint64 // Bus.published behind this batch
}

// New makes an empty Bus.
func New(cfg Config) (*Bus, error) {
	if cfg.MaxAge < 0 || cfg.MaxBytes < 0 || cfg.MaxLag < 0 {
		return nil, fmt.Errorf("make memory bus: a limit is negative: %+v", cfg)
	}
	if cfg.MaxAge == 0 {
		cfg.MaxAge = 5 * time.Minute
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 256 << 20
	}
	if cfg.MaxLag == 0 {
		cfg.MaxLag = cfg.MaxBytes / 4
	}
	return &Bus{
		cfg: cfg, followers: map[*stream]struct{}{},
		appended: make(chan struct{}), advanced: make(chan struct{}),
	}, nil
}

// Publish appends a batch, or what of it the bus does not hold yet. It waits while a follower is
// more than MaxLag behind.
func (b *Bus) Publish(ctx context.Context, batch *cdc.Batch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		if b.closed {
			return bus.ErrClosed
		}
		rest, err := bus.Admit(b.newest, batch)
		if err != nil || rest == nil {
			return err
		}
		if b.lagLocked() <= b.cfg.MaxLag {
			b.appendLocked(rest)
			return nil
		}
		if err := b.waitLocked(ctx, b.advanced); err != nil {
			return fmt.Errorf("publish transaction at %s: wait for a follower: %w", batch.Commit, err)
		}
	}
}

// lagLocked is how many bytes the slowest follower has not read.
func (b *Bus) lagLocked() int {
	lag := 0
	for s := range b.followers {
		lag = max(lag, b.unreadLocked(s.next))
	}
	return lag
}

// unreadLocked is the size of the batches from number next on.
func (b *Bus) unreadLocked(next uint64) int {
	if next >= b.first+uint64(len(b.window)) {
		return 0
	}
	e := &b.window[next-b.first]
	return int(b.published-e.end) + e.size //nolint:gosec // at most the bytes held
}

func (b *Bus) appendLocked(batch *cdc.Batch) {
	if len(b.window) == 0 && b.oldest.IsZero() {
		// Nothing was ever published: all behind the LSN before this commit is held.
		b.oldest = cdc.Position{Commit: batch.Commit - 1, Seq: cdc.EndOfTransaction}
	}
	size := batch.Size()
	b.published += uint64(size) //nolint:gosec // sizes are positive
	b.bytes += size
	b.newest = batch.Position()
	b.window = append(b.window, entry{batch: batch, at: time.Now(), size: size, end: b.published})
	b.evictLocked()
	close(b.appended)
	b.appended = make(chan struct{})
}

// evictLocked drops what is too old or too much, but never what a follower has not read. The
// newest batch stays: there is no window of nothing.
func (b *Bus) evictLocked() {
	keep := uint64(len(b.window)) - 1
	for s := range b.followers {
		keep = min(keep, s.next-b.first)
	}
	n := 0
	for uint64(n) < keep && (b.bytes > b.cfg.MaxBytes || time.Since(b.window[n].at) > b.cfg.MaxAge) { //nolint:gosec // n counts up from 0
		b.bytes -= b.window[n].size
		// A promise holds nothing that a reader could miss: positions from before it stay
		// good, so that nobody has to start over because nothing happened.
		if old := b.window[n].batch; len(old.Events) > 0 || len(old.Messages) > 0 {
			b.oldest = old.Position()
		}
		n++
	}
	if n == 0 {
		return
	}
	b.first += uint64(n)
	clear(b.window[:n])
	b.window = b.window[n:]
	if cap(b.window) > 4*len(b.window)+64 {
		b.window = slices.Clone(b.window)
	}
}

// waitLocked lets go of mu until c is closed or ctx ends.
func (b *Bus) waitLocked(ctx context.Context, c <-chan struct{}) error {
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Stream opens a reader behind a position. It may fall off the window.
func (b *Bus) Stream(ctx context.Context, after cdc.Position) (bus.Stream, error) {
	return b.open(ctx, after, false)
}

// Follow opens a reader behind a position, for which Publish waits.
func (b *Bus) Follow(ctx context.Context, after cdc.Position) (bus.Stream, error) {
	return b.open(ctx, after, true)
}

func (b *Bus) open(ctx context.Context, after cdc.Position, follow bool) (bus.Stream, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, bus.ErrClosed
	}
	s := &stream{b: b, follow: follow, after: after, next: b.first + uint64(len(b.window)), restarts: b.restarts}
	if s.at = after; after.IsZero() {
		s.at = b.newest
	}
	if !after.IsZero() {
		if len(b.window) > 0 {
			b.evictLocked()
		}
		if after.Compare(b.oldest) < 0 || after.Compare(b.newest) > 0 {
			return nil, bus.ErrNotHeld
		}
		n := sort.Search(len(b.window), func(i int) bool { return b.window[i].batch.Position().Compare(after) > 0 })
		s.next = b.first + uint64(n) //nolint:gosec // an index
	}
	if follow {
		b.followers[s] = struct{}{}
	}
	return s, nil
}

// Window gives the positions between which the bus can be read; two zero ones where nothing was
// ever published.
func (b *Bus) Window() (oldest, newest cdc.Position) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.oldest, b.newest
}

// Held is the size of what is held, in bytes, and the age of the oldest of it.
func (b *Bus) Held() (bytes int, age time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.window) > 0 {
		age = time.Since(b.window[0].at)
	}
	return b.bytes, age
}

// Restart forgets everything and breaks all streams.
func (b *Bus) Restart(reason string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return bus.ErrClosed
	}
	b.first += uint64(len(b.window))
	b.window, b.bytes = nil, 0
	b.oldest, b.newest = cdc.Position{}, cdc.Position{}
	b.restarts++
	b.reason = reason
	clear(b.followers)
	close(b.appended)
	b.appended = make(chan struct{})
	b.wakeLocked()
	return nil
}

// Close ends all streams and forgets what is held.
func (b *Bus) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	b.closed = true
	b.window, b.followers = nil, nil
	close(b.appended)
	close(b.advanced)
	return nil
}
