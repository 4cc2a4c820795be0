// Package cdc holds the values that a change stream is made of: positions, relations, rows and
// the batches in which committed transactions travel.
//
// It holds values only. It does no I/O, starts no goroutine and imports the standard library
// alone, so every other package may depend on it. All values are immutable once handed on:
// a Batch may be read by many goroutines at once and must not be changed by any.
package cdc

import (
	"time"
)

// Op says what an Event did.
type Op uint8

// The zero Op is invalid, so that a forgotten field is noticed.
const (
	// Insert has New and no Old.
	Insert Op = iota + 1
	// Update has New; it has Old where the relation's identity is full or its key changed.
	Update
	// Delete has Old: the whole row under full identity, else the key alone with every
	// other value Absent.
	Delete
	// Truncate empties the relation. It has neither image.
	Truncate
	// Gap stands where changes could not be carried: Reason says why. Relation is nil where
	// every relation may be concerned. Whoever follows the relation must resync.
	Gap
)

// String gives the SQL word of an operation, in lower case.
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	case Gap:
		return "gap"
	}
	return "invalid"
}

// An Event is one change of one row, of one relation, or a Gap.
//
// Before the fold an Event is what the WAL says. After it, it is the net effect of a
// transaction on one key, and Seq is its place among the folded changes of its transaction,
// counted from 0.
type Event struct {
	Op       Op
	Seq      uint32
	Relation *Relation
	// Old and New have one Value for each of Relation.Columns, or are nil.
	Old, New Row
	// Reason is set on a Gap: one of the resync reasons of the API ("transaction_size",
	// "undecodable", …).
	Reason string
}

// Size is the memory that the event holds, in bytes, closely enough to bound queues with.
func (e *Event) Size() int {
	const header = 96
	return header + e.Old.Size() + e.New.Size()
}

// A Transaction is the header of a committed transaction.
type Transaction struct {
	// XID is the 32-bit transaction id. It is reused after wraparound: never a key.
	XID uint32
	// Commit is the LSN of the commit record. Transactions are delivered in its order.
	Commit LSN
	// End is the LSN behind the commit record: the value to acknowledge.
	End LSN
	// Time is the server's commit time. It is information only: clocks go backwards.
	Time time.Time
}

// A Message is a logical message (pg_logical_emit_message) in Rowtide's own prefix.
type Message struct {
	Prefix  string
	Content []byte
}

// A Batch is a part of a committed transaction, of bounded size. The batches of a transaction
// follow each other with no other transaction between, and the last of them has Last set.
//
// A Batch with Last, no events and no messages moves the position on and nothing else.
type Batch struct {
	Transaction
	// Events are in delivery order; their Seq rises, also from batch to batch.
	Events []Event
	// Messages are the transaction's logical messages, in order. They come with its first
	// batch, before any event, whatever their place in the transaction.
	Messages []Message
	// Ahead, with the first batch of a transaction that has several, tells beforehand what becomes of
	// some relations: nil where nobody asked for that, or where the first batch is the last.
	Ahead *Ahead
	Last  bool
}

// An Ahead has the events of some relations, of a whole transaction: each comes in its place too. So
// what happens to the others can be judged by what these are behind the transaction.
type Ahead struct {
	// Relations are the OIDs of those that it tells everything of.
	Relations []uint32
	// Events are in no order but that a Truncate or a Gap comes before other events of its
	// relation. They have no Seq.
	Events []Event
}

// Size is the memory that the batch holds, in bytes, closely enough to bound queues with.
func (b *Batch) Size() int {
	n := 128
	for i := range b.Events {
		n += b.Events[i].Size()
	}
	for i := range b.Messages {
		n += 48 + len(b.Messages[i].Content)
	}
	if b.Ahead != nil {
		for i := range b.Ahead.Events {
			n += b.Ahead.Events[i].Size()
		}
	}
	return n
}

// Position is the place of the batch's last event, or of the end of its transaction where Last
// is set.
func (b *Batch) Position() Position {
	if b.Last {
		return Position{Commit: b.Commit, Seq: EndOfTransaction}
	}
	if n := len(b.Events); n > 0 {
		return Position{Commit: b.Commit, Seq: b.Events[n-1].Seq}
	}
	return Position{Commit: b.Commit}
}
