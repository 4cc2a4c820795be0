package fanout

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
)

// A roster knows all sessions, for those who watch over them.
type roster struct {
	mu   sync.Mutex
	last uint64
	all  map[uint64]*Session
	// ids numbers the subscriptions of all sessions.
	ids atomic.Uint64
}

func newRoster() *roster { return &roster{all: map[uint64]*Session{}} }

func (r *roster) enter(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	s.id = r.last
	r.all[s.id] = s
}

func (r *roster) leave(s *Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, s.id)
}

func (r *roster) list() []*Session {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Collect(maps.Values(r.all))
	slices.SortFunc(out, func(a, b *Session) int { return int(a.id) - int(b.id) }) //nolint:gosec // a count of sessions
	return out
}

// SessionInfo describes a session to an operator. It holds no row, claim or token.
type SessionInfo struct {
	ID            uint64             `json:"id"`
	Role          string             `json:"role"`
	Subject       string             `json:"subject"`
	Address       string             `json:"address"`
	Transport     string             `json:"transport"`
	Opened        time.Time          `json:"opened"`
	Expires       *time.Time         `json:"expires"`
	Queued        int                `json:"queuedBytes"`
	Subscriptions []SubscriptionInfo `json:"subscriptions"`
}

// SubscriptionInfo describes a subscription to an operator.
type SubscriptionInfo struct {
	ID uint64 `json:"id"`
	// Operation is the start of the SHA-256 of its document, as in the audit log.
	Operation string    `json:"operation"`
	Table     string    `json:"table"`
	Since     time.Time `json:"since"`
	// State is catching-up or live; Position is that of the last frame or PROGRESS, "" while it
	// catches up.
	State    string `json:"state"`
	Position string `json:"position"`
	Queued   int    `json:"queuedBytes"`
}

// Sessions describes all sessions, in the order in which they were opened.
func (d *Dispatcher) Sessions() []SessionInfo {
	list := d.roster.list()
	out := make([]SessionInfo, len(list))
	for i, s := range list {
		out[i] = s.info()
	}
	return out
}

func (s *Session) info() SessionInfo {
	s.mu.Lock()
	p, subs := s.principal, slices.Clone(s.subs)
	out := SessionInfo{ID: s.id, Role: p.Role, Subject: p.Subject, Opened: s.opened, Queued: s.used, Subscriptions: make([]SubscriptionInfo, 0, len(subs))}
	s.mu.Unlock()
	if !p.Expires.IsZero() {
		out.Expires = &p.Expires
	}
	if s.client != nil {
		out.Address, out.Transport = s.client.Address, s.client.Transport
	}
	slices.SortFunc(subs, func(a, b *Subscription) int { return int(a.id) - int(b.id) }) //nolint:gosec // a count
	for _, sub := range subs {
		out.Subscriptions = append(out.Subscriptions, sub.info())
	}
	return out
}

func (s *Subscription) info() SubscriptionInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := SubscriptionInfo{ID: s.id, Operation: s.about.operation.String(), Table: s.about.table.Value(), Since: time.UnixMilli(s.since), State: "catching-up", Queued: s.queued + s.taken}
	if s.phase == live {
		out.State = "live"
	}
	if !s.told.IsZero() {
		out.Position = s.told.String()
	}
	return out
}

func (v *view) tableName() string { return v.op.Table.Def.Schema + "." + v.op.Table.Def.Name }

// EndSessions ends the sessions whose id or principal which is true of, with an error for the
// client, and tells how many.
func (d *Dispatcher) EndSessions(err error, which func(id uint64, p *authz.Principal) bool) int {
	n := 0
	for _, s := range d.roster.list() {
		if which(s.id, s.Principal()) {
			s.end(err)
			n++
		}
	}
	return n
}

// EndSubscription ends one subscription with an error for the client. It is false where there is
// none of that id.
func (d *Dispatcher) EndSubscription(id uint64, err error) bool {
	for _, s := range d.registry.all() {
		if s.id == id {
			s.end(err, atOnce)
			return true
		}
	}
	return false
}

// Stats are counts since the start, and what there is now.
type Stats struct {
	Sessions, Subscriptions int
	// Queued are bytes that wait to be sent, or were handed to a transport and perhaps not sent:
	// Waiting sessions have some, one of them Fullest. Held are those of transactions that came while
	// a subscription catches up.
	Queued, Waiting, Fullest, Held int
	// Snapshots and Replays are running.
	Snapshots, Replays int
	// Frames and Bytes were handed to transports.
	Frames, Bytes uint64
	// Resyncs and Ends are subscriptions told to resync, by reason, and ended, by code.
	Resyncs, Ends map[string]uint64
	// Position is the end of the transaction dispatched last, and Delay how long after its
	// commit that was, by the clocks of two machines.
	Position cdc.Position
	Delay    time.Duration
}

// A tally counts what a Dispatcher does.
type tally struct {
	frames, bytes atomic.Uint64
	held          atomic.Int64
	delay         atomic.Int64

	mu      sync.Mutex
	resyncs map[string]uint64
	ends    map[string]uint64
}

func newTally() *tally { return &tally{resyncs: map[string]uint64{}, ends: map[string]uint64{}} }

func (t *tally) resync(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.resyncs[reason]++
}

func (t *tally) end(err error) {
	if errors.Is(err, ErrClosed) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends[string(Explain(err).Code)]++
}

// Stats tells how the Dispatcher is doing.
func (d *Dispatcher) Stats() Stats {
	out := Stats{
		Subscriptions: d.registry.len(), Snapshots: len(d.snapshots), Replays: d.depot.count(),
		Frames: d.tally.frames.Load(), Bytes: d.tally.bytes.Load(), Position: d.Position(), Delay: time.Duration(d.tally.delay.Load()),
		Held: int(d.tally.held.Load()),
	}
	for _, s := range d.roster.list() {
		s.mu.Lock()
		out.Sessions, out.Queued, out.Fullest = out.Sessions+1, out.Queued+s.used, max(out.Fullest, s.used)
		if s.used > 0 {
			out.Waiting++
		}
		s.mu.Unlock()
	}
	d.tally.mu.Lock()
	defer d.tally.mu.Unlock()
	out.Resyncs, out.Ends = maps.Clone(d.tally.resyncs), maps.Clone(d.tally.ends)
	return out
}
