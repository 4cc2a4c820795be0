package graphqlhttp

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/rowtide/rowtide/fanout"
)

// A framing is what goes around the payloads of one kind of stream.
type framing interface {
	contentType() string
	// open is what comes first, beat what says that the stream is there.
	open(dst []byte) []byte
	beat(dst []byte) []byte
	// next is one result.
	next(dst, payload []byte) []byte
	// end is what comes last: after the only result where err is nil, and otherwise why.
	end(dst []byte, err error) []byte
}

func framingFor(m media) framing {
	if m == multipart {
		return parts{}
	}
	return events{}
}

const (
	// closeTimeout is how long a client has to take what is written to it once it is over.
	closeTimeout = time.Second
	// flushBytes is how much is gathered for one write.
	flushBytes = 64 << 10
)

// A stream is one response that goes on. Its methods may be called by several goroutines.
type stream struct {
	w         http.ResponseWriter
	rc        *http.ResponseController
	framing   framing
	timeout   time.Duration
	heartbeat time.Duration
	lose      context.CancelCauseFunc // ends what reads for the stream

	// mu is held across a write, which its deadline bounds, so that frames stay whole.
	mu     sync.Mutex
	buf    []byte
	timer  *time.Timer
	ending bool
	over   bool
}

// open begins a stream. The context ends with ctx, and when the client cannot be written to; the
// function must be called before the request's handler returns.
func (h *Handler) open(ctx context.Context, w http.ResponseWriter, f framing) (*stream, context.Context, func()) {
	ctx, lose := context.WithCancelCause(ctx)
	s := &stream{
		w: w, rc: http.NewResponseController(w), framing: f, lose: lose,
		timeout: h.cfg.WriteTimeout, heartbeat: h.cfg.Heartbeat,
	}
	w.Header().Set("Content-Type", f.contentType())
	w.Header().Set("X-Accel-Buffering", "no") // nginx would gather frames
	w.WriteHeader(http.StatusOK)
	hurried := make(chan struct{})
	calm := context.AfterFunc(ctx, func() { defer close(hurried); s.hurry() })
	s.mu.Lock()
	s.timer = time.AfterFunc(s.heartbeat, s.beat)
	s.buf = f.open(s.buf)
	s.flushLocked()
	s.mu.Unlock()
	return s, ctx, func() {
		if !calm() {
			<-hurried // it must not touch a connection that serves another request
		}
		s.close()
		lose(nil)
	}
}

// follow writes a subscription's results until it ends.
func (h *Handler) follow(ctx context.Context, w http.ResponseWriter, m media, sub *fanout.Subscription) {
	s, ctx, done := h.open(ctx, w, framingFor(m))
	defer done()
	for {
		payloads, err := sub.Next(ctx)
		if err != nil {
			s.finish(err)
			return
		}
		s.send(payloads)
	}
}

// tell writes one result as a stream.
func (h *Handler) tell(ctx context.Context, w http.ResponseWriter, m media, result []byte) {
	s, _, done := h.open(ctx, w, framingFor(m))
	defer done()
	s.send([][]byte{result})
	s.finish(nil)
}

// send writes results and flushes them together.
func (s *stream) send(payloads [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range payloads {
		s.buf = s.framing.next(s.buf, p)
		s.spillLocked()
	}
	s.flushLocked()
}

// finish writes why a stream ends.
func (s *stream) finish(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.framing.end(s.buf, err)
	s.flushLocked()
}

// beat says that the stream is there, after silence.
func (s *stream) beat() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buf = s.framing.beat(s.buf)
	s.flushLocked()
}

// spillLocked writes what has gathered, where that is much.
func (s *stream) spillLocked() {
	if len(s.buf) >= flushBytes {
		s.writeLocked()
	}
}

// writeLocked hands what has gathered to the server. Where that fails the stream is lost: the
// client is gone, or has not read for as long as it may.
func (s *stream) writeLocked() {
	defer func() {
		if s.buf = s.buf[:0]; cap(s.buf) > 2*flushBytes {
			s.buf = nil // one large frame should not be held for the stream's life
		}
	}()
	if s.over {
		return
	}
	timeout := s.timeout
	if s.ending {
		timeout = closeTimeout
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(timeout))
	if _, err := s.w.Write(s.buf); err != nil {
		s.loseLocked()
	}
}

func (s *stream) flushLocked() {
	s.writeLocked()
	if s.over {
		return
	}
	if err := s.rc.Flush(); err != nil {
		s.loseLocked()
		return
	}
	s.timer.Reset(s.heartbeat)
}

func (s *stream) loseLocked() {
	s.over = true
	s.timer.Stop()
	s.lose(fanout.ErrSlow)
}

// hurry gives a client that has not taken what was written to it little time to do so.
func (s *stream) hurry() {
	_ = s.rc.SetWriteDeadline(time.Now().Add(closeTimeout)) // of the write that holds mu
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending = true
}

// close has nothing written any more.
func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.timer.Stop()
}
