package demo

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/testcontainers"
)

// Config says how to run the demo.
type Config struct {
	// Listen is the address to serve at; where it is taken and Fallback is set, any free port
	// of this machine is used.
	Listen   string
	Fallback bool
	// Every is the time between two writes. Defaults to half a second.
	Every time.Duration
	// Postgres says where its PostgreSQL comes from.
	Postgres PostgresConfig
	// Out gets what people should read. Logger gets the service's log.
	Out    io.Writer
	Logger *slog.Logger
}

// tokenLife is longer than anybody looks at a demo.
const tokenLife = 12 * time.Hour

// Run shows Rowtide at work until ctx ends, and then removes all that it made.
func Run(ctx context.Context, cfg Config) error {
	err := run(ctx, cfg)
	if ctx.Err() == nil {
		return err
	}
	// Whatever was under way was broken off by that.
	_, err = fmt.Fprintln(cfg.Out, "\nStopped; the private PostgreSQL is removed.")
	return err
}

func run(ctx context.Context, cfg Config) error {
	if cfg.Every == 0 {
		cfg.Every = 500 * time.Millisecond
	}
	listener, err := listen(ctx, cfg)
	if err != nil {
		return err
	}
	defer listener.Close()
	step := stepper(cfg.Out, 4)

	step("Starting a private PostgreSQL …")
	cluster, err := startPostgres(ctx, cfg.Postgres)
	if err != nil {
		return err
	}
	defer stop(ctx, cluster)
	url := cluster.URL(testcontainers.Superuser, "postgres")

	step("Loading the sample: teams, members, projects, tasks and comments, with row-level security …")
	if err := Load(ctx, url); err != nil {
		return err
	}

	step("Setting up: service login, publication, replica identity …")
	writer, err := NewWriter(ctx, url, cfg.Every)
	if err != nil {
		return err
	}
	defer writer.Close()
	secret := newSecret()
	server, err := rowtide.New(rowtide.Config{
		DatabaseURL: url, Dev: true, Roles: []string{Role}, JWTSecret: secret, AllowOrigins: origins(listener.Addr()), Logger: cfg.Logger,
	})
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return serve(gctx, listener, server, newHandler(writer, secret, server.Handler())) })
	g.Go(func() error { return writer.Run(gctx) })
	g.Go(func() error {
		if err := server.WaitReady(gctx); err != nil {
			return nil // the others say why
		}
		step("Serving, with a write every " + cfg.Every.String() + ".")
		return welcome(cfg.Out, listener.Addr().String(), url, secret)
	})
	return g.Wait()
}

// serve is Server.Serve with more paths than the service has.
func serve(ctx context.Context, l net.Listener, server *rowtide.Server, h http.Handler) error {
	web := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return errors.Join(server.Run(gctx), web.Close()) })
	g.Go(func() error {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// origins are the page's own, under the names of the address that is listened at.
func origins(a net.Addr) []string {
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return nil
	}
	return []string{"http://" + a.String(), "http://localhost:" + port, "http://127.0.0.1:" + port}
}

func listen(ctx context.Context, cfg Config) (net.Listener, error) {
	l, err := rowtide.Listen(ctx, cfg.Listen)
	if err != nil && cfg.Fallback {
		return rowtide.Listen(ctx, "127.0.0.1:0")
	}
	return l, err
}

func stop(ctx context.Context, c *testcontainers.Cluster) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = c.Stop(ctx) // what it cannot remove, its watchdog does
}

// stepper numbers the steps that it prints.
func stepper(w io.Writer, of int) func(string) {
	n := 0
	return func(text string) {
		n++
		_, _ = fmt.Fprintf(w, "[%d/%d] %s\n", n, of, text)
	}
}

func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its contract
	return hex.EncodeToString(b)
}

func welcome(w io.Writer, addr, url, secret string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n  Page       http://%s/   (open it in a browser)\n"+
		"  GraphQL    ws://%s/graphql   (subprotocol graphql-transport-ws)\n  Postgres   %s\n\n", addr, addr, url)
	var first string
	for _, u := range Users() {
		token, err := tokenOf(secret, u)
		if err != nil {
			return err
		}
		if first == "" {
			first = token
		}
		fmt.Fprintf(&b, "  Token of %s:\n%s\n\n", u, token)
	}
	fmt.Fprintf(&b, "Or follow ana's tasks from another terminal:\n\n  %s subscribe --url ws://%s/graphql --token %s \\\n"+
		"    'subscription { tasks(snapshot: true) { kind row { id teamId owner title state } old { title } } }'\n\n"+
		"and write something with psql:\n\n  psql %s -c \"UPDATE tasks SET title = title || '!'\"\n\nCtrl-C stops and removes it all.\n",
		program(), addr, first, url)
	_, err := io.WriteString(w, b.String())
	return err
}

// program is how the reader can call this program again.
func program() string {
	if strings.Contains(os.Args[0], "/") {
		if wd, err := os.Getwd(); err == nil {
			if abs, err := filepath.Abs(os.Args[0]); err == nil {
				if rel, err := filepath.Rel(wd, abs); err == nil && !strings.HasPrefix(rel, "..") {
					return "./" + rel
				}
			}
		}
	}
	return os.Args[0]
}
