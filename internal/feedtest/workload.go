package feedtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// A Workload changes the rows of a Fixture's tables as busy applications do, and worse: several
// writers at once; transactions of one row to a thousand; several changes of one row in one
// transaction; rows deleted and made again, made and deleted; keys that change; savepoints rolled
// back; updates that change nothing, or only what a role may not read; rows that change hands, so
// that they enter one subscriber's view and leave another's; values out of line; upserts; now and
// then a TRUNCATE.
//
// What each writer does is a function of Seed alone. How the writers interleave is not.
type Workload struct {
	// URL is of a superuser.
	URL  string
	Seed uint64
	// Writers is how many write at once. Defaults to 4.
	Writers int
	// Changes is how many row changes to commit in all, at least. Defaults to 100,000.
	Changes int
	// MaxRows is the most changes of one transaction, about. Defaults to 1,000.
	MaxRows int
	// NoTruncate leaves TRUNCATE out.
	NoTruncate bool
	// Members changes who belongs to which team too.
	Members bool
}

// Stats is what a Workload did.
type Stats struct {
	// Transactions were committed, and made Changes of rows.
	Transactions, Changes int
	// RolledBack changes were undone by a savepoint. Retries is how often a transaction had to
	// begin again: deadlock, serialization, a key that another writer took.
	RolledBack, Retries int
	Truncates           int
}

func (s *Stats) add(o Stats) {
	s.Transactions += o.Transactions
	s.Changes += o.Changes
	s.RolledBack += o.RolledBack
	s.Retries += o.Retries
	s.Truncates += o.Truncates
}

// Seeds for the generators of Workload, apart from those of its writers.
const initialStream = 1 << 32

// Fill gives the tables their first rows, and the teams their members, who stay.
func (w Workload) Fill(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	p := newPlan(rand.New(rand.NewPCG(w.Seed, initialStream)), w.maxRows())
	p.fill()
	if _, err := p.run(ctx, conn, pgx.TxOptions{}); err != nil {
		return fmt.Errorf("fill: %w", err)
	}
	return nil
}

// Run writes until Changes are committed.
func (w Workload) Run(ctx context.Context) (Stats, error) {
	writers, changes := w.Writers, w.Changes
	if writers == 0 {
		writers = 4
	}
	if changes == 0 {
		changes = 100_000
	}
	each := make([]Stats, writers)
	g, ctx := errgroup.WithContext(ctx)
	for n := range writers {
		g.Go(func() error {
			var err error
			each[n], err = w.write(ctx, uint64(n), (changes+writers-1)/writers)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return Stats{}, fmt.Errorf("workload with seed %d: %w", w.Seed, err)
	}
	var sum Stats
	for _, s := range each {
		sum.add(s)
	}
	return sum, nil
}

func (w Workload) maxRows() int {
	if w.MaxRows == 0 {
		return 1000
	}
	return w.MaxRows
}

func (w Workload) connect(ctx context.Context) (*pgx.Conn, error) {
	// Deadlocks are part of the plan, waiting for them to be found is not.
	return connect(ctx, w.URL, map[string]string{"deadlock_timeout": "20ms"})
}

// write is one writer.
func (w Workload) write(ctx context.Context, n uint64, changes int) (Stats, error) {
	var sum Stats
	conn, err := w.connect(ctx)
	if err != nil {
		return sum, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for i := uint64(0); sum.Changes < changes; i++ {
		// A generator for each transaction: one that begins again does the same again.
		p := newPlan(rand.New(rand.NewPCG(w.Seed, n<<40|i)), w.maxRows())
		p.members = w.Members
		p.transaction(!w.NoTruncate)
		did, err := p.retry(ctx, conn)
		if err != nil {
			return sum, fmt.Errorf("writer %d, transaction %d: %w", n, i, err)
		}
		sum.add(did)
	}
	return sum, nil
}

// A plan is the statements of one transaction.
type plan struct {
	*rand.Rand
	max        int
	lock       string
	statements []statement
	// void tells that a savepoint around what follows will be rolled back.
	void    bool
	members bool
}

// A statement and its arguments. It counts for nothing if it is void.
type statement struct {
	sql  string
	args []any
	void bool
}

func newPlan(r *rand.Rand, most int) *plan { return &plan{Rand: r, max: most, lock: togetherSQL} }

func (p *plan) do(sql string, args ...any) {
	p.statements = append(p.statements, statement{sql, args, p.void})
}

// A transaction that others got in the way of three times begins again alone: all hold a lock
// together, and it holds it for itself. Otherwise a large one may never come through.
const (
	maxTogether   = 3
	togetherSQL   = "SELECT pg_advisory_xact_lock_shared(4711)"
	aloneSQL      = "SELECT pg_advisory_xact_lock(4711)"
	repeatableOdd = 10 // one in so many transactions is REPEATABLE READ
)

func (p *plan) retry(ctx context.Context, conn *pgx.Conn) (Stats, error) {
	options := pgx.TxOptions{}
	if p.IntN(repeatableOdd) == 0 {
		options.IsoLevel = pgx.RepeatableRead
	}
	for attempt := 0; ; attempt++ {
		if attempt < maxTogether {
			p.lock = togetherSQL
		} else {
			p.lock, options.IsoLevel = aloneSQL, pgx.ReadCommitted
		}
		s, err := p.run(ctx, conn, options)
		s.Retries = attempt
		if err == nil || attempt > maxTogether || !again(err) {
			return s, err
		}
	}
}

// again tells that the transaction failed for what others did at the same time.
func again(err error) bool {
	var pe *pgconn.PgError
	if !errors.As(err, &pe) {
		return false
	}
	switch pe.Code {
	case "40001", "40P01", "23505": // serialization_failure, deadlock_detected, unique_violation
		return true
	}
	return false
}

// run does the transaction, in one round trip but for its begin and commit.
func (p *plan) run(ctx context.Context, conn *pgx.Conn, options pgx.TxOptions) (Stats, error) {
	s := Stats{Transactions: 1}
	err := pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		batch := &pgx.Batch{}
		batch.Queue(p.lock)
		for _, st := range p.statements {
			batch.Queue(st.sql, st.args...).Exec(func(tag pgconn.CommandTag) error {
				switch {
				case st.void:
					s.RolledBack += int(tag.RowsAffected())
				case tag.String() == "TRUNCATE TABLE":
					s.Truncates++
				default:
					s.Changes += int(tag.RowsAffected())
				}
				return nil
			})
		}
		return tx.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return Stats{}, err
	}
	return s, nil
}
