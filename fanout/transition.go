package fanout

import (
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A sight is what one subscription sees of one row before and after a transaction: policies and
// where together.
type sight struct{ before, after bool }

// transition is the rule from sights to kinds, here and nowhere else; 0 is no frame. changed
// tells of an update whether any column that the role may read differs.
//
//	            sees after      does not
//	sees before UPDATE, DELETE  LEAVE, DELETE
//	did not     INSERT, ENTER   nothing
func transition(op cdc.Op, s sight, changed func() bool) schema.ChangeKind {
	switch {
	case op == cdc.Truncate:
		return schema.KindTruncate // it tells of no row, so every subscriber hears of it
	case op == cdc.Insert && s.after:
		return schema.KindInsert
	case op == cdc.Delete && s.before:
		return schema.KindDelete
	case op != cdc.Update:
		return 0
	case s.before && s.after && changed():
		return schema.KindUpdate
	case s.after && !s.before:
		return schema.KindEnter
	case s.before && !s.after:
		return schema.KindLeave
	}
	return 0
}

// change is what a frame of that kind says of a row: never an image that its subscriber does
// not see.
func change(kind schema.ChangeKind, before, after cdc.Row) schema.Change {
	c := schema.Change{Kind: kind}
	switch kind { //nolint:exhaustive // the others tell of no change of a row
	case schema.KindInsert, schema.KindEnter, schema.KindSnapshot:
		c.Key, c.New = after, after
	case schema.KindUpdate:
		c.Key, c.New, c.Old = after, after, before
	case schema.KindDelete, schema.KindLeave:
		c.Key, c.Old = before, before
	}
	return c
}

// wants tells whether a subscription to those kinds could get a frame from the operation. It
// does not depend on the row, so what nobody wants is never judged.
func wants(kinds schema.KindSet, op cdc.Op) bool {
	switch op {
	case cdc.Insert:
		return kinds.Has(schema.KindInsert)
	case cdc.Update:
		return kinds.Has(schema.KindUpdate) || kinds.Has(schema.KindEnter) || kinds.Has(schema.KindLeave)
	case cdc.Delete:
		return kinds.Has(schema.KindDelete)
	case cdc.Truncate:
		return kinds.Has(schema.KindTruncate)
	case cdc.Gap:
		return true
	}
	return false
}
