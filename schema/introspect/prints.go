package introspect

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"
)

// prints tell apart states of the catalog: one for each relation that is read, one for each type
// that its columns are made of, and one for the rest, which may concern any relation.
type prints struct {
	global string
	tables map[uint32]string
	types  map[uint32]string
	// beside are other relations on which those of tables depend: partitions, indexes, what policies read.
	beside map[uint32]bool
}

func (p prints) equal(q prints) bool {
	return p.global == q.global && maps.Equal(p.tables, q.tables) && maps.Equal(p.types, q.types)
}

// hold tells whether later prints, of relations alone where those are not nil, are the same.
func (p prints) hold(later prints, relations []uint32) bool {
	if relations == nil {
		return p.equal(later)
	}
	for _, oid := range relations {
		if p.tables[oid] != later.tables[oid] {
			return false
		}
	}
	for oid, t := range later.types {
		if p.types[oid] != t {
			return false
		}
	}
	return p.global == later.global
}

// printsOf reads the prints as they are now: of all relations, or of some.
func printsOf(ctx context.Context, db DB, cfg Config, relations []uint32) (prints, error) {
	tx, err := beginPrints(ctx, db)
	if err != nil {
		return prints{}, err
	}
	defer tx.Rollback(context.WithoutCancel(ctx)) //nolint:errcheck // nothing was written; a broken connection shows elsewhere
	return printsIn(ctx, tx, cfg, relations)
}

func beginPrints(ctx context.Context, db DB) (pgx.Tx, error) {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	if _, err := tx.Exec(ctx, jitOff); err != nil {
		return nil, fmt.Errorf("read fingerprint of catalog: %w", errors.Join(err, tx.Rollback(context.WithoutCancel(ctx))))
	}
	return tx, nil
}

// jitOff keeps the server from compiling: it takes the recursive part for large and would spend
// 30 times as long on compiling as on running.
const jitOff = `SET LOCAL jit = off`

// What a print is of: the first column that fingerprintSQL gives.
const (
	printGlobal = iota
	printTable
	printType
	printBeside
)

func printsIn(ctx context.Context, tx pgx.Tx, cfg Config, relations []uint32) (prints, error) {
	rows, err := tx.Query(ctx, fingerprintSQL(cfg), cfg.Schemas, cfg.All, cfg.Roles, relations)
	if err != nil {
		return prints{}, fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	out := prints{tables: map[uint32]string{}, types: map[uint32]string{}, beside: map[uint32]bool{}}
	var of int
	var oid uint32
	var hash string
	_, err = pgx.ForEachRow(rows, []any{&of, &oid, &hash}, func() error {
		switch of {
		case printGlobal:
			out.global = hash
		case printTable:
			out.tables[oid] = hash
		case printType:
			out.types[oid] = hash
		case printBeside:
			out.beside[oid] = true
		}
		return nil
	})
	if err != nil {
		return prints{}, fmt.Errorf("read fingerprint of catalog: %w", err)
	}
	return out, nil
}
