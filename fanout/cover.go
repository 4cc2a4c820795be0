package fanout

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A cover is what the snapshot that a subscription started from has seen of the stream. Read in one
// piece it has seen a transaction or has not. Read in portions, each a range of keys with a snapshot
// of its own, it has seen a transaction that commits meanwhile in the later portions only: then the
// key of each frame decides, so that every change is in the rows or behind them, and in one of both.
// It is guarded by its subscription's mutex.
type cover struct {
	portions []portion
	// compare orders images by key; nil where there is one portion.
	compare func(a, b cdc.Row) int
}

// A portion is the keys behind those of the portion before, up to that of an image, with the
// snapshot that they were read in.
type portion struct {
	seen cdc.Snapshot
	upTo cdc.Row // nil for the last
}

// add adds the portion that was read next. Neighbours that were read in one snapshot are one.
func (c *cover) add(p portion) {
	if n := len(c.portions); n > 0 {
		last := &c.portions[n-1]
		if last.seen.Xmin == p.seen.Xmin && last.seen.Xmax == p.seen.Xmax && slices.Equal(last.seen.InProgress, p.seen.InProgress) {
			last.upTo, last.seen.End = p.upTo, min(last.seen.End, p.seen.End)
			return
		}
	}
	c.portions = append(c.portions, p)
}

func (c *cover) complete() bool {
	n := len(c.portions)
	return n > 0 && c.portions[n-1].upTo == nil
}

// past tells that nothing of what follows a transaction in the stream can have been seen.
func (c *cover) past(xid uint32, commit cdc.LSN) bool {
	for i := range c.portions {
		seen := &c.portions[i].seen
		if seen.End == 0 && int32(xid-uint32(seen.Xmax)) <= farPast || commit < seen.End { //nolint:gosec // the signed distance is the point
			return false
		}
	}
	return c.complete()
}

// saw tells whether every portion, or any, has the effects of a transaction. Until all are read the
// answer is not known of every one.
func (c *cover) saw(xid uint32, commit cdc.LSN) (every, some bool) {
	every = c.complete()
	for i := range c.portions {
		if c.portions[i].seen.SeesCommit(xid, commit) {
			some = true
		} else {
			every = false
		}
	}
	return every, some
}

// sawFrame tells whether the rows have what a frame says of its key.
func (c *cover) sawFrame(f *frame) bool {
	i, _ := slices.BinarySearchFunc(c.portions, f.image, func(p portion, image cdc.Row) int {
		if p.upTo == nil {
			return 1
		}
		return c.compare(p.upTo, image)
	})
	return i < len(c.portions) && c.portions[i].seen.SeesCommit(f.xid, f.pos.Commit)
}

// Types whose order is that of PostgreSQL when they are compared here, by their OIDs in
// pg_type.dat.
const (
	oidInt8    = 20
	oidInt2    = 21
	oidInt4    = 23
	oidText    = 25
	oidOID     = 26
	oidVarchar = 1043
	oidUUID    = 2950
)

// keyOrder gives the order of a table's images by key, or nil where only PostgreSQL knows it.
func keyOrder(t *schema.Table) func(a, b cdc.Row) int {
	orders := make([]func(a, b string) int, len(t.Key))
	for n, i := range t.Key {
		switch def := t.Columns[i].Def; def.Type.OID {
		case oidInt2, oidInt4, oidInt8, oidOID:
			orders[n] = compareNumbers
		case oidUUID: // in lower case, with its hyphens in the same places
			orders[n] = strings.Compare
		case oidText, oidVarchar:
			if !def.CollationC {
				return nil
			}
			orders[n] = strings.Compare
		default:
			return nil
		}
	}
	return func(a, b cdc.Row) int {
		for n, i := range t.Key {
			if c := orders[n](a[i].Text(), b[i].Text()); c != 0 {
				return c
			}
		}
		return 0
	}
}

func compareNumbers(a, b string) int {
	x, _ := strconv.ParseInt(a, 10, 64) // PostgreSQL's own output
	y, _ := strconv.ParseInt(b, 10, 64)
	return cmp.Compare(x, y)
}
