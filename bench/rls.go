package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// perUser is how many subscriptions a user has on his socket: as many as a socket may have.
const perUser = 100

// RLS measures what a change costs as subscriptions become more, where a policy shows each row to
// its owner alone and each of the owner's subscriptions asks for one topic: whatever their
// number, one gets the change. The baseline is the least number.
type RLS struct {
	Changes       int   `help:"Changes made one by one with each number of subscriptions." default:"1000"`
	Subscriptions []int `help:"Numbers of subscriptions." default:"1,100,10000,100000"`
}

func (*RLS) needs() bedConfig { return bedConfig{schema: schema, clients: true} }

func (s *RLS) measure(ctx context.Context, b *bed) (*Result, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	result := newResult("rls", b.version, 1, "p50 µs", "p90 µs", "p99 µs", "max µs", "CPU µs/change")
	result.Charted = 4
	id := 0
	for _, n := range s.Subscriptions {
		users, each := max(n/perUser, 1), min(n, perUser)
		open := order{
			Do: doOpen, Address: b.address(), Sockets: users, PerSocket: each, Subject: "u{socket}", Sparse: true,
			Query: "subscription { owned(where: {topic: {eq: {sub}}}) { row { id } } }",
		}
		if _, err := b.load.do(open); err != nil {
			return nil, fmt.Errorf("open %d subscriptions: %w", n, err)
		}
		if err := b.rlsOnce(ctx, conn, s.Changes, users, each, &id, result); err != nil {
			return nil, fmt.Errorf("measure %d subscriptions: %w", users*each, err)
		}
		if _, err := b.load.do(order{Do: doHangUp}); err != nil {
			return nil, err
		}
	}
	first, last := result.Series[0].Values, result.Series[len(result.Series)-1].Values
	result.ratio("commit to frame, most / fewest subscriptions, p50", float64(last[0]/first[0]), "at most 1.5")
	result.ratio("CPU a change, most / fewest subscriptions", float64(last[4]/first[4]), "at most 1.5")
	result.Notes = []string{"Times run from sending an INSERT to its one frame. The changes come one by one, so CPU time holds all that is done for a transaction."}
	return result, nil
}

func (b *bed) rlsOnce(ctx context.Context, conn *pgx.Conn, changes, users, each int, id *int, result *Result) error {
	name := fmt.Sprintf("%d subscriptions", users*each)
	random := rand.New(rand.NewPCG(1, uint64(users))) //nolint:gosec // it only spreads the changes
	times := make([]time.Duration, 0, changes)
	var cpu time.Duration
	for i := range changes + changes/10 {
		if i == changes/10 {
			cpu = cpuTime()
			if err := b.profile.start("rls"); err != nil {
				return err
			}
		}
		if err := b.load.expect(1); err != nil {
			return err
		}
		*id++
		start := time.Now()
		_, err := conn.Exec(ctx, "INSERT INTO owned VALUES ($1, $2, $3, 0, 'a payload of ordinary length')",
			*id, fmt.Sprintf("u%d", random.IntN(users)), random.IntN(each))
		if err != nil {
			return err
		}
		r, err := b.load.await()
		if err != nil {
			return err
		}
		if i >= changes/10 {
			times = append(times, time.Unix(0, r.Last).Sub(start))
		}
	}
	used := cpuTime() - cpu
	result.add(name, append(percentiles(times), float64(used.Microseconds())/float64(changes))...)
	return b.profile.stop("rls")
}
