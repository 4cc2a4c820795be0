package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/internal/feedtest"
	"github.com/rowtide/rowtide/testcontainers"
	"github.com/rowtide/rowtide/testcontainers/pgtest"
)

var (
	faults      = flag.Int("faults", 14, "faults of the nemesis")
	nemesisSeed = flag.Uint64("nemesis-seed", 0, "seed of the nemesis; 0 for a new one")
	breath      = flag.Duration("breath", 200*time.Millisecond, "pause of the nemesis's writers after some 100 changes; 0 for none")
)

// TestNemesis runs writers, DDL and clients while everything between them fails, in an order that
// the seed gives: the service is killed, stopped and continued; Postgres crashes, and its walsender
// stops; connections are cut and held up, on both sides; clients read slowly, vanish and come back.
//
// Then: what clients without a snapshot got by resuming is what a reader of the WAL and real SELECTs
// say, nothing lost, twice, out of order or leaked (O1, O3), so it is the same set as without any fault
// (O5); clients with a snapshot have what their SELECT returns (O2); and whenever the service was
// killed, its slot had not moved past what was handed on (O4).
//
// Covers C119.
func TestNemesis(t *testing.T) {
	seed := *nemesisSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) //nolint:gosec // any number will do
	}
	t.Logf("replay with: -nemesis-seed %d -faults %d", seed, *faults)
	n := newNemesis(t, seed)
	defer n.v.kill()
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(10+*faults/2)*time.Minute)
	defer cancel()
	clients := resumers(n.v, n.fx)
	ref := reference(t, n.db, pgtest.On(t, n.cluster, n.fx.DDL()), n.fx, clients)
	n.v.start(t)
	var reading, writing sync.WaitGroup
	for _, c := range clients {
		reading.Go(func() { c.run(ctx) })
	}
	for _, c := range clients {
		c.await(t, "LIVE")
	}
	since, err := feedtest.CurrentLSN(ctx, n.db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	writes, stop := context.WithCancel(ctx)
	writing.Go(func() { n.write(writes) })
	done, took, began := map[string]int{}, map[string]time.Duration{}, time.Now()
	for fault := range *faults {
		pause(ctx, time.Duration(20+n.dice.IntN(400))*time.Millisecond)
		struck := time.Now()
		name := n.strike(ctx, t, clients)
		done[name]++
		took[name] += time.Since(struck)
		if n.dice.IntN(6) == 0 { // else the next strikes in the midst of getting over this one
			struck = time.Now()
			n.getOver(ctx, t, clients, fault)
			took["getting over"] += time.Since(struck)
		}
		if fault%50 == 49 {
			t.Logf("%d faults in %s: %v, %v", fault+1, time.Since(began).Round(time.Second), done, took)
		}
	}
	stop()
	writing.Wait()
	t.Logf("faults: %v", done)
	finish(ctx, t, n.db, n.fx, clients)
	cancel()
	reading.Wait()
	n.v.kill()
	n.v.check(t, n.db, cdc.LSN(since))
	streams, err := ref.Run(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, streams, clients)
}

// A nemesis is a world and what may go wrong in it.
type nemesis struct {
	dice    *rand.Rand
	cluster *testcontainers.Cluster
	db      *pgtest.DB
	fx      *feedtest.Fixture
	work    feedtest.Workload
	v       *victim
	// toServer and toService stand before Postgres, for the service, and before the service.
	toServer, toService *proxy
	// calm has the writers rest.
	calm atomic.Bool
}

func newNemesis(t *testing.T, seed uint64) *nemesis {
	t.Helper()
	cluster := pgtest.Cluster(t, testcontainers.Config{Settings: map[string]string{"fsync": "on", "wal_sender_timeout": "10s"}})
	n := &nemesis{dice: rand.New(rand.NewPCG(seed, 1)), cluster: cluster, db: pgtest.On(t, cluster)} //nolint:gosec // a test's dice
	n.fx = feedtest.NewFixture(n.db.Role(t, "web_user"), n.db.Role(t, "web_reader"))
	n.db.Exec(t, n.fx.DDL())
	n.work = feedtest.Workload{URL: n.db.Admin, Seed: seed, Changes: 100, MaxRows: 100}
	if err := n.work.Fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	server, err := url.Parse(n.db.Admin)
	if err != nil {
		t.Fatal(err)
	}
	n.toServer = newProxy(t, server.Host)
	server.Host = n.toServer.addr
	n.v = newVictim(t, n.db, n.fx, server.String())
	// Where membership is followed, it moves; where Postgres is asked instead, it is as it is when asked,
	// which no reader of the WAL can know.
	n.work.Members = pgtest.One[bool](t, n.db, "SELECT EXISTS (SELECT FROM pg_publication_tables WHERE pubname = 'rowtide' AND tablename = 'members')")
	t.Logf("membership moves: %t", n.work.Members)
	n.toService = newProxy(t, n.v.addr)
	n.v.dial = n.toService.addr
	return n
}

// patience is how long the service may take to get over faults while writers go on at full speed, which
// may well be faster than it is on a busy machine.
const patience = 2 * time.Second

// getOver writes a mark and waits until it has come to who may see it: all that failed so far has been
// got over.
func (n *nemesis) getOver(ctx context.Context, t *testing.T, clients []*resumer, mark int) {
	t.Helper()
	conn := connected(t, n.db) //nolint:contextcheck // the test's context is its own
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, `INSERT INTO documents (id, owner, amount, updated_at) VALUES ($1, $2, $3, '2020-01-01')
		ON CONFLICT (id) DO UPDATE SET owner = excluded.owner, amount = excluded.amount`, markID, markOwner, mark+1); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(patience, func() { n.calm.Store(true) })
	defer n.calm.Store(false)
	defer late.Stop()
	for _, c := range clients {
		if c.sub.Principal.Name == markOwner && c.sub.Table.Name == "documents" {
			c.until(t, "the mark", func() bool { return c.mark > mark })
		}
	}
}

// write keeps writers and DDL going. That they fail is what the nemesis is for.
func (n *nemesis) write(ctx context.Context) {
	w := n.work
	for ctx.Err() == nil {
		if n.calm.Load() {
			pause(ctx, 20*time.Millisecond)
			continue
		}
		pause(ctx, *breath)
		w.Seed++
		_, _ = w.Run(ctx)
		n.ddl(ctx, w.Seed)
	}
}

// ddl changes the catalog and nothing of what anybody may see.
func (n *nemesis) ddl(ctx context.Context, pick uint64) {
	conn, err := pgx.Connect(ctx, n.db.Admin)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	statements := []string{
		"CREATE TABLE IF NOT EXISTS extra (id int PRIMARY KEY, t text); COMMENT ON TABLE extra IS '@subscribe(rowSecurity: NOT_REQUIRED)'",
		"DROP TABLE IF EXISTS extra",
		"CREATE INDEX IF NOT EXISTS by_title ON documents (title)",
		"DROP INDEX IF EXISTS by_title",
		"COMMENT ON TABLE tasks IS '@subscribe\nSomething for a team, number " + fmt.Sprint(pick) + ".'",
		"ALTER TABLE documents SET (fillfactor = 70)",
		"BEGIN; CREATE POLICY more ON documents FOR INSERT TO " + n.fx.User + " WITH CHECK (true); DROP POLICY more ON documents; COMMIT",
	}
	_, _ = conn.Exec(ctx, "SET lock_timeout = '1s'; "+statements[pick%uint64(len(statements))])
}

// strike does one thing of its choice, and gives its name.
func (n *nemesis) strike(ctx context.Context, t *testing.T, clients []*resumer) string {
	t.Helper()
	short := time.Duration(50+n.dice.IntN(700)) * time.Millisecond
	victims := func() []*resumer {
		some := slices.Clone(clients)
		n.dice.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
		return some[:1+n.dice.IntN(len(some))]
	}
	switch pick := n.dice.IntN(100); {
	case pick < 25:
		n.v.kill()
		n.v.look(t, n.db) //nolint:contextcheck // the test's context is its own
		n.v.start(t)      //nolint:contextcheck // the test's context is its own
		return "kill service"
	case pick < 35:
		if err := n.cluster.StopMode(ctx, "immediate"); err != nil {
			t.Fatal(err)
		}
		pause(ctx, short/4)
		if err := n.cluster.Restart(ctx); err != nil {
			t.Fatal(err)
		}
		return "crash postgres"
	case pick < 47:
		n.v.signal(syscall.SIGSTOP)
		pause(ctx, 2*short)
		n.v.signal(syscall.SIGCONT)
		return "stop service"
	case pick < 57:
		n.freezeWalsender(ctx, short)
		return "stop walsender"
	case pick < 67:
		n.toServer.cut()
		return "cut postgres"
	case pick < 74:
		n.toServer.hold(true)
		pause(ctx, short)
		n.toServer.hold(false)
		return "hold postgres"
	case pick < 84:
		n.toService.cut()
		return "cut clients"
	case pick < 90:
		for _, c := range victims() {
			c.doze(short, false)
		}
		return "slow clients"
	case pick < 96:
		for _, c := range victims() {
			c.doze(2*short, true)
		}
		return "vanish clients"
	default:
		n.toServer.cut() // all at once, in the middle of a start
		n.v.kill()
		n.v.start(t) //nolint:contextcheck // the test's context is its own
		n.toServer.cut()
		n.toService.cut()
		return "kill service and cut"
	}
}

// freezeWalsender stops the process of the server that streams to the service for a while.
func (n *nemesis) freezeWalsender(ctx context.Context, d time.Duration) {
	conn, err := pgx.Connect(ctx, n.db.Admin)
	if err != nil {
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var pid int
	err = conn.QueryRow(ctx, `SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = $1`, n.v.slot).Scan(&pid)
	if err != nil || pid == 0 || syscall.Kill(pid, syscall.SIGSTOP) != nil {
		return
	}
	pause(ctx, d)
	_ = syscall.Kill(pid, syscall.SIGCONT)
}
