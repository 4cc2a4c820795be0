package fanout

import (
	"context"
	"slices"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/schema"
)

// A parcel is rows of a snapshot that are written one behind the other into the same memory, and put
// on the queue together: what a row costs otherwise is mostly locks and memory of its own.
type parcel struct {
	bytes []byte
	run   run
}

// parcelBytes is how much is put on the queue at once, but never more than a part of the queue.
const (
	parcelBytes = 32 << 10
	parcelPart  = 8
)

// snapshot sends RESET and the present rows. From before it is read, the dispatcher holds the
// subscription's frames.
func (c *chase) snapshot(ctx context.Context, reason string) error {
	v := c.s.present()
	order := keyOrder(v.op.Table)
	c.s.see(&cover{compare: order})
	c.pos = c.d.registry.attach(c.s, cdc.Position{})
	begin := func(cdc.Snapshot) error {
		if reason != "" {
			c.d.tally.resync(reason)
			c.d.record(c.s, authz.EventResync, reason)
		}
		return c.push(ctx, v, schema.Change{Kind: schema.KindReset, Reason: reason})
	}
	s := sieve{matcher: &c.d.matcher, where: v.op.Where, pass: func(r cdc.Row) error { return c.row(ctx, v, r) }}
	row := func(r cdc.Row) error { return s.row(ctx, r) }
	read := c.readWhole
	if c.d.portioner != nil && order != nil {
		read = c.readPortions
	}
	if err := read(ctx, v, begin, row); err != nil {
		return err
	}
	if err := s.flush(ctx); err != nil {
		return err
	}
	return c.flush(ctx)
}

// readWhole reads the rows in one snapshot, at the client's pace.
func (c *chase) readWhole(ctx context.Context, v view, begin func(cdc.Snapshot) error, row func(cdc.Row) error) error {
	if err := acquire(ctx, c.d.snapshots); err != nil {
		return err
	}
	defer func() { <-c.d.snapshots }()
	return c.d.cfg.Snapshots.Snapshot(ctx, c.d.reading(&v), func(seen cdc.Snapshot) error {
		c.d.registry.settled.prune(seen)
		c.s.cover(portion{seen: seen})
		return begin(seen)
	}, row)
}

// reading is what to read for a view now.
func (d *Dispatcher) reading(v *view) authz.Reading {
	return authz.Reading{Principal: v.principal, Table: v.op.Table, Readable: v.readable, Where: v.whereSQL(), Settled: d.registry.settled.list()}
}

// whereSQL is what the server can leave out beforehand of what where does not match.
func (v *view) whereSQL() string {
	if v.op.Where == nil {
		return ""
	}
	return v.op.Where.SQL()
}

func (c *chase) row(ctx context.Context, v view, r cdc.Row) error {
	if c.rows++; c.rows > c.d.cfg.Limits.SnapshotRows {
		return &schema.Error{Code: schema.LimitExceeded, Message: "the snapshot has more rows than the server allows: narrow it with where"}
	}
	most := min(parcelBytes, c.s.session.limit/parcelPart)
	p := &c.parcel
	if p.bytes == nil {
		p.bytes = make([]byte, 0, most+most/4)
	}
	what, from := change(schema.KindSnapshot, nil, r), len(p.bytes)
	var err error
	if p.bytes, err = v.op.Selection.Append(p.bytes, &what); err != nil {
		return resyncRequired(reasonUndecodable)
	}
	p.run.payloads = append(p.run.payloads, slices.Clip(p.bytes[from:]))
	if p.run.bytes += len(p.bytes) - from; p.run.bytes < most {
		return nil
	}
	return c.flush(ctx)
}

// flush puts the parcel on the queue.
func (c *chase) flush(ctx context.Context) error {
	r := c.parcel.run
	if c.parcel = (parcel{}); len(r.payloads) == 0 {
		return nil
	}
	return c.s.pushRun(ctx, r)
}

func (c *chase) push(ctx context.Context, v view, what schema.Change) error {
	payload, err := v.write(what)
	if err != nil {
		return resyncRequired(reasonUndecodable)
	}
	return c.s.push(ctx, payload)
}

func acquire(ctx context.Context, tokens chan<- struct{}) error {
	select {
	case tokens <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
