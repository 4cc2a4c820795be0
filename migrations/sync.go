package migrations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A SyncConfig says which tables the publications should have.
type SyncConfig struct {
	// AdminURL is of a superuser, or of a role that owns the tables.
	AdminURL string
	// Tables are all tables to publish: the others leave the publications.
	Tables []Table
	// Publication is the name of the publication; see InsertPublication. Defaults to
	// DefaultPublication.
	Publication string
	// Login is the service login, which gets USAGE on Schemas, on those of Tables and on those
	// that their policies name. Defaults to none, and nothing is granted.
	Login   string
	Schemas []string
	// Yes accepts what makes updates of wide tables write much more WAL. Defaults to refusing
	// these tables.
	Yes bool
	// LockTimeout bounds each wait for a lock. Defaults to 2 s.
	LockTimeout time.Duration
	// DryRun gets the SQL, and nothing is changed. Defaults to doing it.
	DryRun io.Writer
}

// Sync brings publications and replica identities in line with the tables. A table that cannot be
// published without harm is refused and the others are done: the error is then a *RefusedError.
func Sync(ctx context.Context, cfg SyncConfig) (Report, error) {
	if cfg.Publication == "" {
		cfg.Publication = DefaultPublication
	}
	s, err := open(ctx, cfg.AdminURL, cfg.DryRun, cfg.LockTimeout)
	if err != nil {
		return Report{}, err
	}
	defer s.close(ctx)
	ok, err := s.has(ctx, "created")
	if err != nil {
		return s.report, err
	}
	if !ok {
		return s.report, ErrNotInstalled
	}
	if err := s.sync(ctx, cfg); err != nil {
		return s.report, err
	}
	return s.report, s.report.refused()
}

func (s *session) sync(ctx context.Context, cfg SyncConfig) error {
	if err := s.usage(ctx, cfg); err != nil {
		return err
	}
	pubs, err := s.publications(ctx, cfg.Publication)
	if err != nil {
		return err
	}
	relations, err := s.relations(ctx, cfg.Tables, pubs.names())
	if err != nil {
		return err
	}
	for i := range relations {
		if err := s.publish(ctx, &relations[i], pubs, cfg.Yes); err != nil {
			return err
		}
	}
	return s.withdraw(ctx, cfg.Tables, pubs)
}

// publish puts one table into the publication that it belongs in. Its replica identity is set
// first, in the same transaction: there is no moment at which the application's UPDATE fails (C49).
func (s *session) publish(ctx context.Context, r *relation, pubs publications, yes bool) error {
	target, other := pubs.insert, pubs.full
	if r.Full {
		target, other = pubs.full, pubs.insert
	}
	what := fmt.Sprintf("table %s in publication %s", r.Table, target.name)
	if r.Asked {
		what = fmt.Sprintf("table %s, which policies ask, in publication %s", r.Table, target.name)
	}
	if why := r.refusal(); why != "" {
		s.refuse(r, what, why)
		return nil
	}
	var sql []string
	if weak := r.weak(); r.Full && len(weak) > 0 {
		cost, err := s.estimate(ctx, r)
		if err != nil {
			return err
		}
		if cost.dear() && !yes {
			s.refuse(r, what, fmt.Sprintf("REPLICA IDENTITY FULL makes %s: accept it with --yes", cost))
			return nil
		}
		what += fmt.Sprintf(", with REPLICA IDENTITY FULL (%s)", cost)
		for _, t := range weak {
			sql = append(sql, rememberIdentity(t), "ALTER TABLE "+t+" REPLICA IDENTITY FULL")
		}
	}
	if !target.has(r.Table) {
		sql = append(sql, fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE ONLY %s", ident(target.name), r.Table))
	}
	if other.has(r.Table) {
		leave, err := s.leave(ctx, other, r.Table, pubs)
		if err != nil {
			return err
		}
		sql = append(sql, leave...)
	}
	if sql == nil {
		s.already(what)
		return nil
	}
	return s.doTable(ctx, what, sql)
}

// refuse says why a table is not published.
func (s *session) refuse(r *relation, what, why string) {
	if r.Asked {
		s.step(Skipped, what, "PostgreSQL is asked for each change, and a change of it alone delivers nothing; "+why)
		return
	}
	s.step(Refused, what, why)
}

// leave gives the statements that take a table out of a publication. The identity that it needed
// there is restored behind that, in the same transaction.
func (s *session) leave(ctx context.Context, pub *publication, t Table, pubs publications) ([]string, error) {
	sql := []string{fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE ONLY %s", ident(pub.name), t)}
	if pub != pubs.full {
		return sql, nil
	}
	tree, err := s.tree(ctx, t)
	if err != nil {
		return nil, err
	}
	restore, err := s.restoreIdentity(ctx, tree, pubs.names())
	return append(sql, restore...), err
}

// doTable is do for one table of many: what goes wrong with one keeps no other from its turn.
func (s *session) doTable(ctx context.Context, what string, sql []string) error {
	err := s.do(ctx, what, sql...)
	if err == nil || code(err) == "" {
		return err
	}
	s.step(Refused, what, strings.TrimPrefix(oneLine(err), what+": "), sql...)
	return nil
}

// withdraw takes tables that are not wanted out of the publications.
func (s *session) withdraw(ctx context.Context, wanted []Table, pubs publications) error {
	for _, pub := range []*publication{pubs.full, pubs.insert} {
		for _, m := range pub.tables {
			if slices.ContainsFunc(wanted, func(t Table) bool { return t.Schema == m.Schema && t.Name == m.Name }) {
				continue
			}
			sql, err := s.leave(ctx, pub, m, pubs)
			if err != nil {
				return err
			}
			if err := s.doTable(ctx, fmt.Sprintf("table %s out of publication %s", m, pub.name), sql); err != nil {
				return err
			}
		}
	}
	return nil
}

// errForeignPublication is told where a name is taken.
var errForeignPublication = errors.New("it exists and was not made by Rowtide: choose another --publication, or drop it")
