package replication

import (
	"context"
	"math/rand/v2"
	"time"
)

// A backoff gives rising delays, each drawn at random, so that nodes that lost the same server
// do not come back in step.
type backoff struct {
	limit time.Duration
}

const (
	firstDelay = 100 * time.Millisecond
	lastDelay  = 5 * time.Second
)

func newBackoff() *backoff { return &backoff{limit: firstDelay} }

// next gives a delay between half of the present limit and all of it, and doubles the limit.
func (b *backoff) next() time.Duration {
	d := b.limit/2 + rand.N(b.limit/2+1)
	b.limit = min(2*b.limit, lastDelay)
	return d
}

// sleep waits, and tells whether it could wait to the end.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// startingUp is how many times longer a server is waited for that is there, and is not yet, or no
// longer, open to anybody: it may have a crash to recover from.
const startingUp = 8

// A patience tells how long errors that may pass are borne with. Who starts the program with a
// wrong address wants to hear of it soon; who has once got through wants it to come back whenever
// the server does.
type patience struct {
	start, slot time.Duration

	// reached tells that the server was once there and in order.
	reached bool
	// failing and inUse are since when the server could not be had, and since when the slot
	// was another's; zero while it is not so.
	failing, inUse time.Time
}

func (p *patience) streamed() {
	p.reached = true
	p.failing, p.inUse = time.Time{}, time.Time{}
}

// isOver tells whether err, which is not terminal, has come for too long.
func (p *patience) isOver(err error, now time.Time) bool {
	if reasonOf(err) == SlotInUse {
		p.reached = true
		return p.slot >= 0 && lasted(&p.inUse, now) >= p.slot
	}
	p.inUse = time.Time{}
	most := p.start
	if sqlState(err) == cannotConnectNow {
		most *= startingUp
	}
	return !p.reached && lasted(&p.failing, now) >= most
}

// lasted sets since where it is not set, and gives the time from then until now.
func lasted(since *time.Time, now time.Time) time.Duration {
	if since.IsZero() {
		*since = now
	}
	return now.Sub(*since)
}
