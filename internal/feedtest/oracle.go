package feedtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pglogrepl"
	"golang.org/x/sync/errgroup"
)

// An oracle is a run of a Reference.
type oracle struct {
	r        *Reference
	replayer *replayer
	// root sees the tables as they are; world is what it saw.
	root  *witness
	world map[*Table]Rows
	// witnesses are the principals' sessions, eyes their SELECTs by subscription.
	witnesses []*witness
	eyes      map[*Subscription]*eye

	last             pglogrepl.LSN
	full             bool // of the present commit: everything is looked at
	began            bool
	commits, changes int
}

func (r *Reference) open(ctx context.Context) (*oracle, error) {
	o := &oracle{r: r, world: make(map[*Table]Rows), eyes: make(map[*Subscription]*eye)}
	if err := o.connect(ctx); err != nil {
		o.close(ctx)
		return nil, err
	}
	return o, nil
}

func (o *oracle) connect(ctx context.Context) error {
	var err error
	if o.replayer, err = openReplayer(ctx, o.r.Target, o.r.Tables); err != nil {
		return err
	}
	var eyes []*eye
	for _, t := range o.r.Tables {
		eyes = append(eyes, wholeTable(t))
		o.world[t] = maps.Clone(o.r.initial[t])
	}
	if o.root, err = openWitness(ctx, o.r.Target, nil, eyes); err != nil {
		return err
	}
	var principals []*Principal
	of := make(map[*Principal][]*eye)
	for i, s := range o.r.Subscriptions {
		if of[s.Principal] == nil {
			principals = append(principals, s.Principal)
		}
		o.eyes[s] = newEye(fmt.Sprint("subscription ", i), s)
		of[s.Principal] = append(of[s.Principal], o.eyes[s])
	}
	for _, p := range principals {
		w, err := openWitness(ctx, o.r.Target, p, of[p])
		if err != nil {
			return fmt.Errorf("%s: %w", p.Name, err)
		}
		o.witnesses = append(o.witnesses, w)
	}
	return nil
}

func (o *oracle) close(ctx context.Context) {
	if o.replayer != nil {
		_ = o.replayer.conn.Close(ctx)
	}
	for _, w := range append(o.witnesses, o.root) {
		if w != nil {
			_ = w.conn.Close(ctx)
		}
	}
}

// commit replays a commit and, if it is behind from, computes what it means to each subscription.
func (o *oracle) commit(ctx context.Context, c *commit, from pglogrepl.LSN) error {
	if c.lsn <= o.last {
		return fmt.Errorf("the commit at %s comes after the one at %s", c.lsn, o.last)
	}
	o.last = c.lsn
	q := make(question)
	for t, touched := range c.touched {
		q[t] = t.ask(touched.keys())
	}
	if c.lsn > from {
		return o.judge(ctx, c, q)
	}
	_, err := o.replay(ctx, c, q)
	return err
}

func (o *oracle) judge(ctx context.Context, c *commit, q question) error {
	if !o.began {
		if err := o.begin(ctx); err != nil {
			return err
		}
	}
	ask := q
	o.full = o.r.Full || slices.ContainsFunc(o.r.Asked, func(t *Table) bool { return c.touched[t] != nil })
	if o.full {
		ask = nil
	}
	before := o.seen(q)
	was, err := o.replay(ctx, c, q)
	if err != nil {
		return err
	}
	after, err := o.look(ctx, ask)
	if err != nil {
		return err
	}
	for s, e := range o.eyes {
		o.expect(c, s, e, q, was[s.Table], before[s], after[s])
	}
	o.commits++
	o.changes += len(c.changes)
	if o.commits%o.r.CheckEvery == 0 {
		return o.check(ctx)
	}
	return nil
}

// begin notes what each subscription sees before the first commit that counts.
func (o *oracle) begin(ctx context.Context) error {
	o.began = true
	views, err := o.look(ctx, nil)
	if err != nil {
		return err
	}
	for s, view := range views {
		o.eyes[s].seen = view
	}
	return nil
}

// seen is what each subscription's SELECT returned of some keys, or of everything, behind
// the commit before: nobody else writes to the target, so it would say the same now.
func (o *oracle) seen(q question) views {
	out := make(views, len(o.eyes))
	for s, e := range o.eyes {
		if o.full {
			out[s] = maps.Clone(e.seen)
			continue
		}
		out[s] = make(map[string]bool)
		if q[s.Table] == nil {
			continue
		}
		for _, key := range q[s.Table].keys {
			if e.seen[key] {
				out[s][key] = true
			}
		}
	}
	return out
}

// replay does a commit on the target, looks at the rows that it touched, and gives them as they
// were.
func (o *oracle) replay(ctx context.Context, c *commit, q question) (map[*Table]Rows, error) {
	if err := o.replayer.apply(ctx, c); err != nil {
		return nil, err
	}
	was := make(map[*Table]Rows)
	for t, asked := range q {
		was[t] = make(Rows)
		if c.touched[t].truncated {
			o.world[t] = make(Rows)
			continue
		}
		for _, k := range asked.keys {
			if image := o.world[t][k]; image != nil {
				was[t][k] = image
				delete(o.world[t], k)
			}
		}
	}
	err := o.root.look(ctx, q, func(e *eye, key string, row [][]byte) error {
		image := e.image(row)
		if old := was[e.table][key]; old != nil && e.shows(row, old) {
			image = old
		}
		o.world[e.table][key] = image
		return nil
	})
	return was, err
}

// views are the keys that each subscription's SELECT returned.
type views map[*Subscription]map[string]bool

// look asks all principals at once. What they are shown must be the row as it is.
func (o *oracle) look(ctx context.Context, q question) (views, error) {
	out := make(views, len(o.eyes))
	for s := range o.eyes {
		out[s] = make(map[string]bool)
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, w := range o.witnesses {
		g.Go(func() error {
			return w.look(ctx, q, func(e *eye, key string, row [][]byte) error {
				if image := o.world[e.table][key]; image == nil || !e.shows(row, image) {
					return fmt.Errorf("%s is shown a row %q that is not in the table", e.stream.Subscription.Name, key)
				}
				out[e.stream.Subscription][key] = true
				return nil
			})
		})
	}
	return out, g.Wait()
}

// check holds all that is there, and all that each subscription's SELECT returns, against what
// the commits added up to.
func (o *oracle) check(ctx context.Context) error {
	rows := 0
	err := o.root.look(ctx, nil, func(e *eye, key string, row [][]byte) error {
		rows++
		if image := o.world[e.table][key]; image == nil || !e.shows(row, image) {
			return fmt.Errorf("table %s has a row %q that no commit gave it", e.table.Name, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, world := range o.world {
		rows -= len(world)
	}
	if rows != 0 {
		return errors.New("the target lacks rows that the commits gave it")
	}
	if !o.began {
		return nil
	}
	views, err := o.look(ctx, nil)
	if err != nil {
		return err
	}
	for s, view := range views {
		for key := range view {
			if !o.eyes[s].seen[key] {
				return fmt.Errorf("%s: the SELECT returns %q, which no difference gave it", s.Name, key)
			}
		}
		if len(view) != len(o.eyes[s].seen) {
			return fmt.Errorf("%s: the SELECT returns %d rows, the differences add up to %d", s.Name, len(view), len(o.eyes[s].seen))
		}
	}
	return nil
}

func (o *oracle) streams() []*Stream {
	out := make([]*Stream, 0, len(o.r.Subscriptions))
	for _, s := range o.r.Subscriptions {
		out = append(out, o.eyes[s].stream)
	}
	return out
}
