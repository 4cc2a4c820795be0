package authz

import (
	"errors"
	"slices"
	"sync"
	"time"
)

// Revocations are what operators have revoked, in memory: a principal is looked up at each start
// of a session, and all are when something is added. Keeping them for the next process, and for
// others, is its owner's: Unkept and Kept say what is left to do. The zero value is ready.
type Revocations struct {
	mu   sync.Mutex
	held map[revoked]*term
}

// A Revocation is one token, or all tokens of a subject that were issued up to a time.
type Revocation struct {
	// TokenID is the claim jti; Subject the claim sub. One of them is set.
	TokenID string `json:"jti,omitempty"`
	Subject string `json:"subject,omitempty"`
	// At is when it was revoked.
	At time.Time `json:"at"`
	// Expires is when it may be forgotten, since the last token concerned has ended; nil for
	// never.
	Expires *time.Time `json:"expires,omitempty"`
}

type revoked struct{ token, subject string }

type term struct {
	at      time.Time
	expires *time.Time
	kept    bool
}

// maxRevocations bounds the memory. Beyond it an operator wants another key.
const maxRevocations = 100_000

// Add revokes a token or a subject's tokens. What is revoked already is revoked for the later
// time, and for longer.
func (r *Revocations) Add(what Revocation) error {
	switch {
	case (what.TokenID == "") == (what.Subject == ""):
		return errors.New("name either jti or subject")
	case what.Expires != nil && !what.Expires.After(what.At):
		return errors.New("expires is in the past: name when the last token concerned ends, or leave it out")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.held) >= maxRevocations {
		r.forgetLocked(time.Now())
	}
	if len(r.held) >= maxRevocations {
		return errors.New("too many revocations are held: change the key that signs tokens")
	}
	what.At = what.At.Truncate(time.Microsecond) // as PostgreSQL has it
	r.addLocked(what, false)
	return nil
}

// Learn takes revocations that are kept elsewhere, and tells whether one of them was news.
func (r *Revocations) Learn(kept []Revocation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	news := false
	for _, k := range kept {
		news = r.addLocked(k, true) || news
	}
	return news
}

// addLocked tells whether it revokes more than before.
func (r *Revocations) addLocked(what Revocation, kept bool) bool {
	if r.held == nil {
		r.held = map[revoked]*term{}
	}
	key := revoked{what.TokenID, what.Subject}
	t := r.held[key]
	if t == nil {
		r.held[key] = &term{what.At, what.Expires, kept}
		return true
	}
	later := what.At.After(t.at)
	longer := t.expires != nil && (what.Expires == nil || what.Expires.After(*t.expires))
	if later {
		t.at = what.At
	}
	if longer {
		t.expires = what.Expires
	}
	if kept {
		// Where this one says more than what is kept, that is still to be kept.
		t.kept = t.kept || !t.at.After(what.At)
	} else if later || longer {
		t.kept = false
	}
	return later || longer
}

// Revoked tells whether a principal's token is revoked. A token of a revoked subject that was
// issued later is good: the subject has logged in again.
func (r *Revocations) Revoked(p *Principal) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.TokenID != "" && r.held[revoked{token: p.TokenID}] != nil {
		return true
	}
	if p.Subject == "" {
		return false
	}
	t := r.held[revoked{subject: p.Subject}]
	return t != nil && !p.Issued.After(t.at)
}

// List gives all revocations, oldest first.
func (r *Revocations) List() []Revocation { return r.list(func(*term) bool { return true }) }

// Unkept are those that are in this memory alone, oldest first.
func (r *Revocations) Unkept() []Revocation { return r.list(func(t *term) bool { return !t.kept }) }

// Len is how many there are.
func (r *Revocations) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.held)
}

// Kept notes that what Unkept gave is kept elsewhere now.
func (r *Revocations) Kept(what []Revocation) { r.Learn(what) }

func (r *Revocations) list(which func(*term) bool) []Revocation {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(time.Now())
	out := []Revocation{}
	for key, t := range r.held {
		if which(t) {
			out = append(out, Revocation{TokenID: key.token, Subject: key.subject, At: t.at, Expires: t.expires})
		}
	}
	slices.SortFunc(out, func(a, b Revocation) int { return a.At.Compare(b.At) })
	return out
}

// forgetLocked forgets those that concern no token any more.
func (r *Revocations) forgetLocked(now time.Time) {
	for key, t := range r.held {
		if t.expires != nil && t.expires.Before(now) {
			delete(r.held, key)
		}
	}
}
