package replication

import (
	"io"
	"time"
)

// A gulp reads the server's bytes: each as it comes, and many at once while there is a backlog.
//
// A walsender gives each message to its socket by itself. Whoever reads as fast as it writes is
// woken for each, and wakes it in turn: most of the time of both goes there. So while reads follow
// each other as only a backlog makes them, the reader rests a moment, and the server fills the
// socket's buffer meanwhile. What comes alone is never delayed.
type gulp struct {
	r        io.Reader
	buf      []byte
	from, to int

	// streak counts reads since began; resting tells that there is a backlog.
	streak  int
	began   time.Time
	resting bool
	last    int // size of the last read
}

const (
	// sipBytes is what is read at once until there is a backlog, gulpBytes from then on.
	sipBytes  = 16 << 10
	gulpBytes = 1 << 20
	// A backlog is streakReads reads that follow each other within streakTime; it ends with a rest
	// in which less than leastGulp comes.
	streakReads = 64
	streakTime  = 4 * time.Millisecond
	leastGulp   = 8 << 10
	// restTime is how long the reader rests: long against a wake-up, short for whoever waits.
	restTime = time.Millisecond
)

func newGulp(r io.Reader) *gulp { return &gulp{r: r, buf: make([]byte, sipBytes)} }

// Read is io.Reader's.
func (g *gulp) Read(p []byte) (int, error) {
	if g.from == g.to {
		n, err := g.r.Read(g.buf)
		if n == 0 {
			return 0, err
		}
		g.from, g.to, g.last = 0, n, n
		g.streak++
	}
	n := copy(p, g.buf[g.from:g.to])
	g.from += n
	return n, nil // an error comes again
}

// empty tells that the next read will have to wait for the server.
func (g *gulp) empty() bool { return g.from == g.to }

// rests tells, before the server is read again, whether to rest first.
func (g *gulp) rests(now time.Time) bool {
	switch {
	case g.resting && g.last >= leastGulp:
		return true
	case g.resting:
		g.resting, g.streak = false, 0
	case g.streak >= streakReads:
		if g.resting = now.Sub(g.began) < streakTime; g.resting && len(g.buf) < gulpBytes {
			g.buf = make([]byte, gulpBytes) // kept: where there was a backlog there will be another
		}
		g.streak, g.began = 0, now
	case g.streak <= 1:
		g.began = now
	}
	return g.resting
}
