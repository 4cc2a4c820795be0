package rls

import (
	"context"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// await waits until all transactions are visible to other sessions: a commit is streamed before,
// by as long as it waits for a synchronous standby (C121, R39). It gives false at the deadline.
// Its error is one of the connection, or of ctx.
func (s *session) await(ctx context.Context, xids []uint32, deadline time.Time) (bool, error) {
	for delay := time.Millisecond; ; delay = min(2*delay, 100*time.Millisecond) {
		r := s.conn.ExecParams(ctx, "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text", nil, nil, nil, nil).Read()
		if r.Err != nil {
			return false, r.Err
		}
		snapshot, err := cdc.ParseSnapshot(string(r.Rows[0][0]))
		if err != nil {
			return false, err
		}
		if sees(snapshot, xids) {
			return true, nil
		}
		if !time.Now().Before(deadline) {
			return false, nil
		}
		timer := time.NewTimer(min(delay, time.Until(deadline)))
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		case <-timer.C:
		}
	}
}

func sees(s cdc.Snapshot, xids []uint32) bool {
	for _, x := range xids {
		if !s.Sees(x) {
			return false
		}
	}
	return true
}
