package fanout_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus/membus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSubscriptionGetsWhatItsPolicyAllows(t *testing.T) {
	t.Parallel()
	w := newWorld(t, membus.Config{})
	d := w.start(fanout.Config{})
	ann, bob := w.follow(d, "ann", ""), w.follow(d, "bob", "")
	w.write(put(1, "ann", "a"), put(2, "bob", "b"))
	w.write(put(1, "ann", "c"))
	w.write(put(1, "bob", "c"))
	w.write(del(1), del(2))
	ann.expect("INSERT 1 a", "UPDATE 1 a-> c", "LEAVE 1 c->")
	bob.expect("INSERT 2 b", "ENTER 1 c", "DELETE 1 c->", "DELETE 2 b->")
}
