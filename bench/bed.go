package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers"
)

// benchSecret signs the tokens of a server that lives for one run on loopback.
const benchSecret = "a secret for one benchmark run only"

// role is whom the clients are.
const role = "bench_user"

// A bed is a private Postgres with a schema loaded, and the service on it, in this process.
type bed struct {
	cluster  *testcontainers.Cluster
	url      string
	version  string // of Postgres
	listener net.Listener
	server   *rowtide.Server
	load     *load
	profile  *profile
	written  int // rows, by scenarios that write themselves
}

// A bedConfig says what a scenario needs.
type bedConfig struct {
	// schema is SQL; %s stands for the role.
	schema string
	// queueBytes is rowtide.Config's.
	queueBytes int
	// clients starts a load process.
	clients bool
	// limited keeps the default limits, and believes a proxy on this machine.
	limited bool
	profile string
	// ended has the service run once, to prepare the database, and end before anything is measured.
	ended bool
}

// onBed prepares a bed, runs the service and measures.
func onBed(ctx context.Context, cfg bedConfig, measure func(context.Context, *bed) (*Result, error)) (*Result, error) {
	b, err := newBed(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer b.close(ctx)
	if !cfg.ended {
		return b.serve(ctx, measure)
	}
	if _, err := b.serve(ctx, func(context.Context, *bed) (*Result, error) { return &Result{}, nil }); err != nil {
		return nil, err
	}
	return measure(ctx, b)
}

// serve runs the service and measures; then the service has ended.
func (b *bed) serve(ctx context.Context, measure func(context.Context, *bed) (*Result, error)) (result *Result, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return b.server.Serve(gctx, b.listener) })
	g.Go(func() error {
		defer cancel()
		if err := b.server.WaitReady(gctx); err != nil {
			return err
		}
		var err error
		result, err = measure(gctx, b)
		return err
	})
	if err := g.Wait(); err != nil && (result == nil || !errors.Is(err, context.Canceled)) {
		return nil, err
	}
	return result, nil
}

func newBed(ctx context.Context, cfg bedConfig) (_ *bed, err error) {
	b := &bed{}
	if b.profile, err = newProfile(cfg.profile); err != nil {
		return nil, err
	}
	if b.cluster, err = testcontainers.Start(ctx, testcontainers.Config{Settings: map[string]string{
		"fsync": "on", "shared_buffers": "256MB", "max_wal_size": "8GB",
	}}); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			b.close(ctx)
		}
	}()
	b.url = b.cluster.URL("postgres", "postgres")
	if err := b.prepare(ctx, cfg.schema); err != nil {
		return nil, err
	}
	if b.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	if b.server, err = rowtide.New(b.config(cfg)); err != nil {
		return nil, err
	}
	if cfg.clients {
		b.load, err = startLoad(ctx)
	}
	return b, err
}

func (b *bed) prepare(ctx context.Context, schema string) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, "SHOW server_version").Scan(&b.version); err != nil {
		return err
	}
	b.version, _, _ = strings.Cut(b.version, " ")
	if _, err := conn.Exec(ctx, "CREATE ROLE "+role+" NOLOGIN;"+strings.ReplaceAll(schema, "%s", role)); err != nil {
		return fmt.Errorf("load benchmark schema: %w", err)
	}
	return nil
}

func (b *bed) config(cfg bedConfig) rowtide.Config {
	out := rowtide.Config{
		DatabaseURL: b.url, Dev: true, Roles: []string{role}, JWTSecret: benchSecret, QueueBytes: cfg.queueBytes,
		Limits: []string{"none"}, // one client stands for thousands
		Logger: slog.New(slog.DiscardHandler),
	}
	if cfg.limited {
		out.Limits, out.TrustedProxies = nil, []string{"127.0.0.0/8"}
	}
	return out
}

func (b *bed) address() string { return b.listener.Addr().String() }

func (b *bed) close(ctx context.Context) {
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if b.load != nil {
		b.load.close()
	}
	if b.listener != nil {
		_ = b.listener.Close() // where nothing was served
	}
	_ = b.cluster.Stop(stop)
}

// exec runs statements that give nothing back.
func (b *bed) exec(ctx context.Context, sql ...string) error {
	conn, err := pgx.Connect(ctx, b.url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range sql {
		if _, err := conn.Exec(ctx, s); err != nil {
			return fmt.Errorf("write benchmark rows: %w", err)
		}
	}
	return nil
}
