package schema

import (
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// ChangeKind is the GraphQL enum of that name: what a frame tells.
type ChangeKind uint8

// The kinds of frames. The zero ChangeKind is invalid.
const (
	KindInsert ChangeKind = iota + 1
	KindUpdate
	KindDelete
	KindEnter
	KindLeave
	KindTruncate
	KindSnapshot
	KindReset
	KindLive
	KindProgress
)

var kindNames = [...]string{"", "INSERT", "UPDATE", "DELETE", "ENTER", "LEAVE", "TRUNCATE", "SNAPSHOT", "RESET", "LIVE", "PROGRESS"}

// String is the GraphQL name.
func (k ChangeKind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return ""
}

// ParseChangeKind reads a GraphQL name.
func ParseChangeKind(s string) (ChangeKind, bool) {
	for k, n := range kindNames {
		if n == s && k > 0 {
			return ChangeKind(k), true
		}
	}
	return 0, false
}

// KindSet is a set of ChangeKinds.
type KindSet uint16

// Has tells whether k is in the set.
func (s KindSet) Has(k ChangeKind) bool { return s&(1<<k) != 0 }

// With is the set with k in it.
func (s KindSet) With(k ChangeKind) KindSet { return s | 1<<k }

// AllKinds has every kind.
const AllKinds KindSet = 1<<(KindProgress+1) - 2

// A Change is what a frame says, for one subscriber: the input of Selection.Append. Whoever
// makes it has already decided what that subscriber may see.
type Change struct {
	Kind ChangeKind
	// Key is an image that has the key's columns: of every frame about a row. It is read for
	// rowId and key alone. Nil on RESET, LIVE, PROGRESS and TRUNCATE.
	Key cdc.Row
	// New is the image after the transaction and Old the one before; nil where the
	// subscriber does not see it. All images are in the order of Table.Columns.
	New, Old cdc.Row
	// Cursor is "" where the frame has none.
	Cursor string
	// Transaction is nil on RESET, SNAPSHOT, LIVE and PROGRESS.
	Transaction *ChangeTransaction
	// Reason is of RESET.
	Reason string
}

// ChangeTransaction is the GraphQL type of that name.
type ChangeTransaction struct {
	ID         string // opaque
	CommitTime time.Time
	// Last tells that no frame of this transaction follows on the subscription.
	Last      bool
	XID       uint32  // shown with --expose-positions alone
	CommitLSN cdc.LSN // likewise
}
