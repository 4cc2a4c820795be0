package authz

import (
	"errors"
	"maps"
	"slices"
	"sync"
	"time"
)

// Revocations are what the operator has revoked. They are kept in memory, until the service
// ends: tokens that last longer than that must be revoked at their issuer too.
type Revocations struct {
	mu       sync.Mutex
	tokens   map[string]time.Time
	subjects map[string]time.Time
}

// A Revocation is one token, or all tokens of a subject that were issued up to a time.
type Revocation struct {
	// TokenID is the claim jti; Subject the claim sub. One of them is set.
	TokenID string    `json:"jti,omitempty"`
	Subject string    `json:"subject,omitempty"`
	At      time.Time `json:"at"`
}

// maxRevocations bounds the memory. Beyond it an operator wants another key.
const maxRevocations = 100_000

// Add revokes a token or a subject's tokens from now on.
func (r *Revocations) Add(what Revocation) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.tokens)+len(r.subjects) >= maxRevocations {
		return errors.New("too many revocations are held: change the key that signs tokens")
	}
	if r.tokens == nil {
		r.tokens, r.subjects = map[string]time.Time{}, map[string]time.Time{}
	}
	switch {
	case (what.TokenID == "") == (what.Subject == ""):
		return errors.New("name either jti or subject")
	case what.TokenID != "":
		r.tokens[what.TokenID] = what.At
	default:
		r.subjects[what.Subject] = what.At
	}
	return nil
}

// Revoked tells whether a principal's token is revoked. A token of a revoked subject that was
// issued later is good: the subject has logged in again.
func (r *Revocations) Revoked(p *Principal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.tokens[p.TokenID]; ok && p.TokenID != "" {
		return true
	}
	at, ok := r.subjects[p.Subject]
	return ok && p.Subject != "" && !p.Issued.After(at)
}

// List gives all revocations, oldest first.
func (r *Revocations) List() []Revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Revocation, 0, len(r.tokens)+len(r.subjects))
	for id := range maps.Keys(r.tokens) {
		out = append(out, Revocation{TokenID: id, At: r.tokens[id]})
	}
	for sub := range maps.Keys(r.subjects) {
		out = append(out, Revocation{Subject: sub, At: r.subjects[sub]})
	}
	slices.SortFunc(out, func(a, b Revocation) int { return a.At.Compare(b.At) })
	return out
}
