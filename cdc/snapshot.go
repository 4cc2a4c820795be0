package cdc

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Snapshot is what pg_current_snapshot() says: which transactions a statement sees. Its
// numbers are 64-bit (xid8) and never reused.
type Snapshot struct {
	Xmin, Xmax uint64
	// InProgress are the transactions between Xmin and Xmax that the snapshot does not see,
	// ascending.
	InProgress []uint64
	// End is where the WAL ended just after the snapshot was taken, 0 where that is not known:
	// it sees nothing that commits there or behind, whatever the transaction's id. After a crash
	// PostgreSQL gives ids anew whose transactions left no trace in the WAL.
	End LSN
}

// SeesCommit tells whether the effects of the transaction with this id, which committed at an LSN,
// are in the snapshot.
func (s Snapshot) SeesCommit(xid uint32, commit LSN) bool {
	return (s.End == 0 || commit < s.End) && s.Sees(xid)
}

// ParseSnapshot reads the text of a pg_snapshot, "xmin:xmax:xip,xip".
func ParseSnapshot(s string) (Snapshot, error) {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: want xmin:xmax:list", s)
	}
	var out Snapshot
	var err error
	if out.Xmin, err = strconv.ParseUint(parts[0], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: %w", s, err)
	}
	if out.Xmax, err = strconv.ParseUint(parts[1], 10, 64); err != nil {
		return Snapshot{}, fmt.Errorf("parse snapshot %q: %w", s, err)
	}
	if parts[2] == "" {
		return out, nil
	}
	for _, f := range strings.Split(parts[2], ",") {
		x, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return Snapshot{}, fmt.Errorf("parse snapshot %q: %w", s, err)
		}
		out.InProgress = append(out.InProgress, x)
	}
	return out, nil
}

// Sees tells whether the effects of the transaction with this 32-bit id are in the snapshot.
// The id is taken for the one nearest to Xmax, which is right for every transaction within two
// billion of the present: those the stream can carry.
func (s Snapshot) Sees(xid uint32) bool {
	full := s.Xmax + uint64(int64(int32(xid-uint32(s.Xmax)))) // the signed distance is the point
	switch {
	case full < s.Xmin:
		return true
	case full >= s.Xmax:
		return false
	}
	_, in := slices.BinarySearch(s.InProgress, full)
	return !in
}
