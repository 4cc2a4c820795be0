package introspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/schema"
)

// A Reading is a database as it was read, and what it takes to read on from there. Its Database is
// immutable, but for the directives that package annotation fills in. Update is for one goroutine.
type Reading struct {
	Database schema.Database

	tables    []schema.TableDef // those of Database first, then related ones
	annotated int
	types     map[uint32]*schema.Type
	prints    prints
	mark      Mark // behind which the catalog was as prints say; Update renews it
}

// maxTries bounds the attempts to read a catalog that keeps changing.
const maxTries = 5

// errMoving is what Update gives up with.
var errMoving = errors.New("the catalog changed each time it was read: wait until the schema changes are done")

// Update reads what changed since last, which was read with the same Config, and takes the rest from
// it; it gives last itself where nothing did. With nil it reads everything.
//
// What is taken is shared: tables that did not change have the same Columns.
func Update(ctx context.Context, db DB, cfg Config, last *Reading) (*Reading, error) {
	if last != nil {
		if stands, err := last.mark.Stands(ctx, db); err != nil || stands {
			return last, err
		}
	}
	var moved error
	for range maxTries {
		next, read, err := readOnce(ctx, db, cfg, last)
		if err != nil && next == nil || next == last && last != nil {
			return next, err
		}
		if stands, serr := next.mark.Stands(ctx, db); err == nil && serr == nil && stands {
			return next, nil
		}
		after, ferr := printsOf(ctx, db, cfg, read)
		if ferr != nil {
			return nil, errors.Join(err, ferr)
		}
		if next.prints.hold(after, read) {
			if err != nil {
				return nil, err
			}
			return next, nil
		}
		moved = err
	}
	return nil, errors.Join(errMoving, moved)
}

// Concerns tells whether changes of these relations, and of nothing else, may have changed what was read:
// because it is of them, or would be now. It costs a small part of an Update.
func (last *Reading) Concerns(ctx context.Context, db DB, cfg Config, relations []uint32) (bool, error) {
	if slices.ContainsFunc(relations, func(oid uint32) bool {
		_, read := last.prints.tables[oid]
		return read || last.prints.beside[oid]
	}) {
		return true, nil
	}
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return false, fmt.Errorf("read catalog: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	var now bool
	err = tx.QueryRow(ctx, `
WITH RECURSIVE served AS MATERIALIZED (SELECT c.oid FROM pg_catalog.pg_class c WHERE `+annotated+`), `+cfg.reach("served")+`
SELECT EXISTS (SELECT FROM reach WHERE reach.class = 'pg_catalog.pg_class'::pg_catalog.regclass AND reach.oid = ANY($3::pg_catalog.oid[]))`,
		cfg.Schemas, cfg.All, relations).Scan(&now)
	if err != nil {
		return false, fmt.Errorf("read catalog: %w", err)
	}
	return now, nil
}

// readOnce reads one snapshot, and which relations it read; nil means all. With an error there is a
// Reading that has only the prints of that snapshot, or none where those could not be had.
func readOnce(ctx context.Context, db DB, cfg Config, last *Reading) (*Reading, []uint32, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, nil, fmt.Errorf("read catalog: %w", err)
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	if _, err := tx.Exec(ctx, pins); err != nil {
		return nil, nil, fmt.Errorf("read catalog: %w", err)
	}
	mark, err := markIn(ctx, tx)
	if err != nil {
		return nil, nil, err
	}
	now, err := printsIn(ctx, tx, cfg, nil)
	if err != nil {
		return nil, nil, err
	}
	if last != nil && now.equal(last.prints) {
		last.mark = mark
		return last, nil, nil
	}
	r := &reader{tx: tx, cfg: cfg, table: map[uint32]int{}, marked: map[uint32]bool{}}
	whole := r.keep(last, now)
	if err := r.read(ctx); err != nil {
		return &Reading{prints: now, mark: mark}, nil, fmt.Errorf("read catalog: %w", err)
	}
	next := &Reading{tables: r.db.Tables, annotated: r.annotated, types: r.types, prints: now, mark: mark, Database: r.db}
	next.Database.Tables = r.db.Tables[:r.annotated:r.annotated]
	if whole || cfg.Related {
		return next, nil, nil
	}
	return next, nonNil(r.oids), nil
}

// keep takes the tables and types that are as they were, and notes what has to be read. It tells
// whether that is everything.
func (r *reader) keep(last *Reading, now prints) bool {
	r.types = map[uint32]*schema.Type{}
	if last == nil || last.prints.global != now.global {
		r.oids = slices.Sorted(maps.Keys(now.tables))
		return true
	}
	stays := last.unchangedTypes(now)
	for oid, t := range last.types {
		if _, used := now.types[oid]; used && stays(t) {
			r.types[oid] = t
		}
	}
	kept := map[uint32]bool{}
	for i := range last.tables {
		t := &last.tables[i]
		p, ok := now.tables[t.OID]
		if !ok || p != last.prints.tables[t.OID] || slices.ContainsFunc(t.Columns, func(c schema.ColumnDef) bool { return !stays(c.Type) }) {
			continue
		}
		kept[t.OID] = true
		r.db.Tables = append(r.db.Tables, *t)
		r.marked[t.OID] = i < last.annotated
	}
	for oid := range now.tables {
		if !kept[oid] {
			r.oids = append(r.oids, oid)
		}
	}
	slices.Sort(r.oids)
	return false
}

// unchangedTypes tells of types whether they, and all that they are made of, are as they were.
func (last *Reading) unchangedTypes(now prints) func(*schema.Type) bool {
	known := map[*schema.Type]bool{nil: true}
	var stays func(t *schema.Type) bool
	stays = func(t *schema.Type) bool {
		if is, ok := known[t]; ok {
			return is
		}
		is := now.types[t.OID] == last.prints.types[t.OID] && stays(t.Elem) && stays(t.Base) &&
			!slices.ContainsFunc(t.Fields, func(f schema.ColumnDef) bool { return !stays(f.Type) })
		known[t] = is
		return is
	}
	return stays
}

// order puts the tables in the order of a Database: annotated ones by schema and name, then the rest.
func (r *reader) order() {
	place := func(t *schema.TableDef) int {
		switch i := slices.Index(r.cfg.Schemas, t.Schema); {
		case !r.marked[t.OID]:
			return len(r.cfg.Schemas) + 1
		case i >= 0:
			return i
		}
		return len(r.cfg.Schemas)
	}
	slices.SortFunc(r.db.Tables, func(x, y schema.TableDef) int {
		return cmp.Or(cmp.Compare(place(&x), place(&y)), cmp.Compare(x.Name, y.Name), cmp.Compare(x.OID, y.OID))
	})
	for i := range r.db.Tables {
		oid := r.db.Tables[i].OID
		r.table[oid] = i
		if r.marked[oid] {
			r.annotated++
		}
	}
}
