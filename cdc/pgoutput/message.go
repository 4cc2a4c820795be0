package pgoutput

import (
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// A Message is one decoded message of the stream: a *Begin, *Commit, *Change, *Truncate,
// *Logical, *Relation, *Type, *Origin or *StreamAbort, and nothing else.
type Message interface {
	message()
}

// Begin opens a transaction. Transactions never overlap in protocol version 1: all that
// follows, up to the Commit, belongs to it, but for Logical messages that say otherwise.
type Begin struct {
	XID uint32
	// Commit is the LSN of the commit record that will end the transaction.
	Commit cdc.LSN
	Time   time.Time
}

// Commit closes the open transaction.
type Commit struct {
	Commit cdc.LSN
	// End is the LSN behind the commit record: what may be acknowledged once the
	// transaction is in safe hands.
	End  cdc.LSN
	Time time.Time
}

// A Change is one insert, update or delete of the open transaction. Its Seq is not set.
type Change struct {
	cdc.Event
}

// Truncate empties published relations. Those that TRUNCATE … CASCADE reached and that are not
// published are not named.
type Truncate struct {
	Relations       []*cdc.Relation
	Cascade         bool
	RestartIdentity bool
}

// Logical is a message of pg_logical_emit_message. Any login can emit one under any prefix.
type Logical struct {
	// Transactional tells that the message belongs to the open transaction. Without it, it
	// may come inside or outside of one and has nothing to do with it.
	Transactional bool
	LSN           cdc.LSN
	Prefix        string
	Content       []byte
}

// Relation tells how a relation looks from here on in the stream. The changes that follow
// carry it; whoever only follows changes need not look at it.
type Relation struct {
	*cdc.Relation
}

// Type names a data type that is not built in, before the Relation that uses it.
type Type struct {
	OID          uint32
	Schema, Name string
}

// Origin tells that the open transaction was replicated from elsewhere.
type Origin struct {
	// LSN is the commit LSN at the origin.
	LSN  cdc.LSN
	Name string
}

// StreamAbort drops a transaction that was streamed before its commit. Protocol version 1
// streams none, so there is nothing to drop; some servers have been seen to send it all the
// same. It is to be counted and otherwise ignored.
type StreamAbort struct {
	XID, SubXID uint32
}

func (*Begin) message()       {}
func (*Commit) message()      {}
func (*Change) message()      {}
func (*Truncate) message()    {}
func (*Logical) message()     {}
func (*Relation) message()    {}
func (*Type) message()        {}
func (*Origin) message()      {}
func (*StreamAbort) message() {}
