// Package fanout brings committed changes from the bus to the subscriptions that may see them.
//
// Guarantees:
//   - A subscription gets, for each committed transaction and in commit order, exactly what
//     differs in what it sees: policies and where together, before and after (transition.go is
//     the one place of that rule).
//   - LIVE is sent once the subscription is armed: every transaction that commits after the
//     client has read it arrives. Between a snapshot and LIVE there is neither gap nor overlap.
//   - Nothing is lost in silence: what cannot be delivered becomes a resync of exactly the
//     subscriptions concerned, with its reason. A queue that is full ends its subscription.
//   - One subscription never slows another: its client's pace bounds its own queue, its own
//     snapshot and its own replay, all of bounded size.
//   - After a principal's token has expired nothing is sent, also not what was queued.
//
// It does not judge rows itself: that is the Judge's part, and a Judge that waits holds up all
// subscriptions of the node (it bounds its waiting, and answers Undecided).
package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/schema"
)

// A Judge decides which images principals may see.
type Judge interface {
	// Judge gives a verdict for each principal and image of the question, in their order:
	// [principal][image]. It is an error only when ctx has ended; what fails otherwise is
	// Undecided. It is called from several goroutines at once.
	Judge(ctx context.Context, q authz.Question) ([][]authz.Verdict, error)
}

// A Narrower is a Judge that can tell beforehand which images a principal cannot see, so that
// they need not be judged. The dispatcher finds subscriptions by it in hash indexes.
type Narrower interface {
	// Narrow gives conditions on columns of t, all of which an image must meet for p to see
	// it; none where nothing is known. Which hold must follow from t and p.Key alone, and from what
	// the Judge follows, as of before and behind the transaction that it follows: the answer is kept until
	// the catalog changes or Follower.Affected tells of p. It must not block.
	Narrow(t *schema.Table, p *authz.Principal) []authz.Equality
}

// A Snapshotter reads the rows that a principal's SELECT returns now.
type Snapshotter interface {
	// Snapshot reads the table in one snapshot that sees every transaction in what.Settled; it
	// waits for them within a bound. It calls begin once, with the snapshot, then row for
	// each row, in the order of the table's columns; those that are not readable are
	// Absent. It returns what begin or row return, as it is, and otherwise an error when it
	// could not read.
	Snapshot(ctx context.Context, what authz.Reading, begin func(cdc.Snapshot) error, row func(cdc.Row) error) error
}

// Config configures a Dispatcher.
type Config struct {
	// Bus, Judge, Snapshots, Catalog and Cursors are required.
	Bus       bus.Bus
	Judge     Judge
	Snapshots Snapshotter
	Catalog   *schema.Catalog
	Cursors   *CursorCodec
	// Comparer answers what filters on text cannot decide by themselves. Defaults to none: then
	// the subscriptions that need an answer resync.
	Comparer Comparer
	// Budget is what the Comparer's time is charged to; the Judge has its own. Defaults to none.
	Budget authz.Budget
	// Refresh reads a newer catalog, for a relation in the stream that the present one does
	// not fit. Defaults to none: such a relation's subscriptions resync.
	Refresh func(context.Context) (*schema.Catalog, error)
	// OnMessages is told the logical messages of a transaction, if any, before its events are
	// dispatched; a SetCatalog in it takes effect for them. Defaults to none.
	OnMessages func(context.Context, cdc.Transaction, []cdc.Message)
	// OnRestart is called when the bus began anew, with nothing of its old history being
	// dispatched any more: the time for Cursors.Switch. Defaults to none.
	OnRestart func()
	Limits    Limits
	// Audit is told who subscribes to what, and what becomes of it. It must not block. Defaults
	// to none.
	Audit authz.Auditor
	// Revoked tells whether the operator has revoked a principal. Defaults to nobody.
	Revoked func(*authz.Principal) bool
	// ProgressInterval is the least time between PROGRESS frames. Defaults to 5 s.
	ProgressInterval time.Duration
	// Logger defaults to slog.Default().
	Logger *slog.Logger
	// Now is the wall clock, which somebody may set while sessions last. Defaults to time.Now.
	Now func() time.Time
}

// Limits bound what subscriptions may hold and cause.
type Limits struct {
	// QueueBytes bounds what waits to be sent to one session: over it, a live subscription
	// ends with ErrSlow. Snapshots and replays wait at half of it. Defaults to 1 MiB.
	QueueBytes int
	// HeldBytes bounds the live frames that wait for one subscription's snapshot or replay to
	// end; over it they are read again from the bus. Defaults to 1 MiB.
	HeldBytes int
	// SnapshotRows is how many rows a snapshot may send. Defaults to 100,000.
	SnapshotRows int
	// Snapshots is how many snapshots are read at once; others wait. Defaults to 8.
	Snapshots int
	// Replays is how many readers of the bus replay it at once, each for all who resumed while
	// they were busy. Defaults to 2: the dispatcher is to find a place beside them at the Judge.
	Replays int
}

func (c *Config) check() error {
	if c.Bus == nil || c.Judge == nil || c.Snapshots == nil || c.Catalog == nil || c.Cursors == nil {
		return errors.New("make dispatcher: Bus, Judge, Snapshots, Catalog and Cursors are required")
	}
	for _, f := range []struct {
		name      string
		value     *int
		otherwise int
	}{
		{"QueueBytes", &c.Limits.QueueBytes, 1 << 20},
		{"HeldBytes", &c.Limits.HeldBytes, 1 << 20},
		{"SnapshotRows", &c.Limits.SnapshotRows, 100_000},
		{"Snapshots", &c.Limits.Snapshots, 8},
		{"Replays", &c.Limits.Replays, 2},
	} {
		if *f.value < 0 {
			return fmt.Errorf("make dispatcher: %s is negative", f.name)
		}
		if *f.value == 0 {
			*f.value = f.otherwise
		}
	}
	if c.ProgressInterval == 0 {
		c.ProgressInterval = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Budget == nil {
		c.Budget = (*authz.Limiter)(nil)
	}
	return nil
}
