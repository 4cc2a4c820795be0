package fanout

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/schema"
)

// A plan says how a subscription is to catch up: by a snapshot, for a reason or as it asked; or
// by a replay behind a position; or, where that is zero, with nothing but what comes.
type plan struct {
	snapshot bool
	reason   string
	after    cdc.Position
	// behind, where not zero, is the position up to which a subscription has everything that was
	// live: it goes on with what it holds.
	behind cdc.Position
}

type job struct {
	s *Subscription
	p plan
	// shift is to be worked out, where it is not nil.
	shift *shift
}

// enqueue has Run start the goroutine that catches up.
func (d *Dispatcher) enqueue(s *Subscription, p plan) {
	if !d.assign(job{s: s, p: p}) {
		s.end(ErrDraining, flushed)
	}
}

// enqueueShift has Run start the goroutine that works a shift out.
func (d *Dispatcher) enqueueShift(sh *shift) {
	if !d.assign(job{shift: sh}) {
		sh.reason = reasonMembership
		close(sh.done)
	}
}

// assign gives Run a job, and is false where it takes no more.
func (d *Dispatcher) assign(j job) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.stopped {
		return false
	}
	d.jobs = append(d.jobs, j)
	signal(d.newJob)
	return true
}

// work starts the jobs, and returns when all have ended.
func (d *Dispatcher) work(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	for range d.cfg.Limits.Replays {
		wg.Go(func() { d.drive(ctx) })
	}
	for {
		stop := ctx.Err() != nil
		d.mu.Lock()
		jobs := d.jobs
		d.jobs, d.stopped = nil, stop
		d.mu.Unlock()
		for _, j := range jobs {
			if j.shift != nil {
				wg.Go(func() { d.workOut(ctx, j.shift) })
				continue
			}
			wg.Go(func() { d.catchUp(ctx, j.s, j.p) })
		}
		if stop {
			return
		}
		select {
		case <-d.newJob:
		case <-ctx.Done():
		}
	}
}

// maxTries is how often catching up may begin anew before the subscription is given up, and
// firstPause how long it waits when nothing but time can help.
const (
	maxTries   = 5
	firstPause = 100 * time.Millisecond
)

// errResync ends an attempt to catch up that must begin anew with a snapshot.
type errResync struct{ reason string }

func (e errResync) Error() string { return "resync: " + e.reason }

// catchUp brings a subscription to where it is live, or ends it.
func (d *Dispatcher) catchUp(ctx context.Context, s *Subscription, p plan) {
	for try := 1; ; try++ {
		err := d.attempt(ctx, s, p)
		if err == nil {
			return
		}
		reason, again := s.again(ctx, err)
		if !again {
			return
		}
		if try == maxTries || !s.present().op.Snapshot || reason == reasonOverspent {
			s.end(resyncRequired(reason), flushed)
			return
		}
		if reason == reasonUnavailable && pause(ctx, firstPause<<try) != nil {
			return
		}
		p = plan{snapshot: true, reason: reason}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// again says what follows from an attempt's error: whether to try again, and the reason to tell.
func (s *Subscription) again(ctx context.Context, err error) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.detachLocked()
	s.cancel = nil
	var resync errResync
	var told *schema.Error
	switch {
	case s.err != nil:
		return "", false
	case s.restart != "":
		reason := s.restart
		s.restart = ""
		return reason, true
	case errors.As(err, &resync):
		return resync.reason, true
	case errors.As(err, &told) && told.Reason == reasonUnavailable:
		return told.Reason, true
	case errors.As(err, &told):
		s.endLocked(told, flushed)
		return "", false
	case ctx.Err() != nil, errors.Is(err, bus.ErrClosed):
		s.endLocked(ErrDraining, flushed)
		return "", false
	}
	s.d.log.Error("cannot bring a subscription up to date", slog.Any("error", err),
		slog.String("role", s.view.principal.Role), slog.String("table", s.view.op.Table.Def.Schema+"."+s.view.op.Table.Def.Name))
	return reasonUnavailable, true
}

func (d *Dispatcher) attempt(ctx context.Context, s *Subscription, p plan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	err := s.err
	if err == nil && s.restart != "" {
		err = errResync{s.restart}
	}
	s.cancel = cancel
	s.mu.Unlock()
	if err != nil {
		return err
	}
	c := chase{d: d, s: s, pos: p.after}
	if !p.behind.IsZero() {
		c.pos, c.announced = p.behind, true
	} else if err := d.awaitMembership(ctx, s); err != nil {
		return err
	}
	switch {
	case c.announced:
	case p.snapshot:
		if err := c.snapshot(ctx, p.reason); err != nil {
			return err
		}
	case p.after.IsZero():
		c.pos = d.registry.attach(s, cdc.Position{})
	default:
		return c.replay(ctx)
	}
	if done, err := c.handOver(ctx); done || err != nil {
		return err
	}
	if !c.announced { // what commits from now on arrives, if by way of the bus
		if err := c.live(ctx); err != nil {
			return err
		}
	}
	return c.replay(ctx)
}

// A chase brings one subscription to the dispatcher's position.
type chase struct {
	d *Dispatcher
	s *Subscription
	// pos is the position up to which the subscription has everything.
	pos cdc.Position
	// announced tells that LIVE was sent.
	announced bool
	rows      int // of the snapshot
	parcel    parcel
}

// handOver sends LIVE and what was held, and goes live. It is false where too much was held to
// keep: then pos is where to read on from the bus.
func (c *chase) handOver(ctx context.Context) (bool, error) {
	for {
		h, err := c.s.takeHeld(c.announced)
		if err != nil || h.live || h.lost {
			return h.live, err
		}
		if !c.announced {
			c.pos = h.from
			if err := c.live(ctx); err != nil {
				return false, err
			}
		}
		for i := range h.frames {
			if err := c.give(ctx, &h.frames[i]); err != nil {
				return false, err
			}
		}
	}
}

// give sends a frame, or those of a shift that the snapshot does not have and that were not given
// before.
func (c *chase) give(ctx context.Context, f *frame) error {
	if f.shift == nil {
		err := c.s.push(ctx, f.payload)
		c.pos = f.pos
		return err
	}
	frames, err := f.shift.wait(ctx)
	if err != nil {
		return err
	}
	frames, reason := c.s.unseen(&f.shift.of.w.batch.Transaction, frames)
	if reason != "" {
		return errResync{reason}
	}
	for i := range frames {
		if frames[i].pos.Seq != shiftSeq && frames[i].pos.Compare(c.pos) <= 0 {
			continue
		}
		if err := c.s.push(ctx, frames[i].payload); err != nil {
			return err
		}
	}
	c.pos = f.pos
	return nil
}

func (c *chase) live(ctx context.Context) error {
	live := schema.Change{Kind: schema.KindLive}
	if !c.pos.IsZero() {
		live.Cursor = c.d.cfg.Cursors.Encode(c.pos)
	}
	c.announced = true
	return c.push(ctx, c.s.present(), live)
}

// A handful is what was held for a subscription.
type handful struct {
	frames []frame
	// from is the position from which on a subscription that has what its snapshot saw needs
	// the frames.
	from cdc.Position
	// live tells that nothing was left and the subscription is live; lost that too much was
	// held.
	live, lost bool
}

func (s *Subscription) takeHeld(announced bool) (handful, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return handful{}, s.err
	}
	if s.phase != holding {
		return handful{lost: true}, nil
	}
	if announced && len(s.held) == 0 && s.draining {
		s.endLocked(ErrDraining, flushed)
		return handful{}, s.err
	}
	if announced && len(s.held) == 0 {
		s.phase, s.catching, s.cancel = live, false, nil
		return handful{live: true}, nil
	}
	h := handful{from: s.start}
	for i := range s.held {
		f := &s.held[i]
		every, this := s.sawFrameLocked(f)
		switch {
		case f.resync != "" && !every:
			return handful{}, errResync{f.resync}
		case f.shift != nil && !every: // each of its frames is looked at when they are there
			h.frames = append(h.frames, *f)
		case f.image == nil && !every && this: // a TRUNCATE in the middle of the snapshot
			return handful{}, errResync{reasonTruncated}
		case !this:
			h.frames = append(h.frames, *f)
		case every && len(h.frames) == 0:
			h.from = cdc.Position{Commit: f.pos.Commit, Seq: cdc.EndOfTransaction}
		}
	}
	s.releaseLocked()
	if !announced {
		s.told = h.from
	}
	return h, nil
}

// see makes c what the snapshot has seen, nothing yet.
func (s *Subscription) see(c *cover) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen = c
}

// cover notes that a portion of the snapshot was read.
func (s *Subscription) cover(p portion) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen.add(p)
}

func (s *Subscription) attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phase != detached
}
