package rowtide

import (
	"context"
	"fmt"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/cdc/replication"
	"github.com/rowtide/rowtide/fanout"
)

// The reasons to resync that the life of the slot and of the server gives.
const (
	reasonSlotLost    = "slot_lost"
	reasonTimeline    = "timeline"
	reasonUndecodable = "undecodable"
	reasonUnpublished = "unpublished"
	// reasonUnsettled: a snapshot may not have seen what was handed on before a restart.
	reasonUnsettled = "retention"
)

// met is told which server the stream goes on from. Where that was promoted, and had all that
// was handed on, cursors go on too: those of the timelines before are good up to their forks.
func (p *pipeline) met(_ context.Context, s replication.Server) error {
	if s.Timeline != p.source.timeline {
		p.log.Warn("the server was promoted: nothing is lost", "timeline", s.Timeline, "before", p.source.timeline)
		p.source.pool.Reset() // of connections to the server before
	}
	p.source.timeline, p.source.forks = s.Timeline, s.Forks
	return p.cursors.Switch(p.source.cursorConfig(p.cfg.CursorSecret))
}

// lost is told that the stream goes on from elsewhere. Everybody resyncs, with the reason.
func (p *pipeline) lost(ctx context.Context, l replication.Loss) error {
	if !l.Rewritten {
		if err := p.met(ctx, l.Server); err != nil {
			return err
		}
		reason := reasonSlotLost
		switch l.Reason { //nolint:exhaustive // all others mean the slot
		case replication.Undecodable:
			reason = reasonUndecodable
		case replication.Unpublished:
			reason = reasonUnpublished
		}
		return p.feed.gap(ctx, l.At, reason)
	}
	if err := p.restart(ctx, l.Server); err != nil {
		return fmt.Errorf("begin anew on another history: %w", err)
	}
	return p.bus.Restart(reasonTimeline)
}

// restart makes the service one of another history. What the dispatcher has begun ends under the
// old one: it switches the cursors itself, when it has.
func (p *pipeline) restart(ctx context.Context, s replication.Server) error {
	p.source.pool.Reset()
	p.reading.Lock()
	defer p.reading.Unlock()
	p.source.reading = nil // what transaction ids told apart there, they do not here
	same := p.source.system == s.System && p.source.timeline == s.Timeline
	if p.source.system != s.System { // another cluster has secrets and tables of its own
		if err := p.source.open(ctx); err != nil {
			return err
		}
		catalog, err := p.reload(ctx)
		if err != nil {
			return err
		}
		p.dispatcher.SetCatalog(catalog)
	}
	p.source.system, p.source.timeline, p.source.forks = s.System, s.Timeline, s.Forks
	if same { // files of before were put back, and nothing but time tells the two histories apart
		p.source.generation = uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	}
	next := p.source.cursorConfig(p.cfg.CursorSecret)
	p.next.Store(&next)
	return nil
}

// restarted is called by the dispatcher when nothing of the old history is left to dispatch.
func (p *pipeline) restarted() {
	if next := p.next.Load(); next != nil {
		if err := p.cursors.Switch(*next); err != nil {
			p.log.Error("cursors of the server's history cannot be made", "error", err)
		}
	}
}

// cursorConfig is of this database's cursors, under the configured secret or else the
// installation's.
func (s *source) cursorConfig(secret string) fanout.CursorConfig {
	key := []byte(secret)
	if secret == "" {
		key = s.installation.CursorSecret
	}
	return fanout.CursorConfig{Secret: key, System: s.system, Timeline: s.timeline, Forks: s.forks, Generation: s.generation}
}

// gap tells the subscribers of every table that changes before a position are lost.
func (f *feed) gap(ctx context.Context, before cdc.LSN, reason string) error {
	_, newest := f.bus.Window()
	if newest.Commit >= before-1 { // it would be taken for a replay of what is there
		return f.bus.Restart(reason)
	}
	return f.bus.Publish(ctx, &cdc.Batch{
		Transaction: cdc.Transaction{Commit: before - 1, End: before},
		Events:      []cdc.Event{{Op: cdc.Gap, Reason: reason}}, Last: true,
	})
}

// promiseEvery is how often an idle stream's position is told.
const promiseEvery = time.Second

// reached puts on the bus how far the server has come while nothing concerned us, so that idle
// does not look like stuck, and idle clients' cursors stay fresh. A commit may still come at end
// itself, so the promise is for all before.
func (f *feed) reached(ctx context.Context, end cdc.LSN) error {
	if f.missed(end) {
		return f.gap(ctx, end, reasonUnsettled)
	}
	_, newest := f.bus.Window()
	if end-1 <= newest.Commit || time.Since(f.promised) < promiseEvery*9/10 {
		return nil
	}
	f.promised = time.Now()
	return f.bus.Publish(ctx, &cdc.Batch{Transaction: cdc.Transaction{Commit: end - 1, End: end}, Last: true})
}
