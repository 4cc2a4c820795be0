package fanout

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/schema"
)

// A Dispatcher reads the bus and gives each subscription its frames. Its methods may be called
// from many goroutines.
type Dispatcher struct {
	cfg      Config
	log      *slog.Logger
	registry *registry
	roster   *roster
	tally    *tally
	matcher  matcher
	compiler compiler
	// armed is closed once Run reads the bus: who attaches from then on misses nothing.
	armed chan struct{}
	// snapshots has a token for each that may go on at once.
	snapshots chan struct{}
	shifting  chan struct{} // likewise, for shifts
	depot     depot         // of replays

	mu      sync.Mutex
	jobs    []job           // subscriptions that are to catch up
	stopped bool            // Run takes no more jobs
	next    *schema.Catalog // by SetCatalog, not yet in force

	// newJob and newCatalog have a token when there is one.
	newJob, newCatalog chan struct{}
	// dispatching has a token while a batch is dispatched.
	dispatching chan struct{}

	// What follows is Run's alone.

	w     *writer
	lanes []*lane // memory of events
	// inside tells that the last batch was not its transaction's last.
	inside bool
	// tailed are the lanes with a frame held back; carried are frames held back for
	// subscriptions that have changed their class since.
	tailed  map[*lane]struct{}
	carried map[*Subscription]*hit
	// refreshed are the relations that the catalog was already read anew for, in vain.
	refreshed map[*cdc.Relation]struct{}
	// follower is the Judge, where it is one. regrouped tells that the present transaction has
	// changed what policies ask of other tables.
	follower  Follower
	portioner Portioner // the Snapshotter, where it is one
	portions  portions
	regrouped bool
	// moved are the classes that it concerns, and unknown those that have to begin anew.
	moved   moved
	unknown []*class
}

// New makes a Dispatcher. It does nothing before Run.
func New(cfg Config) (*Dispatcher, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	follower, _ := cfg.Judge.(Follower)
	portioner, _ := cfg.Snapshots.(Portioner)
	if follower != nil {
		follower.Use(cfg.Catalog)
	}
	return &Dispatcher{
		follower: follower, portioner: portioner,
		cfg: cfg, log: cfg.Logger, registry: newRegistry(cfg.Catalog, cfg.Judge), roster: newRoster(), tally: newTally(),
		matcher:   matcher{judge: cfg.Judge, comparer: cfg.Comparer, budget: cfg.Budget, bindings: &bindings{}, log: cfg.Logger},
		armed:     make(chan struct{}),
		snapshots: make(chan struct{}, cfg.Limits.Snapshots), depot: depot{come: make(chan struct{}, cfg.Limits.Replays)},
		shifting: make(chan struct{}, shiftsAtOnce),
		newJob:   make(chan struct{}, 1), newCatalog: make(chan struct{}, 1), dispatching: make(chan struct{}, 1),
		w: newWriter(cfg.Cursors), tailed: map[*lane]struct{}{}, carried: map[*Subscription]*hit{}, refreshed: map[*cdc.Relation]struct{}{},
	}, nil
}

// Run dispatches until ctx ends, and returns when every goroutine that it started has stopped
// and every subscription has ended. It is called once.
func (d *Dispatcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { d.work(ctx) })
	err := d.follow(ctx)
	cancel()
	wg.Wait()
	d.registry.refuse(ErrDraining)
	for _, s := range d.registry.all() {
		s.end(ErrDraining, flushed)
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// follow dispatches the bus; where it fell off the window everybody resyncs and it goes on at
// the newest position.
func (d *Dispatcher) follow(ctx context.Context) error {
	stream, target, err := d.open(ctx)
	if err != nil {
		return fmt.Errorf("follow the bus: %w", err)
	}
	for {
		err := d.read(ctx, stream, target)
		var broken *bus.Break
		if errors.As(err, &broken) {
			if stream, target, err = d.restart(ctx, broken.Reason); err != nil {
				return fmt.Errorf("follow the bus: %w", err)
			}
			continue
		}
		if !errors.Is(err, bus.ErrNotHeld) {
			return err
		}
		var newest cdc.Position
		if stream, newest, err = d.reopen(ctx); err != nil {
			return fmt.Errorf("follow the bus: %w", err)
		}
		d.log.Error("the bus no longer holds what was to be dispatched: every subscription resyncs", "position", newest.String())
		d.registry.enter(newest.Commit, 0)
		d.inside = newest.Seq != cdc.EndOfTransaction
		d.lost(reasonRetention)
	}
}

// restart goes on with a bus that began anew: what was dispatched before is of another history.
func (d *Dispatcher) restart(ctx context.Context, reason string) (bus.Stream, cdc.Position, error) {
	if d.cfg.OnRestart != nil {
		d.cfg.OnRestart() // no cursor of the old history is made from here on
	}
	d.registry.restart()
	d.inside = false
	stream, target, err := d.open(ctx)
	if err == nil {
		d.lost(reason)
	}
	return stream, target, err
}

// open opens the bus at the start of its window, so that settled learns of transactions which
// may not be visible yet, and gives the position from which on the dispatcher is armed.
func (d *Dispatcher) open(ctx context.Context) (bus.Stream, cdc.Position, error) {
	for {
		oldest, newest := d.cfg.Bus.Window()
		s, err := d.cfg.Bus.Follow(ctx, oldest)
		if errors.Is(err, bus.ErrNotHeld) {
			continue // the window has moved in between
		}
		if err != nil {
			return nil, cdc.Position{}, err
		}
		if oldest.IsZero() {
			if again, _ := d.cfg.Bus.Window(); !again.IsZero() {
				_ = s.Close() // something was published before it was open
				continue
			}
		} else {
			d.registry.enter(oldest.Commit, 0)
		}
		return s, newest, nil
	}
}

func (d *Dispatcher) reopen(ctx context.Context) (bus.Stream, cdc.Position, error) {
	for {
		_, newest := d.cfg.Bus.Window()
		s, err := d.cfg.Bus.Follow(ctx, newest)
		if !errors.Is(err, bus.ErrNotHeld) {
			return s, newest, err
		}
	}
}

// lost has every subscription resync that did not get what the dispatcher did not read.
func (d *Dispatcher) lost(reason string) {
	d.dropTails()
	d.regrouped = false
	if d.follower != nil {
		d.follower.Lost()
		d.registry.reindexAll()
	}
	for _, s := range d.registry.all() {
		if s.attached() { // the others read the bus by themselves
			d.resync(s, reason)
		}
	}
}

// A reading is what the bus gave.
type reading struct {
	batch *cdc.Batch
	err   error
}

// read dispatches a stream until it ends, and closes it.
func (d *Dispatcher) read(ctx context.Context, stream bus.Stream, target cdc.Position) error {
	ctx, cancel := context.WithCancel(ctx)
	readings := make(chan reading)
	done := make(chan struct{})
	go func() {
		defer close(done)
		pump(ctx, stream, readings)
	}()
	defer func() {
		cancel()
		<-done
		_ = stream.Close()
	}()
	progress := time.NewTicker(d.cfg.ProgressInterval)
	defer progress.Stop()
	d.arm(target)
	for {
		select {
		case r := <-readings:
			if r.err != nil {
				return r.err
			}
			if err := d.dispatch(ctx, r.batch); err != nil {
				return err
			}
			d.arm(target)
		case <-d.newCatalog:
			d.renew()
		case <-progress.C:
			d.progress()
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func pump(ctx context.Context, stream bus.Stream, to chan<- reading) {
	for {
		b, err := stream.Next(ctx)
		select {
		case to <- reading{b, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// arm lets subscriptions in once the dispatcher has read what the bus held when it began.
func (d *Dispatcher) arm(target cdc.Position) {
	if d.registry.position().Compare(target) < 0 {
		return
	}
	select {
	case <-d.armed:
	default:
		close(d.armed)
	}
}

// progress tells the subscriptions that ask for it how far they are.
func (d *Dispatcher) progress() {
	pos := d.registry.position()
	if d.inside || pos.IsZero() {
		return // at the end of the transaction, or at its next end, is soon enough
	}
	d.registry.settle()
	cursor := d.cfg.Cursors.Encode(pos)
	for _, s := range d.registry.all() {
		s.tell(pos, schema.Change{Kind: schema.KindProgress, Cursor: cursor})
	}
}

// Position is the end of the transaction that was dispatched last, or is being dispatched.
func (d *Dispatcher) Position() cdc.Position { return d.registry.position() }

// Subscriptions is the number of subscriptions that are not closed.
func (d *Dispatcher) Subscriptions() int { return d.registry.len() }

// Drain lets no new subscription in, has those there are end with ErrDraining behind what they
// have queued, and waits until all are closed, or ctx ends: then it drops what they have queued.
// A batch that is being dispatched goes to them whole before.
func (d *Dispatcher) Drain(ctx context.Context) error {
	d.registry.refuse(ErrDraining)
	whole := acquire(ctx, d.dispatching) == nil
	for _, s := range d.registry.all() {
		s.drain()
	}
	if whole {
		<-d.dispatching
	}
	select {
	case <-d.registry.gone():
		return nil
	case <-ctx.Done():
	}
	for _, s := range d.registry.all() {
		s.end(ErrDraining, atOnce)
	}
	return fmt.Errorf("drain subscriptions: %w", context.Cause(ctx))
}
