package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// perUser is how many subscriptions a user has on his socket: as many as a socket may have.
const perUser = 100

// An rlsPolicy is a kind of policy. Its table has the same name and the columns id, what the policy
// reads, and topic.
type rlsPolicy struct {
	name, title, using string
	flat               bool // the cost must not depend on how many subscriptions there are
	moves              bool // what changes is membership: it uncovers or hides one row
}

// rlsPolicies are those that are measured. All show each row to one user alone.
func rlsPolicies() []rlsPolicy {
	const me = `(current_setting('request.jwt.claims', true)::json ->> 'sub')`
	return []rlsPolicy{
		{name: "owner", title: "owner equality", using: `owner = ` + me, flat: true},
		{name: "membership", title: "membership", using: `owner IN (SELECT m.team FROM members m WHERE m.who = ` + me + `)`, flat: true},
		{name: "moves", title: "a change of membership", using: `owner IN (SELECT m.team FROM members m WHERE m.who = ` + me + `)`, flat: true, moves: true},
		{name: "clock", title: "owner, with Postgres asked", using: `owner = ` + me + ` AND clock_timestamp() > '2020-01-01'`, flat: true},
		{name: "opaque", title: "Postgres asked for each", using: `sees(owner)`},
	}
}

// rlsSchema makes a table for each, and teams: everybody is in one that rows are written for, and in
// two more.
func rlsSchema() string {
	var b strings.Builder
	b.WriteString(`
CREATE TABLE members (team text NOT NULL, who text NOT NULL, PRIMARY KEY (who, team));
INSERT INTO members SELECT t || 'u' || i, 'u' || i FROM generate_series(0, 1999) i, unnest(ARRAY['', 'a', 'm']) t;
GRANT SELECT ON members TO %s;
CREATE FUNCTION sees(owner text) RETURNS boolean LANGUAGE plpgsql STABLE AS
  $$ BEGIN RETURN owner = current_setting('request.jwt.claims', true)::json ->> 'sub'; END $$;`)
	for _, p := range rlsPolicies() {
		fmt.Fprintf(&b, `
CREATE TABLE %[1]s (id bigint PRIMARY KEY, owner text NOT NULL, topic int NOT NULL, payload text NOT NULL);
ALTER TABLE %[1]s ENABLE ROW LEVEL SECURITY;
CREATE POLICY sees ON %[1]s FOR SELECT TO %%s USING (%[2]s);
GRANT SELECT ON %[1]s TO %%s;
COMMENT ON TABLE %[1]s IS '@subscribe(field: "%[1]s")';`, p.name, p.using)
	}
	return b.String()
}

// rlsMove takes a user out of a team with one row into another such.
const rlsMove = `UPDATE members SET team = 'm' || $1::bigint WHERE who = $2 AND team LIKE 'm%'`

// RLS measures what a change costs as subscriptions become more, where a policy shows each row to
// one user alone and each of his subscriptions asks for one topic: whatever their number, one gets
// the change. The baseline is the least number.
type RLS struct {
	Changes       int      `help:"Changes made one by one with each number of subscriptions." default:"1000"`
	Subscriptions []int    `help:"Numbers of subscriptions." default:"1,10,100,1000,10000,100000"`
	Policies      []string `help:"Kinds of policies: ${enum}." enum:"owner,membership,moves,clock,opaque" default:"owner,membership,moves,clock,opaque"`
}

func (*RLS) needs() bedConfig { return bedConfig{schema: rlsSchema(), clients: true} }

func (s *RLS) measure(ctx context.Context, b *bed) (*Result, error) {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	result := newResult("rls", b.version, 1, "p50 µs", "p90 µs", "p99 µs", "max µs", "CPU µs/change")
	result.Charted, result.Across = 4, "subscriptions, one of which gets the change"
	for _, p := range rlsPolicies() {
		if !chosen(s.Policies, p.name) {
			continue
		}
		var measured []Series
		for _, n := range s.Subscriptions {
			one, err := b.rlsOnce(ctx, conn, p, s.Changes, n)
			if err != nil {
				return nil, fmt.Errorf("measure %s with %d subscriptions: %w", p.name, n, err)
			}
			measured = append(measured, one)
		}
		result.Series = append(result.Series, measured...)
		result.Curves = append(result.Curves, curve(p.title, s.Subscriptions, measured, result.Charted))
		goal := ""
		if p.flat {
			goal = "at most 1.5"
		}
		first, last, than := measured[0].Values, measured[len(measured)-1].Values, "fewest"
		if at := slices.IndexFunc(s.Subscriptions, func(n int) bool { return n >= perUser }); p.moves && at >= 0 {
			first, than = measured[at].Values, "those of one user" // a change reaches all of his
		}
		result.ratio(p.title+": CPU a change, most subscriptions / "+than, float64(last[4]/first[4]), goal)
		result.ratio(p.title+": commit to frame, p50, most / "+than, float64(last[0]/first[0]), goal)
	}
	result.Notes = []string{
		"Times run from sending a change to its one frame. The changes come one by one, so CPU time, of the service alone, holds all that is done for a transaction.",
		fmt.Sprintf("A user has up to %d subscriptions, each to one topic; everybody is in three teams. A change of membership is looked at for all subscriptions of its user.", perUser),
	}
	return result, nil
}

func chosen(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return len(names) == 0
}

// leastChanges is how many changes are measured at least, where each takes long.
const leastChanges = 20

// rlsOnce measures one kind of policy with one number of subscriptions.
func (b *bed) rlsOnce(ctx context.Context, conn *pgx.Conn, p rlsPolicy, changes, n int) (Series, error) {
	users, each := max(n/perUser, 1), min(n, perUser)
	if !p.flat {
		changes = min(changes, max(changes*4/users, leastChanges))
	}
	open := order{
		Do: doOpen, Address: b.address(), Sockets: users, PerSocket: each, Subject: "u{socket}", Sparse: true,
		Query: "subscription { " + p.name + "(where: {topic: {eq: {sub}}}, kinds: [INSERT, ENTER]) { row { id } } }",
	}
	if _, err := b.load.do(open); err != nil {
		return Series{}, fmt.Errorf("open: %w", err)
	}
	times, cpu, err := b.rlsChanges(ctx, conn, p, changes, users, each)
	if err != nil {
		return Series{}, err
	}
	if _, err := b.load.do(order{Do: doHangUp}); err != nil {
		return Series{}, err
	}
	r := Result{}
	r.add(fmt.Sprintf("%s, %d subscriptions", p.title, users*each), append(percentiles(times), cpu)...)
	return r.Series[0], nil
}

// rlsChanges writes changes one by one, after a tenth as many to warm up, and gives how long each took to its frame,
// and the CPU time of the service for each in microseconds.
func (b *bed) rlsChanges(ctx context.Context, conn *pgx.Conn, p rlsPolicy, changes, users, each int) ([]time.Duration, float64, error) {
	random := rand.New(rand.NewPCG(1, uint64(users))) //nolint:gosec // it only spreads the changes
	times := make([]time.Duration, 0, changes)
	var cpu time.Duration
	if p.moves {
		_, err := conn.Exec(ctx, "INSERT INTO moves SELECT $1::bigint + i, 'm' || ($1::bigint + i), i % $2::int, 'a payload of ordinary length' FROM generate_series(1, $3::int) i",
			b.written, each, changes+changes/10)
		if err != nil {
			return nil, 0, err
		}
	}
	for i := range changes + changes/10 {
		if i == changes/10 {
			cpu = cpuTime()
			if err := b.profile.start("rls"); err != nil {
				return nil, 0, err
			}
		}
		if err := b.load.expect(1); err != nil {
			return nil, 0, err
		}
		start := time.Now()
		if err := b.rlsChange(ctx, conn, p, random.IntN(users), random.IntN(each)); err != nil {
			return nil, 0, err
		}
		r, err := b.load.await()
		if err != nil {
			return nil, 0, err
		}
		if i >= changes/10 {
			times = append(times, time.Unix(0, r.Last).Sub(start))
		}
	}
	used := cpuTime() - cpu
	return times, float64(used.Microseconds()) / float64(changes), b.profile.stop("rls")
}

// rlsChange makes a change that one subscription of a user gets.
func (b *bed) rlsChange(ctx context.Context, conn *pgx.Conn, p rlsPolicy, user, topic int) error {
	b.written++
	who := fmt.Sprintf("u%d", user)
	if p.moves {
		_, err := conn.Exec(ctx, rlsMove, b.written, who)
		return err
	}
	_, err := conn.Exec(ctx, "INSERT INTO "+p.name+" VALUES ($1, $2, $3, 'a payload of ordinary length')", b.written, who, topic)
	return err
}
