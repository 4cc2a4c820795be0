package fanout

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A Portioner is a Snapshotter that can read a table in portions. Then no transaction lasts for
// longer than it takes to read one, whatever the pace of the client; and subscriptions that start
// together read each of them once.
type Portioner interface {
	// Portion is Snapshot for the rows behind after in the order of the key, from the first
	// where it is nil, as many as are read in one short transaction. It tells whether there may
	// be more.
	Portion(ctx context.Context, what authz.Reading, after cdc.Row, begin func(cdc.Snapshot) error, row func(cdc.Row) error) (more bool, err error)
}

// portions are those that are being read, or were just now: who needs one of them joins.
type portions struct {
	mu      sync.Mutex
	reading map[portionKey]*portionCall
	// order is that of reading, for what is to be forgotten first; bytes are those of the rows.
	order []*portionCall
	bytes int
	users int
}

// keptPortions bounds the memory of portions that were read, in bytes.
const keptPortions = 16 << 20

// A portionKey is equal where the rows are.
type portionKey struct {
	table     *schema.Table
	role      string
	principal authz.Key
	readable  string
	where     string
	after     string
}

// A portionCall is one portion, once done is closed.
type portionCall struct {
	key  portionKey
	done chan struct{}
	// begun tells that settled was asked at base: the rows have every transaction up to there.
	begun bool
	base  cdc.Position

	seen  cdc.Snapshot
	rows  []cdc.Row
	bytes int
	more  bool
	err   error
}

// use tells that a subscription reads portions, until it calls what comes back. What was read is
// forgotten with the last one.
func (p *portions) use() (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.users--; p.users == 0 {
			p.reading, p.order, p.bytes = nil, nil, 0
		}
	}
}

// join gives the call for a key whose rows have every transaction up to start, and whether it is
// the caller's to make.
func (p *portions) join(key portionKey, start cdc.Position) (call *portionCall, mine bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.reading[key]; c != nil && (!c.begun || c.base.Compare(start) >= 0) {
		return c, false
	}
	if p.reading == nil {
		p.reading = map[portionKey]*portionCall{}
	}
	call = &portionCall{key: key, done: make(chan struct{})}
	p.reading[key] = call
	return call, true
}

func (p *portions) begin(c *portionCall, base cdc.Position) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.begun, c.base = true, base
}

// end keeps what was read, or forgets the call where that failed.
func (p *portions) end(c *portionCall) {
	p.mu.Lock()
	defer p.mu.Unlock()
	defer close(c.done)
	if c.err != nil {
		p.forget(c)
		return
	}
	p.order = append(p.order, c)
	p.bytes += c.bytes
	for p.bytes > keptPortions {
		oldest := p.order[0]
		p.order = p.order[1:]
		p.bytes -= oldest.bytes
		p.forget(oldest)
	}
}

func (p *portions) forget(c *portionCall) {
	if p.reading[c.key] == c {
		delete(p.reading, c.key)
	}
}

// portion gives the portion behind after for a view, read by this subscription or by another that
// sees the same.
func (d *Dispatcher) portion(ctx context.Context, v view, start cdc.Position, after cdc.Row) (*portionCall, error) {
	class := v.class()
	key := portionKey{table: v.op.Table, role: class.role, principal: class.principal, readable: fmt.Sprint(v.readable), where: v.whereSQL()}
	if after != nil {
		var texts []string
		for _, i := range v.op.Table.Key {
			texts = append(texts, after[i].Text())
		}
		key.after = strings.Join(texts, "\x00") // which no text in PostgreSQL has
	}
	for {
		call, mine := d.portions.join(key, start)
		if mine {
			call.err = d.readPortion(ctx, v, call, after)
			d.portions.end(call)
		}
		select {
		case <-call.done:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
		if !mine && errors.Is(call.err, context.Canceled) {
			continue // whoever read it has gone
		}
		return call, call.err
	}
}

func (d *Dispatcher) readPortion(ctx context.Context, v view, c *portionCall, after cdc.Row) (err error) {
	if err := acquire(ctx, d.snapshots); err != nil {
		return context.Canceled
	}
	defer func() { <-d.snapshots }()
	d.portions.begin(c, d.registry.position())
	begin := func(seen cdc.Snapshot) error {
		d.registry.settled.prune(seen)
		c.seen = seen
		return nil
	}
	row := func(r cdc.Row) error {
		c.rows = append(c.rows, r)
		c.bytes += r.Size()
		return nil
	}
	c.more, err = d.portioner.Portion(ctx, d.reading(&v), after, begin, row)
	if ctx.Err() != nil {
		return context.Canceled
	}
	return err
}

// readPortions reads the rows a portion at a time, and sends each at the client's pace while the next
// is read: it holds two of them.
func (c *chase) readPortions(ctx context.Context, v view, begin func(cdc.Snapshot) error, row func(cdc.Row) error) error {
	defer c.d.portions.use()()
	var reading sync.WaitGroup
	defer reading.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	start := c.pos
	var call *portionCall
	var err error
	read := func(after cdc.Row) {
		reading.Go(func() { call, err = c.d.portion(ctx, v, start, after) })
	}
	read(nil)
	for first := true; ; first = false {
		reading.Wait()
		if err != nil {
			return err
		}
		got, after := call, cdc.Row(nil)
		if got.more {
			after = got.rows[len(got.rows)-1]
			read(after)
		}
		c.s.cover(portion{seen: got.seen, upTo: after})
		if first {
			if err := begin(got.seen); err != nil {
				return err
			}
		}
		for _, r := range got.rows {
			if err := row(r); err != nil {
				return err
			}
		}
		if after == nil {
			return nil
		}
	}
}
