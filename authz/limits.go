package authz

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A Resource is something of which clients may only have so much.
type Resource uint8

// The resources. Those with a rate are counted by the second.
const (
	// Connections are sockets, streams and requests, at once.
	Connections Resource = iota
	// Pending are connections that have not said who they are, at once.
	Pending
	// Subscriptions are running operations, at once. Those of one connection are for its
	// transport to count, which knows them by their ids.
	Subscriptions
	// Connects are connections begun, a second.
	Connects
	// Operations are operations begun, a second: what subscribing and completing in turn costs.
	Operations
	// Messages are messages of a socket, a second. Further ones wait.
	Messages
	// Received are bytes that a socket sends, a second. Further ones wait.
	Received
	// Replayed are bytes of changes behind a cursor, a second. Further ones wait, and whoever has had
	// more than that comes back later.
	Replayed
	// Evaluation is the time that deciding what somebody sees takes, in milliseconds a second:
	// see Limiter.Spend. It is bounded per principal and per role alone.
	Evaluation

	resources = iota
)

// A Scope is whose sum a limit bounds.
type Scope uint8

// The scopes, from the narrowest.
const (
	// PerConnection is one socket, stream or request.
	PerConnection Scope = iota
	// PerAddress is an IPv4 address, or the 64 bits of an IPv6 address that one customer has.
	// Addresses of this machine are not bounded: they are those of a proxy.
	PerAddress
	// PerPrincipal is a role and the subject of a token; who has no subject is not bounded.
	PerPrincipal
	// PerRole is a Postgres role.
	PerRole
	// InAll is everybody together.
	InAll

	scopes = iota
)

// Limits bound each resource in each scope; 0 is no bound.
type Limits [resources][scopes]int

//nolint:gochecknoglobals // tables
var (
	resourceNames = [resources]string{"connections", "pending", "subscriptions", "connects", "operations", "messages", "received", "replayed", "evaluation"}
	scopeNames    = [scopes]string{"connection", "address", "principal", "role", "all"}
)

// burst is how many seconds' worth of a rate may come at once: clients that come back together
// after a restart, a page that opens fifty subscriptions. Messages and bytes only wait, and cost
// most where many come at once; of bytes it has to be as much as the largest message.
func (r Resource) burst() int {
	switch r {
	case Messages:
		return 1
	case Received:
		return 2
	case Replayed: // whoever was away for long may well catch up at once
		return 120
	default:
		return 5
	}
}

// DefaultLimits leave room for an office behind one address and for a page with many
// subscriptions, and none for one client to take what thousands need.
func DefaultLimits() Limits {
	return Limits{
		Connections:   {PerAddress: 1000, PerPrincipal: 250, InAll: 10_000},
		Pending:       {PerAddress: 200, InAll: 2000},
		Subscriptions: {PerConnection: 100, PerPrincipal: 2500, InAll: 100_000},
		Connects:      {PerAddress: 50, InAll: 2000},
		Operations:    {PerConnection: 50, PerAddress: 500, PerPrincipal: 200},
		Messages:      {PerConnection: 100},
		Received:      {PerConnection: 32 << 10, PerAddress: 1 << 20},
		Replayed:      {PerPrincipal: 4 << 20},
		Evaluation:    {PerPrincipal: 500},
	}
}

// ParseLimits reads settings such as "connections.address=50" over the defaults; 0 is no bound, and
// "none" takes all bounds away that stand before it.
func ParseLimits(settings []string) (Limits, error) {
	l := DefaultLimits()
	for _, s := range settings {
		if s == "none" {
			l = Limits{}
			continue
		}
		name, value, _ := strings.Cut(s, "=")
		resource, scope, _ := strings.Cut(name, ".")
		r, w := slices.Index(resourceNames[:], resource), slices.Index(scopeNames[:], scope)
		n, err := strconv.Atoi(value)
		switch {
		case r < 0:
			return l, fmt.Errorf("limit %q: %q is none of %s: write one such as connections.address=50", s, resource, strings.Join(resourceNames[:], ", "))
		case w < 0:
			return l, fmt.Errorf("limit %q: %q is none of %s: write one such as %s.address=50", s, scope, strings.Join(scopeNames[:], ", "), resource)
		case Resource(r) == Evaluation && Scope(w) != PerPrincipal && Scope(w) != PerRole:
			return l, fmt.Errorf("limit %q: evaluation is bounded for a principal or a role: write one such as evaluation.principal=500", s)
		case err != nil || n < 0:
			return l, fmt.Errorf("limit %q: %q is no number from 0 on: write one such as %s=50, or 0 for no limit", s, value, name)
		}
		l[r][w] = n
	}
	return l, nil
}

// rated tells that a resource is counted by the second.
func (r Resource) rated() bool { return r >= Connects }

// String is the resource's name in settings and metrics.
func (r Resource) String() string { return resourceNames[r] }

// String is the scope's name in settings and metrics.
func (s Scope) String() string { return scopeNames[s] }

// A Refusal is a resource and the scope whose limit was reached.
type Refusal struct {
	Resource Resource
	Scope    Scope
}

// Refusals counts what was refused, or had to wait, since the start.
func (l *Limiter) Refusals() map[Refusal]uint64 {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.refused)
}
