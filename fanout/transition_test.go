package fanout

import (
	"fmt"
	"testing"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// Covers R33, S44.
func TestTransitionIsTheRuleOfTheDesign(t *testing.T) {
	t.Parallel()
	const none = schema.ChangeKind(0)
	for _, tt := range []struct {
		op            cdc.Op
		before, after bool
		differs       bool
		want          schema.ChangeKind
	}{
		{cdc.Insert, false, true, true, schema.KindInsert},
		{cdc.Insert, false, false, true, none},
		{cdc.Delete, true, false, true, schema.KindDelete},
		{cdc.Delete, false, false, true, none},
		{cdc.Update, true, true, true, schema.KindUpdate},
		{cdc.Update, true, true, false, none},
		{cdc.Update, false, true, true, schema.KindEnter},
		{cdc.Update, false, true, false, schema.KindEnter},
		{cdc.Update, true, false, true, schema.KindLeave},
		{cdc.Update, true, false, false, schema.KindLeave},
		{cdc.Update, false, false, true, none},
		{cdc.Truncate, false, false, false, schema.KindTruncate},
	} {
		t.Run(fmt.Sprint(tt.op, tt.before, tt.after, tt.differs), func(t *testing.T) {
			t.Parallel()
			got := transition(tt.op, sight{tt.before, tt.after}, func() bool { return tt.differs })
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Covers S44, S45.
func TestChangeHoldsNoImageThatIsNotSeen(t *testing.T) {
	t.Parallel()
	before, after := cdc.Row{cdc.TextValue("old")}, cdc.Row{cdc.TextValue("new")}
	for _, tt := range []struct {
		kind          schema.ChangeKind
		key, old, new cdc.Row
	}{
		{schema.KindInsert, after, nil, after},
		{schema.KindEnter, after, nil, after},
		{schema.KindUpdate, after, before, after},
		{schema.KindDelete, before, before, nil},
		{schema.KindLeave, before, before, nil},
		{schema.KindTruncate, nil, nil, nil},
		{schema.KindSnapshot, after, nil, after},
	} {
		c := change(tt.kind, before, after)
		if !c.Key.Equal(tt.key) || !c.Old.Equal(tt.old) || !c.New.Equal(tt.new) {
			t.Errorf("%s: key %v, old %v, new %v", tt.kind, c.Key, c.Old, c.New)
		}
	}
}
