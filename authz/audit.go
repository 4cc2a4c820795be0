package authz

import (
	"context"
	"log/slog"
	"unicode/utf8"
)

// An Event is what an audit Record is about. The words are stable: people filter by them.
type Event string

// The events.
const (
	// EventConnect is a client that said who it is and was let in; EventRefresh one that brought
	// a newer token.
	EventConnect Event = "connect"
	EventRefresh Event = "refresh"
	// EventSubscribe is a subscription begun.
	EventSubscribe Event = "subscribe"
	// EventResync is a subscription told that it missed something.
	EventResync Event = "resync"
	// EventCursor is a cursor that is none of ours: forged, of another installation or history.
	EventCursor Event = "cursor"
	// EventRevoke is what the operator revoked or closed.
	EventRevoke Event = "revoke"
	// EventDropped is records that the log could not take.
	EventDropped Event = "dropped"
	// EventDeny is a client or an operation refused; or, with a Table and no Operation, images
	// hidden because a policy raised an error, or could not be trusted.
	EventDeny Event = "deny"
	// EventUndecided is images about which nothing is known: the subscription resyncs.
	EventUndecided Event = "undecided"
	// EventUnsupported is a table that is hidden from a role as long as its policies stay as
	// they are.
	EventUnsupported Event = "unsupported"
)

// A Record is one line of the audit log. It holds no row data, no policy text and no claim but
// the subject.
type Record struct {
	Event Event
	// Role is "" where nobody knows it: of a client whose token was refused.
	Role string
	// Subject is the principal's claim sub; "" where the record is about a whole role.
	Subject string
	// Address and Transport are the client's; "" where the record is about no connection.
	Address, Transport string
	// Table is schema.name.
	Table string
	// Operation is the start of the SHA-256 of an operation's document, and Filter the columns
	// that its where reads.
	Operation string
	Filter    []string
	// Reason is a stable word: what happened.
	Reason string
	// SQLState is the error's, or "".
	SQLState string
	// Count is the number of images that the record stands for; 0 where it is about none.
	Count int
	// Detail explains to the operator what to do; "" where Reason says it all.
	Detail string
}

// An Auditor keeps audit records. Record is called from many goroutines at once and must not
// block for long: subscribers wait meanwhile.
type Auditor interface {
	Record(Record)
}

// Log writes the record to a structured logger, one line. The logger's handler must escape what
// it writes, as slog's own do: subjects come from tokens.
func (r Record) Log(l *slog.Logger, level slog.Level) {
	attrs := []slog.Attr{slog.String("event", string(r.Event))}
	for _, a := range [...]struct{ key, value string }{
		{"role", Clip(r.Role)},
		{"subject", Clip(r.Subject)},
		{"address", Clip(r.Address)},
		{"transport", r.Transport},
		{"table", r.Table},
		{"operation", r.Operation},
		{"reason", Clip(r.Reason)},
		{"sqlstate", r.SQLState},
		{"detail", r.Detail},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if r.Count > 0 {
		attrs = append(attrs, slog.Int("count", r.Count))
	}
	l.LogAttrs(context.Background(), level, "audit", attrs...)
}

// Clip bounds what a token can put into a line of a log (S60).
func Clip(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}
