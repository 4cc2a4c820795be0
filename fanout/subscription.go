package fanout

import (
	"context"
	"math"
	"sync"
	"time"
	"unique"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A Subscription is one running operation: a queue of payloads, bounded in bytes together with
// its session's other queues, and never losing one from the middle. Next reads it; it must be
// closed.
//
// Its frames come along one of two ways. While it catches up (snapshot, replay) a goroutine of
// its own pushes them, at the client's pace, and the dispatcher's frames are held; when the two
// meet it is live, and the dispatcher's frames go straight to the queue.
type Subscription struct {
	d       *Dispatcher
	id      uint64
	since   int64 // Unix milliseconds
	session *Session
	about   about // for the audit log; set before anything else happens to it
	request schema.Request
	// waker is told when there is something to take.
	waker Waker
	// class is what it gets its frames from, at that place; moving that it may be of another
	// one now. The registry's lock guards them, and place that of the class too.
	class  *class
	oid    uint32
	place  int32
	moving bool
	// seat is its place among the session's, whose lock guards it.
	seat int32

	mu   sync.Mutex
	view view
	err  error // why it ended

	queue         []run
	queued, taken int // bytes of the queue, and of what was taken last

	phase phase
	// draining ends the subscription once what is held is on the queue.
	draining bool
	// catching tells that a goroutine catches up, or will: cancel stops its present attempt,
	// and restart, where not "", has it begin anew with a snapshot, for that reason.
	catching bool
	cancel   context.CancelFunc
	restart  string
	// start is the position behind which the dispatcher's frames count; told that of the last
	// frame or PROGRESS on the queue, zero before LIVE.
	start, told cdc.Position
	// seen is what the snapshot that the subscription started from saw; nil where there was
	// none, or where the stream is long past it.
	seen      *cover
	held      []frame
	heldBytes int
}

// A phase is what becomes of the frames that the dispatcher makes.
type phase uint8

const (
	detached phase = iota + 1 // it makes none
	holding                   // they wait until the catching up is done
	live                      // they go to the queue
)

// A view is what a subscription's frames are made by. It is immutable: a new catalog or token
// is a new view.
type view struct {
	op        *schema.Operation
	signature unique.Handle[string]
	usesLast  bool
	readable  []bool
	principal *authz.Principal
}

// A frame is one payload and its place in the stream; or, held, those of a shift, or the reason why
// whoever did not see its transaction has to begin anew.
type frame struct {
	payload []byte
	shift   *shiftLane
	resync  string
	// image has the key of the row; nil for a TRUNCATE, a shift and a resync.
	image cdc.Row
	pos   cdc.Position
	xid   uint32
}

// A run is payloads that many subscriptions may have got at once: they are shared.
type run struct {
	payloads [][]byte
	bytes    int
}

func newRun(frames []frame) run {
	r := run{payloads: make([][]byte, len(frames))}
	for i := range frames {
		r.payloads[i] = frames[i].payload
		r.bytes += len(frames[i].payload)
	}
	return r
}

// How a subscription ends.
type ending bool

const (
	atOnce  ending = false // what is queued is not given any more
	flushed ending = true  // it is, before the error
)

// A Waker is told that a subscription has something to take, or has ended. Wake is called with
// locks of the dispatcher held: it must return at once and call nothing of the dispatcher.
type Waker interface{ Wake() }

// A bell is the Waker of those who wait in Next.
type bell struct {
	token chan struct{}
	spare [][]byte // memory of what Next gave last
}

// Wake leaves a token.
func (b *bell) Wake() { signal(b.token) }

func newSubscription(d *Dispatcher, s *Session, req schema.Request, v view, w Waker) *Subscription {
	if w == nil {
		w = &bell{token: make(chan struct{}, 1)}
	}
	sub := &Subscription{d: d, id: d.roster.ids.Add(1), since: time.Now().UnixMilli(), session: s, request: req, waker: w, view: v, phase: detached}
	sub.about = describe(s, req, &v)
	return sub
}

// Next waits for payloads, each a complete GraphQL result, and gives all that are ready. They
// are shared and must not be changed; the slice is valid until the next call, which also says
// that these were sent. An error ends the subscription: Explain tells what of it the client may
// know. Only one goroutine may call Next, and none where the subscription has a Waker.
func (s *Subscription) Next(ctx context.Context) ([][]byte, error) {
	ready, _ := s.waker.(*bell)
	for {
		if out, err := s.Take(ready.spare[:0]); len(out) > 0 || err != nil {
			if ready.spare = out; cap(out) > keptPayloads {
				ready.spare = nil
			}
			return out, err
		}
		select {
		case <-ready.token:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// Take appends what Next would give, and nothing where Next would wait.
func (s *Subscription) Take(to [][]byte) ([][]byte, error) {
	s.sent()
	if err := s.session.check(); err != nil {
		s.end(err, atOnce)
	}
	return s.take(to)
}

func (s *Subscription) sent() {
	s.mu.Lock()
	n := s.taken
	s.taken = 0
	s.mu.Unlock()
	if n > 0 {
		s.session.free(n)
	}
}

// keptPayloads is how many payloads a queue keeps the memory of: most are short, and there are
// many.
const keptPayloads = 64

func (s *Subscription) take(to [][]byte) ([][]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return to, s.err
	}
	before := len(to)
	for _, r := range s.queue {
		to = append(to, r.payloads...)
	}
	clear(s.queue)
	if s.queue = s.queue[:0]; cap(s.queue) > keptPayloads {
		s.queue = nil
	}
	s.taken, s.queued = s.queued, 0
	s.d.tally.frames.Add(uint64(len(to) - before)) //nolint:gosec // a count
	s.d.tally.bytes.Add(uint64(s.taken))           //nolint:gosec // a size
	return to, nil
}

// Close ends the subscription and lets go of all that it holds. It is idempotent, and may be
// called while Next waits.
func (s *Subscription) Close() {
	s.end(ErrClosed, atOnce)
	s.sent()
	s.session.remove(s)
	s.d.registry.remove(s)
	if s.session.single {
		s.session.Close()
	}
}

func (s *Subscription) end(err error, how ending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endLocked(err, how)
}

// endLocked ends with the first error; a later end at once still drops what the first left to
// be read, and stands for it.
func (s *Subscription) endLocked(err error, how ending) {
	if s.err != nil && (how == flushed || len(s.queue) == 0) {
		return
	}
	if s.err == nil {
		s.d.ended(s, err)
	}
	s.err = err
	s.detachLocked()
	if s.cancel != nil {
		s.cancel()
	}
	if how == atOnce {
		s.session.free(s.queued)
		s.queue, s.queued = nil, 0
	}
	s.wake()
}

// drain ends with ErrDraining behind what the subscription was given: what is queued and, where
// LIVE was sent already, what is held.
func (s *Subscription) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase == holding && !s.told.IsZero() {
		s.draining, s.start = true, cdc.Position{Commit: math.MaxUint64}
		return
	}
	s.endLocked(ErrDraining, flushed)
}

func (s *Subscription) wake() { s.waker.Wake() }

func (s *Subscription) attach(start cdc.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detachLocked()
	if s.err == nil {
		s.phase, s.start = holding, start
	}
}

func (s *Subscription) detachLocked() {
	s.phase, s.told = detached, cdc.Position{}
	s.releaseLocked()
}

func (s *Subscription) enqueueLocked(r run) bool {
	if !s.session.reserve(r.bytes, len(r.payloads) == 1) {
		return false
	}
	s.queueLocked(r)
	return true
}

func (s *Subscription) queueLocked(r run) {
	s.queue = append(s.queue, r)
	s.queued += r.bytes
}

// single is a run of one payload.
func single(payload []byte) run { return run{[][]byte{payload}, len(payload)} }

// tell puts a PROGRESS frame for pos on the queue, where that is news. It is skipped where
// there is no room: what it says comes again.
func (s *Subscription) tell(pos cdc.Position, progress schema.Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.phase != live || !s.view.op.Progress || pos.Compare(s.told) <= 0 || pos.Compare(s.start) <= 0 {
		return
	}
	payload, err := s.view.write(progress)
	if err == nil && s.enqueueLocked(single(payload)) {
		s.told = pos
		s.wake()
	}
}

// push puts a payload on the queue from the goroutine that catches up: it waits for room.
func (s *Subscription) push(ctx context.Context, payload []byte) error {
	return s.pushRun(ctx, single(payload))
}

// pushRun is push for several.
func (s *Subscription) pushRun(ctx context.Context, r run) error {
	if err := s.session.await(ctx, r.bytes); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		s.session.free(r.bytes)
		return s.err
	}
	s.queueLocked(r)
	s.wake()
	return nil
}

func (s *Subscription) present() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// setView changes all of the view but the principal, which is the session's matter.
func (s *Subscription) setView(v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.principal = s.view.principal
	s.view = v
}

func (s *Subscription) setPrincipal(p *authz.Principal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.view.principal = p
}
