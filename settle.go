package rowtide

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// A commit is streamed before other sessions see it, and with synchronous replication it may wait
// for its standby for long. What was streamed before a restart is not streamed again, so a snapshot
// that does not see it yet would never learn of it. Nothing tells such a transaction from one that
// is really open; so both are waited for at the start, for a while, and what is left then is
// looked after: when it turns out to have committed without having been streamed, everybody
// resyncs.

// settleMost is how long a start waits, settleEvery how often it looks.
const (
	settleMost  = 10 * time.Second
	settleEvery = 100 * time.Millisecond
)

// settle waits for the transactions that are open at the start, where commits wait for a standby,
// and gives those that still are.
func (p *pipeline) settle(ctx context.Context) ([]uint64, error) {
	var synchronous bool
	err := p.source.pool.QueryRow(ctx, `SELECT pg_catalog.current_setting('synchronous_standby_names') <> ''`).Scan(&synchronous)
	if err != nil || !synchronous {
		return nil, err
	}
	seen, err := p.source.snapshot(ctx)
	if err != nil {
		return nil, err
	}
	open := seen.InProgress
	late := time.After(settleMost)
	for len(open) > 0 {
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-late:
			p.log.Warn("transactions are open since before the start, with synchronous_standby_names set: if one was handed on before, everybody resyncs when it becomes visible", "transactions", open)
			return open, nil
		case <-time.After(settleEvery):
		}
		if seen, err = p.source.snapshot(ctx); err != nil {
			return nil, err
		}
		open = slices.DeleteFunc(open, func(x uint64) bool { return seen.Sees(uint32(x)) }) //nolint:gosec // as the stream has it
	}
	return nil, nil
}

// lookAfter has everybody resync when a transaction that was open at the start turns out to have
// committed before it.
func (p *pipeline) lookAfter(ctx context.Context, open []uint64) error {
	p.feed.expect(open)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for len(open) > 0 {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		left, err := p.ended(ctx, open)
		if err != nil && ctx.Err() == nil {
			p.log.Warn("transactions of before the start cannot be looked at", "error", err)
			continue
		}
		open = left
	}
	return nil
}

// ended takes from the list what has ended, and has the feed see to it.
func (p *pipeline) ended(ctx context.Context, open []uint64) (left []uint64, err error) {
	seen, err := p.source.snapshot(ctx)
	if err != nil {
		return open, err
	}
	for _, x := range open {
		if !seen.Sees(uint32(x)) { //nolint:gosec // as the stream has it
			left = append(left, x)
			continue
		}
		var status, end string
		err := p.source.pool.QueryRow(ctx, `SELECT coalesce(pg_catalog.pg_xact_status($1::pg_catalog.text::pg_catalog.xid8), 'committed'), pg_catalog.pg_current_wal_lsn()::text`,
			fmt.Sprint(x)).Scan(&status, &end)
		if err != nil {
			return open, err
		}
		at, err := cdc.ParseLSN(end)
		if err != nil {
			return open, err
		}
		p.feed.committed(uint32(x), at, status == "committed") //nolint:gosec // as the stream has it
	}
	return left, nil
}

// snapshot is what a statement would see now.
func (s *source) snapshot(ctx context.Context) (cdc.Snapshot, error) {
	var text string
	if err := s.pool.QueryRow(ctx, `SELECT pg_catalog.pg_current_snapshot()::text`).Scan(&text); err != nil {
		return cdc.Snapshot{}, fmt.Errorf("read snapshot: %w", err)
	}
	return cdc.ParseSnapshot(text)
}

// expect notes transactions that were open at the start.
func (f *feed) expect(open []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.unsettled = make(map[uint32]cdc.LSN, len(open))
	for _, x := range open {
		f.unsettled[uint32(x)] = 0 //nolint:gosec // as the stream has it
	}
}

// committed notes that one of them has ended before a position of the WAL.
func (f *feed) committed(xid uint32, before cdc.LSN, committed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, waiting := f.unsettled[xid]; waiting && committed {
		f.unsettled[xid] = before
		return
	}
	delete(f.unsettled, xid)
}

// began notes that a transaction is streamed after all.
func (f *feed) began(xid uint32) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.unsettled, xid)
}

// missed tells whether one of them has ended without having been streamed up to a position.
func (f *feed) missed(end cdc.LSN) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	missed := false
	for xid, before := range f.unsettled {
		if before != 0 && before <= end {
			delete(f.unsettled, xid)
			missed = true
		}
	}
	return missed
}
