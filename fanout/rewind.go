package fanout

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/schema"
)

// A rewind takes rows of a table back from a snapshot to the end of a transaction that it sees, by
// the stream between. Commits become visible in another order than they are streamed, but it does not
// matter which of the later ones the snapshot sees, once the stream has passed them all: a row that
// any of them wrote was what the first one found, and all others are what the snapshot has.
type rewind struct {
	table    *schema.Table
	bindings *bindings
	commit   cdc.LSN
	// end is a place in the stream behind everything that the snapshot sees.
	end cdc.LSN
	// own are the keys that the transaction itself wrote. was has the rows of those that later
	// ones wrote, as they were before: nil where there was none.
	own  map[string]bool
	was  map[string]cdc.Row
	size int
}

var errRewind = errors.New("the stream does not tell how rows were")

// read reads the stream from the beginning of the transaction to the end.
func (r *rewind) read(ctx context.Context, b bus.Bus) error {
	stream, err := b.Stream(ctx, cdc.Position{Commit: r.commit - 1, Seq: cdc.EndOfTransaction})
	if err != nil {
		return fmt.Errorf("read the stream behind a change of membership: %w", err)
	}
	defer stream.Close()
	for {
		batch, err := stream.Next(ctx)
		if err != nil {
			return fmt.Errorf("read the stream behind a change of membership: %w", err)
		}
		if batch.Commit > r.commit && batch.Commit >= r.end {
			return nil
		}
		if r.size += batch.Size(); r.size > shiftRewinds {
			return fmt.Errorf("%w: it is too long", errRewind)
		}
		if err := r.batch(batch); err != nil {
			return err
		}
	}
}

func (r *rewind) batch(b *cdc.Batch) error {
	own := b.Commit == r.commit
	for i := range b.Events {
		e := &b.Events[i]
		if e.Relation != nil && e.Relation.OID != r.table.Def.OID {
			continue
		}
		if e.Relation == nil || e.Op == cdc.Gap || e.Op == cdc.Truncate && !own || broken(e) {
			return errRewind
		}
		if e.Op == cdc.Truncate {
			continue // all rows that are there behind the transaction are its own
		}
		binding, err := r.bindings.get(r.table, e.Relation)
		if err != nil {
			return fmt.Errorf("%w: %w", errRewind, err)
		}
		r.event(binding.Image(e.Old), binding.Image(e.New), own)
	}
	return nil
}

func (r *rewind) event(old, now cdc.Row, own bool) {
	image := now
	if image == nil {
		image = old
	}
	key := r.key(image)
	if own {
		r.own[key] = true
	} else if _, met := r.was[key]; !met {
		r.was[key] = old
	}
}

// apply gives rows of the snapshot, and others that were there, as they were behind the transaction,
// without those that it wrote itself. They come in the order of their keys.
func (r *rewind) apply(rows []cdc.Row) []cdc.Row {
	var out []cdc.Row
	for _, row := range rows {
		key := r.key(row)
		if _, written := r.was[key]; !written && !r.own[key] {
			out = append(out, row)
		}
	}
	for key, row := range r.was {
		if row != nil && !r.own[key] {
			out = append(out, row)
		}
	}
	slices.SortFunc(out, func(a, b cdc.Row) int {
		for _, i := range r.table.Key {
			if c := strings.Compare(a[i].Text(), b[i].Text()); c != 0 {
				return c
			}
		}
		return 0
	})
	return out
}

// key tells rows apart by the texts of their keys, as everywhere.
func (r *rewind) key(row cdc.Row) string {
	var b strings.Builder
	for _, i := range r.table.Key {
		b.WriteString(row[i].Text())
		b.WriteByte(0) // which no text in PostgreSQL has
	}
	return b.String()
}
