package rowtide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide/authz/jwt"
	"github.com/rowtide/rowtide/authz/rls"
	"github.com/rowtide/rowtide/cdc/replication"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/bus"
	"github.com/rowtide/rowtide/fanout/bus/membus"
	"github.com/rowtide/rowtide/fanout/graphqlhttp"
	"github.com/rowtide/rowtide/fanout/graphqlws"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema"
)

// A pipeline is everything between one database and the clients, from a successful start to the
// end: consumer → feed → bus → dispatcher → sockets and HTTP streams.
type pipeline struct {
	cfg    Config
	log    *slog.Logger
	guard  *guard
	source *source
	// catalog is the newest one read: what the feed takes keys from.
	catalog    atomic.Pointer[schema.Catalog]
	bus        bus.Bus
	cursors    *fanout.CursorCodec
	next       atomic.Pointer[fanout.CursorConfig] // of cursors once the bus has begun anew
	judge      *rls.Postgres
	dispatcher *fanout.Dispatcher
	sockets    *graphqlws.Handler
	requests   *graphqlhttp.Handler
	feed       *feed
	consumer   *replication.Consumer
	verifier   *jwt.Verifier
	revoked    *revocations

	// missing names the publications that are not there, nil where they all are.
	missing atomic.Pointer[string]

	// reading is held while the catalog is read, so that a newer one is never overtaken.
	reading sync.Mutex
}

// open makes everything that can fail for reasons a person has to mend, and no slot: that comes
// last, in run, so that a start that fails leaves none behind.
func (s *Server) open(ctx context.Context) (_ *pipeline, err error) {
	p := &pipeline{log: s.log, guard: s.guard}
	defer func() { //nolint:contextcheck // closing outlives what it closes
		if err != nil {
			p.close()
		}
	}()
	if p.cfg, err = prepare(ctx, s.cfg); err != nil {
		return nil, err
	}
	if p.source, err = openSource(ctx, p.cfg); err != nil {
		return nil, err
	}
	catalog, err := p.source.load(ctx)
	if err != nil {
		return nil, err
	}
	p.catalog.Store(catalog)
	if err := p.guard.openTable(ctx, p.source.pool, p.cfg.DatabaseURL); err != nil {
		return nil, err
	}
	p.revoked = &revocations{pool: p.source.pool, held: p.guard.revoked, log: p.log}
	if err := p.checkOwner(ctx, catalog); err != nil {
		return nil, err
	}
	if err := p.wire(catalog); err != nil { //nolint:contextcheck // what it makes outlives the start
		return nil, err
	}
	return p, p.source.awaitSlot(ctx, p.cfg.Slot)
}

// checkOwner refuses a login that owns a served table: its policies would not bind it.
func (p *pipeline) checkOwner(ctx context.Context, catalog *schema.Catalog) error {
	lc := migrations.LoginConfig{Roles: p.cfg.roles()}
	for _, t := range catalog.Tables() {
		lc.Tables = append(lc.Tables, migrations.Table{Schema: t.Def.Schema, Name: t.Def.Name})
	}
	return migrations.CheckOwner(ctx, p.source.pool, lc)
}

// wire joins the parts. None of them has begun to work when it returns.
func (p *pipeline) wire(catalog *schema.Catalog) (err error) {
	if p.verifier, err = p.cfg.verifier(); err != nil {
		return err
	}
	if p.cursors, err = fanout.NewCursorCodec(p.source.cursorConfig(p.cfg.CursorSecret)); err != nil {
		return err
	}
	if p.bus, err = membus.New(membus.Config{MaxAge: p.cfg.Retain, MaxBytes: p.cfg.RetainBytes}); err != nil {
		return err
	}
	if p.judge, err = rls.New(rls.Config{
		URL: p.cfg.DatabaseURL, Schemas: p.source.searchable, Compile: true, Shadow: p.cfg.ShadowPolicies, Audit: p.guard.audit,
		Sets: !p.cfg.NoSets, SetHistory: p.cfg.Retain + time.Minute, Publication: p.cfg.Publication, Budget: p.guard.limiter, Logger: p.log,
	}); err != nil {
		return err
	}
	p.dispatcher, err = fanout.New(fanout.Config{
		Bus: p.bus, Judge: p.judge, Snapshots: p.judge, Catalog: catalog, Cursors: p.cursors, Comparer: comparer{p.source.pool}, Budget: p.guard.limiter,
		Refresh: p.refresh, OnMessages: p.announced, OnRestart: p.restarted,
		Limits: fanout.Limits{SnapshotRows: p.cfg.MaxSnapshotRows, QueueBytes: p.cfg.QueueBytes}, Logger: p.log,
		Audit: p.guard.audit, Revoked: p.guard.revoked.Revoked,
	})
	if err != nil {
		return err
	}
	if p.sockets, err = graphqlws.New(graphqlws.Config{
		Dispatcher: p.dispatcher, Auth: p.verifier, Origins: p.cfg.AllowOrigins, Logger: p.log,
		Limiter: p.guard.limiter, Proxies: p.guard.proxies, Audit: p.guard.audit, Operations: p.guard.operations,
	}); err != nil {
		return err
	}
	if p.requests, err = graphqlhttp.New(graphqlhttp.Config{
		Dispatcher: p.dispatcher, Auth: p.verifier, Origins: p.cfg.AllowOrigins, Logger: p.log,
		Limiter: p.guard.limiter, Proxies: p.guard.proxies, Audit: p.guard.audit, Subscriptions: p.guard.operations,
	}); err != nil {
		return err
	}
	progress := replication.NewProgress()
	if p.feed, err = newFeed(p.cfg, p.bus, progress, &p.catalog, p.source.verify, p.judge.Asked); err != nil {
		return err
	}
	p.consumer, err = replication.New(replication.Config{
		URL: p.cfg.DatabaseURL, Slot: p.cfg.Slot,
		Publications: []string{p.cfg.Publication, migrations.InsertPublication(p.cfg.Publication)},
		Handler:      p.feed, Progress: progress, Retain: p.cfg.Retain, RetainWAL: p.cfg.RetainWAL, Logger: p.log,
		OnServer: p.met, OnLoss: p.lost, OnReached: p.feed.reached,
	})
	return err
}

// drainTime is how long clients get to take what is queued for them. With what else stopping
// takes it stays below the five seconds in which a service should be gone.
const drainTime = 3 * time.Second

// run works until ctx ends, drains, and returns when everything has stopped. It calls ready
// once clients may come.
func (p *pipeline) run(ctx context.Context, ready func()) error {
	// The parts outlive ctx by the drain: clients get what was committed, and Postgres the
	// acknowledgement of it.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, work := errgroup.WithContext(work)
	g.Go(func() error { return p.consumer.Run(work) })
	g.Go(func() error { return p.watch(work) })
	g.Go(func() error { return p.verifier.Run(work) })
	g.Go(func() error {
		select {
		case <-p.consumer.Started():
		case <-work.Done():
			return nil
		}
		open, err := p.settle(work)
		if err != nil {
			if work.Err() != nil {
				return nil //nolint:nilerr // it was told to stop
			}
			return fmt.Errorf("wait for transactions of before the start: %w", err)
		}
		if err := p.revoked.load(work); err != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		g.Go(func() error { return p.followRevoked(work) })
		g.Go(func() error { return p.lookAfter(work, open) })
		// It begins with the whole window that the bus has by now, before it lets anybody in.
		ready()
		g.Go(func() error { return p.examine(work) })
		return p.dispatcher.Run(work)
	})
	g.Go(func() error {
		defer stop()
		select {
		case <-work.Done(): // a part has failed
			return nil
		case <-ctx.Done():
		}
		drain, cancel := context.WithTimeout(work, drainTime)
		defer cancel()
		if err := errors.Join(p.sockets.Drain(drain), p.requests.Drain(drain)); err != nil {
			p.log.Warn("clients did not take all that was queued for them: they resume by cursor", "error", err)
		}
		return nil
	})
	if err := g.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// close frees what open made. It is idempotent.
func (p *pipeline) close() {
	if p.sockets != nil {
		p.sockets.Close()
	}
	if p.requests != nil {
		p.requests.Close()
	}
	if p.feed != nil {
		p.feed.close()
	}
	if p.judge != nil {
		p.judge.Close()
	}
	if p.bus != nil {
		_ = p.bus.Close()
	}
	if p.source != nil {
		p.source.close()
	}
}

// unready are the reasons why changes do not flow.
func (p *pipeline) unready() []string {
	var reasons []string
	switch s := p.consumer.State(); {
	case s.Err != nil:
		reasons = append(reasons, fmt.Sprintf("the replication stream does not go on: %s", s.Err))
	case !s.Connected:
		reasons = append(reasons, "the replication stream is not connected")
	case p.missing.Load() != nil: // the stream goes on until there is a change to send
		reasons = append(reasons, fmt.Sprintf("publication %s does not exist: make it with rowtide setup or rowtide sync", *p.missing.Load()))
	}
	return reasons
}

var _ fanout.Follower = (*rls.Postgres)(nil)
