package rowtide

import (
	"context"
	"fmt"
	"time"
)

// slotWait is how long the service waits at its start for a slot that another session streams
// from: a predecessor that is told to stop is gone within five seconds.
const (
	slotWait  = 10 * time.Second
	slotEvery = 100 * time.Millisecond
)

// awaitSlot waits until nobody streams from the slot. Two services would only take it from each
// other.
func (s *source) awaitSlot(ctx context.Context, slot string) error {
	tick, late := time.NewTicker(slotEvery), time.After(slotWait)
	defer tick.Stop()
	for told := false; ; told = true {
		pid, err := s.slotUser(ctx, slot)
		if err != nil || pid == 0 {
			return err
		}
		if !told {
			s.log.Info("waiting for the replication slot: another session streams from it", "slot", slot, "pid", pid, "at_most", slotWait)
		}
		select {
		case <-tick.C:
		case <-late:
			return fmt.Errorf("replication slot %s is in use (process %d of the server): stop the service that streams from it, or give this one another with --slot", slot, pid)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// slotUser is the server's process that streams from the slot, 0 for none.
func (s *source) slotUser(ctx context.Context, slot string) (pid int, err error) {
	err = s.pool.QueryRow(ctx, `SELECT coalesce(max(active_pid), 0) FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, slot).Scan(&pid)
	if err != nil {
		return 0, fmt.Errorf("read replication slot %s: %w", slot, err)
	}
	return pid, nil
}
