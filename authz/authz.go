// Package authz holds who a subscriber is and what a judgement about a row image is.
//
// It holds values; verifying tokens is authz/jwt, judging images by row-level security is
// authz/rls. Nothing here, or below, trusts a client: a Principal is made from a verified token
// and static configuration alone.
package authz

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A Setting is a configuration parameter that policies read.
type Setting struct{ Name, Value string }

// A Principal is a verified subscriber. It is immutable.
type Principal struct {
	// Role is the Postgres role, out of the allow-list.
	Role string
	// Subject is the claim sub, or "".
	Subject string
	// Settings are all settings to make before a policy is evaluated, in order:
	// request.jwt.claims and those of --claim-setting. Every principal of a service has the
	// same names, so that none sees a value left by another.
	Settings []Setting
	// Expires is when the token ends; zero for never (anonymous).
	Expires time.Time
	// TokenID is the claim jti, or ""; Issued the claim iat, or zero.
	TokenID string
	Issued  time.Time

	key Key
}

// A Key is equal for principals whom every policy treats alike: same role, same settings.
type Key [sha256.Size]byte

// NewPrincipal makes a principal and its key.
func NewPrincipal(role, subject string, settings []Setting, expires time.Time) *Principal {
	h := sha256.New()
	add := func(s string) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	add(role)
	for _, s := range settings {
		add(s.Name)
		add(s.Value)
	}
	p := &Principal{Role: role, Subject: subject, Settings: settings, Expires: expires}
	h.Sum(p.key[:0])
	return p
}

// Key is the principal's key.
func (p *Principal) Key() Key { return p.key }

// A Verdict is what is known about (principal, image).
type Verdict uint8

// The zero Verdict is invalid: nothing is shown by forgetting to judge.
const (
	// Visible: the role's SELECT would return the row.
	Visible Verdict = iota + 1
	// Hidden: it would not, or the policy raised an error that image and claims determine.
	Hidden
	// Undecided: something failed that image and claims do not determine (timeout, lost
	// connection, visibility wait). The subscription must resync.
	Undecided
	// Overspent: nobody looked, since deciding for the principal has taken more time than it may
	// take from others. It has to come back later.
	Overspent
)

// A Question asks which of some images of a table some principals may see.
type Question struct {
	// XID is the transaction that the images come from. It must be visible to other
	// sessions before Postgres is asked: commits are streamed before. Without one (0) there
	// is nothing to wait for, and what Postgres would have to be asked is Undecided.
	XID uint32
	// Commit is the place of that transaction in the stream, 0 where it is not known: then
	// Postgres is asked wherever a policy asks anything of another table.
	Commit cdc.LSN
	Table  *schema.Table
	// Images are in the order of Table.Columns, none nil.
	Images []cdc.Row
	// Old tells of each image that it is of before the transaction, so that what policies ask of
	// other tables is judged as before it. Where it is missing, no image is.
	Old        []bool
	Principals []*Principal
	// AsOf asks for verdicts that hold as of the transaction, or none: what only Postgres knows,
	// which has other tables as they are now, is Undecided.
	AsOf bool
	// Wanted gives for each principal the images that matter, ascending; nil means all, to all.
	// Verdicts on others are not looked at: a Judge that spares itself the work leaves them zero.
	Wanted [][]int32
}

// A Reading asks for rows of a table as a principal's SELECT returns them now.
type Reading struct {
	Principal *Principal
	Table     *schema.Table
	// Readable tells of each of the table's columns whether it is read; what is missing is not.
	Readable []bool
	// Where is a condition in SQL, as Filter.SQL gives it, that rows must meet; "" is none.
	Where string
	// Settled are transactions that the snapshot must see.
	Settled []uint32
}

// An Equality is a condition that an image must meet to be visible: the column's value is one of
// some values. Several make a conjunction. It is necessary, never sufficient: who meets it is
// still to be judged.
type Equality struct {
	// Column is an index of Table.Columns.
	Column int
	// Values are texts as the stream prints them, compared byte by byte, so only a type that
	// prints equal values alike may have an Equality. Without any, no image is visible.
	Values []string
}

// An Effect is what a transaction means to a principal besides what it wrote itself.
type Effect uint8

// The zero Effect is none.
const (
	// NoEffect: what he sees of the other rows is what he saw.
	NoEffect Effect = iota
	// RowsMoved: some of the other rows may have come into or gone out of his sight, by what
	// policies ask of other tables.
	RowsMoved
	// Unknown: what he saw was judged in another way than what he sees.
	Unknown
)
