// Package pgoutput decodes the messages of PostgreSQL's pgoutput plugin, protocol version 1,
// into cdc values.
//
// It guarantees that NULL, a text and an unchanged out-of-line value are told apart, that every
// change carries the relation as it was at that place of the stream, and that nothing it returns
// points into the bytes it was given. It does no I/O, never panics whatever the bytes, and
// allocates in proportion to them. What it does not know is an error, never skipped.
//
// It does not interpret values: they stay in the text of the type's output function, and that
// text depends on the settings of the walsender session (package replication pins them).
package pgoutput

import (
	"fmt"
	"slices"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// A Decoder decodes one stream, from its start and in its order. Each connection needs a new
// one: the server describes relations anew on each.
//
// A Decoder is not safe for concurrent use. What it returns is immutable and may be shared, but for
// a *Change, which is valid until the next call of Decode; its event and rows are not concerned.
type Decoder struct {
	relations map[uint32]*cdc.Relation
	// begun is the open transaction, nil between transactions.
	begun *Begin
	// changed is the Change that Decode gives; values is room for rows.
	changed Change
	values  []cdc.Value
}

// NewDecoder gives a decoder for a stream that is about to begin.
func NewDecoder() *Decoder {
	return &Decoder{relations: make(map[uint32]*cdc.Relation)}
}

// Decode decodes one message: the payload of one XLogData. An error is always a *DecodeError
// and means that the stream cannot be followed any further.
func (d *Decoder) Decode(data []byte) (Message, error) {
	if len(data) == 0 {
		return nil, &DecodeError{Reason: "empty message"}
	}
	r := &reader{data: data, pos: 1}
	m := d.decode(data[0], r)
	if r.reason == "" && r.pos != len(data) {
		r.failf("%d bytes too many", len(data)-r.pos)
	}
	if r.reason == "" {
		d.order(m, r)
	}
	if r.reason != "" {
		e := &DecodeError{Type: data[0], Offset: r.pos, Reason: r.reason}
		if d.begun != nil {
			e.XID, e.Commit = d.begun.XID, d.begun.Commit
		}
		return nil, e
	}
	d.follow(m)
	return m, nil
}

// decode reads the body of a message. Where it fails r says so, and the message means nothing.
// The bytes are those of "Logical Replication Message Formats" in PostgreSQL's manual.
func (d *Decoder) decode(kind byte, r *reader) Message {
	switch kind {
	case 'B':
		return &Begin{Commit: r.lsn(), Time: r.time(), XID: r.uint32()}
	case 'C':
		if flags := r.byte(); flags != 0 {
			r.failf("unknown commit flags %#x", flags)
		}
		return &Commit{Commit: r.lsn(), End: r.lsn(), Time: r.time()}
	case 'I', 'U', 'D':
		return d.change(kind, r)
	case 'T':
		return d.truncate(r)
	case 'M':
		return logical(r)
	case 'R':
		return d.relation(r)
	case 'Y':
		return &Type{OID: r.uint32(), Schema: schemaName(r.string()), Name: r.string()}
	case 'O':
		return &Origin{LSN: r.lsn(), Name: r.string()}
	case 'A':
		return &StreamAbort{XID: r.uint32(), SubXID: r.uint32()}
	}
	r.failf("unknown message type")
	return nil
}

// order checks that m may come here. Bytes can be well formed and yet not be a stream: then a
// message was lost, and to go on would put changes into the wrong transaction.
func (d *Decoder) order(m Message, r *reader) {
	inside := d.begun != nil
	switch m := m.(type) {
	case *Begin:
		if inside {
			r.failf("begin of transaction %d inside a transaction", m.XID)
		}
	case *Commit:
		if !inside {
			r.failf("commit outside of a transaction")
		} else if m.Commit != d.begun.Commit {
			r.failf("commit at %s of a transaction that was to commit at %s", m.Commit, d.begun.Commit)
		} else if m.End <= m.Commit {
			r.failf("commit at %s ends at %s, before it", m.Commit, m.End)
		}
	case *Change, *Truncate, *Origin:
		if !inside {
			r.failf("change outside of a transaction")
		}
	case *Logical:
		if m.Transactional && !inside {
			r.failf("transactional message outside of a transaction")
		}
	case *Relation, *Type, *StreamAbort:
	}
}

// follow moves the decoder's state past m.
func (d *Decoder) follow(m Message) {
	switch m := m.(type) {
	case *Begin:
		d.begun = m
	case *Commit:
		d.begun = nil
	case *Relation:
		d.relations[m.OID] = m.Relation
	}
}

func logical(r *reader) Message {
	flags := r.byte()
	if flags > 1 {
		r.failf("unknown message flags %#x", flags)
	}
	m := &Logical{Transactional: flags&1 != 0, LSN: r.lsn(), Prefix: r.string()}
	m.Content = slices.Clone(r.bytes(r.uint32()))
	return m
}

// relation reads a description. The server repeats it after every change of the catalog that
// could concern it; where it says the same again the same cdc.Relation is kept, so that caches
// by its address stay warm.
func (d *Decoder) relation(r *reader) Message {
	rel := &cdc.Relation{OID: r.uint32(), Schema: schemaName(r.string()), Name: r.string(), Identity: cdc.Identity(r.byte())}
	switch rel.Identity {
	case cdc.IdentityDefault, cdc.IdentityNothing, cdc.IdentityFull, cdc.IdentityIndex:
	default:
		r.failf("unknown replica identity %q", byte(rel.Identity))
	}
	n := int(r.uint16())
	const smallest = 1 + 1 + 4 + 4 // flags, the end of an empty name, type, modifier
	if !r.fits(n, smallest) {
		return nil
	}
	rel.Columns = make([]cdc.Column, n)
	for i := range rel.Columns {
		flags := r.byte()
		if flags > 1 {
			r.failf("unknown column flags %#x", flags)
		}
		rel.Columns[i] = cdc.Column{Identity: flags&1 != 0, Name: r.string(), Type: r.uint32(), Modifier: int32(r.uint32())}
	}
	if known := d.relations[rel.OID]; known != nil && same(known, rel) {
		rel = known
	}
	return &Relation{rel}
}

func same(a, b *cdc.Relation) bool {
	return a.OID == b.OID && a.Schema == b.Schema && a.Name == b.Name && a.Identity == b.Identity && slices.Equal(a.Columns, b.Columns)
}

// schemaName undoes the abbreviation of logicalrep_write_namespace in
// src/backend/replication/logical/proto.c, which sends pg_catalog as the empty string.
func schemaName(s string) string {
	if s == "" {
		return "pg_catalog"
	}
	return s
}

func (d *Decoder) truncate(r *reader) Message {
	n := int(r.uint32())
	const cascade, restart = 1, 2
	options := r.byte()
	if options&^(cascade|restart) != 0 {
		r.failf("unknown truncate options %#x", options)
	}
	if !r.fits(n, 4) {
		return nil
	}
	m := &Truncate{Relations: make([]*cdc.Relation, n), Cascade: options&cascade != 0, RestartIdentity: options&restart != 0}
	for i := range m.Relations {
		m.Relations[i] = d.known(r)
	}
	return m
}

// known reads the OID of a relation that must have been described before.
func (d *Decoder) known(r *reader) *cdc.Relation {
	oid := r.uint32()
	rel := d.relations[oid]
	if rel == nil {
		r.failf("relation %d was not described before", oid)
	}
	return rel
}

// A DecodeError is a message that cannot be decoded, and where in the stream it stands.
type DecodeError struct {
	// Type is the first byte of the message, 0 where there is none.
	Type byte
	// Offset is how far into the message it made sense.
	Offset int
	// XID and Commit are those of the open transaction, 0 outside of one.
	XID    uint32
	Commit cdc.LSN
	Reason string
}

// Error is one line with all that is known.
func (e *DecodeError) Error() string {
	where := "between transactions"
	if e.Commit != 0 {
		where = fmt.Sprintf("in transaction %d, commit %s", e.XID, e.Commit)
	}
	return fmt.Sprintf("decode pgoutput message %q at byte %d %s: %s", e.Type, e.Offset, where, e.Reason)
}

// Terminal is true: the same bytes come again after a reconnection and fail again.
func (e *DecodeError) Terminal() bool { return true }

// pgEpoch is 2000-01-01 in Unix seconds: PostgreSQL counts microseconds from there.
const pgEpoch = 946684800

func pgTime(us int64) time.Time {
	return time.Unix(pgEpoch+us/1e6, us%1e6*1e3).UTC()
}
