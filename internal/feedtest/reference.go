package feedtest

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pglogrepl"
)

// A Reference computes what subscriptions should receive, with Postgres as the oracle.
//
// It reads the commits of the source database in WAL order from a slot of its own, does each
// again on the target database, and asks there, after each, what the SELECT of each
// subscription returns, which is also what it returns before the next: a real SELECT, under the role and the claims of its principal, with
// row-level security as Postgres does it. The difference is what the subscription should
// receive:
//
//	                    not returned after            returned after
//	not returned before nothing                       ENTER if the row was there, else INSERT
//	returned before     LEAVE if the row is there,    UPDATE if a readable column differs,
//	                    else DELETE                   else nothing
//
// A truncated table was empty before, but for the TRUNCATE that comes first. The order is that
// of each key's last change in the WAL.
//
// The SELECTs look at the keys that the commit changed. Every CheckEvery commits, and in the end,
// all that each subscription's SELECT returns is compared with what the differences add up to,
// which shows that nothing else changed. With Full they look at everything, every time.
type Reference struct {
	// Source is the database that the workload changes and Target one with the same, empty,
	// tables, policies and roles: URLs of a superuser.
	Source, Target string
	// Tables are all to be replayed, also those that only policies read. They must have full
	// replica identity, or no values out of line.
	Tables []*Table
	// Subscriptions are what to compute for.
	Subscriptions []*Subscription
	// Full looks at whole tables at each commit: needed where a commit may change what a
	// subscription sees of rows that it did not touch. Then frames of rows that are as they
	// were come last, in the order of their keys.
	Full bool
	// Asked are tables that policies on others read: a commit that touches one of these is looked at
	// in full.
	Asked []*Table
	// CheckEvery is how often to check everything. Defaults to 500 commits.
	CheckEvery int
	// Name is the name of the slot and of the publication on the source. Defaults to
	// "feedtest_" and the database's name.
	Name string

	// initial are the rows that Prepare found.
	initial map[*Table]Rows

	// Commits and Changes count what Run replayed for the streams.
	Commits, Changes int
}

// Run replays what has been committed on the source since Prepare, and gives the Stream of each
// subscription, in their order, for the commits behind from.
func (r *Reference) Run(ctx context.Context, from pglogrepl.LSN) ([]*Stream, error) {
	conn, err := connect(ctx, r.Source, nil)
	if err != nil {
		return nil, fmt.Errorf("run reference: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if r.initial == nil {
		return nil, errors.New("run reference: it was not prepared")
	}
	if r.CheckEvery == 0 {
		r.CheckEvery = 500
	}
	if err := r.verify(ctx); err != nil {
		return nil, fmt.Errorf("run reference: %w", err)
	}
	o, err := r.open(ctx)
	if err != nil {
		return nil, fmt.Errorf("run reference: %w", err)
	}
	defer o.close(context.WithoutCancel(ctx))
	w := &walReader{tables: make(map[string]*Table), relations: make(map[uint32]*relation)}
	for _, t := range r.Tables {
		w.tables[t.Schema+"."+t.Name] = t
	}
	if err := w.read(ctx, conn, r.Name, r.Name, func(c *commit) error { return o.commit(ctx, c, from) }); err != nil {
		return nil, fmt.Errorf("run reference: %w", err)
	}
	if err := o.check(ctx); err != nil {
		return nil, fmt.Errorf("run reference, in the end: %w", err)
	}
	r.Commits, r.Changes = o.commits, o.changes
	return o.streams(), nil
}

// verify holds what the subscriptions say against the target's catalog: a column that a role may
// read and a subscription does not name would never be judged.
func (r *Reference) verify(ctx context.Context) error {
	conn, err := connect(ctx, r.Target, nil)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range r.Subscriptions {
		if !slices.Contains(r.Tables, s.Table) {
			return fmt.Errorf("%s: the table is not replayed", s.Name)
		}
		var readable []string
		err := conn.QueryRow(ctx, `SELECT coalesce(array_agg(attname::text ORDER BY attnum), '{}') FROM pg_attribute
			WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND has_column_privilege($2, attrelid, attnum, 'SELECT')`,
			s.Table.sql(), s.Principal.Role).Scan(&readable)
		if err != nil {
			return err
		}
		want := slices.Sorted(slices.Values(s.Columns))
		slices.Sort(readable)
		if !slices.Equal(readable, want) {
			return fmt.Errorf("%s: the role may read %v, the subscription has %v", s.Name, readable, want)
		}
	}
	return nil
}
