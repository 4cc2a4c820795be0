package audit

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rowtide/rowtide/authz"
)

// A lane is a sink and what waits for it: one that is slow, or away, costs the others nothing.
type lane struct {
	sink  Sink
	queue chan Entry
	log   *slog.Logger

	dropped atomic.Uint64 // since the start
	told    uint64        // of these, what the sink says already; run's alone
}

// batch is how many entries are written at once.
const batch = 256

func (l *lane) put(e Entry) {
	select {
	case l.queue <- e:
	default:
		l.dropped.Add(1)
	}
}

// flushTime bounds how long the end of the service waits for the log.
const flushTime = 2 * time.Second

// run writes until ctx ends, and then what is queued. What is being written then has as long as
// the rest of it.
func (l *lane) run(ctx context.Context) {
	writing, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(flushTime, cancel) })()
	for {
		select {
		case e := <-l.queue:
			l.write(writing, l.gather(e))
			continue
		case <-ctx.Done():
		}
		select {
		case e := <-l.queue:
			l.write(writing, l.gather(e))
		default:
			return
		}
	}
}

// gather takes what is queued behind an entry, and what the log has to say of itself.
func (l *lane) gather(first Entry) []Entry {
	out := []Entry{first}
	for len(out) < batch {
		select {
		case e := <-l.queue:
			out = append(out, e)
			continue
		default:
		}
		break
	}
	if n := l.dropped.Load() - l.told; n > 0 {
		l.told += n
		out = append(out, Entry{Time: time.Now().UTC(), Event: authz.EventDropped, Reason: "records_lost", Count: int(n)}) //nolint:gosec // a count
	}
	return out
}

func (l *lane) write(ctx context.Context, entries []Entry) {
	if err := l.sink.Write(ctx, entries); err != nil {
		l.dropped.Add(uint64(len(entries)))
		l.log.Error("audit records are lost", slog.Int("records", len(entries)), slog.Any("error", err))
	}
}
