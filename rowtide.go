// Package rowtide serves the changes of a Postgres database as GraphQL subscriptions.
//
// The contract: what a role can SELECT is what it can subscribe to. For each committed
// transaction, in commit order, a subscription receives exactly the difference between what its
// SELECT (same role, same claims, same where) would have returned just before and just after
// that transaction. Nothing is lost in silence: a change is delivered, or the subscription is
// told to resync and why.
//
// This package wires the parts for programs that embed the service; command rowtide is one of
// them. A Server runs until its context ends:
//
//	s, err := rowtide.New(rowtide.Config{DatabaseURL: url, Roles: []string{"web_user"}, JWTSecret: secret})
//	...
//	http.Handle("/", s.Handler())
//	err = s.Run(ctx)
package rowtide

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// Version is the version of this build.
const Version = "0.1.0-dev"

// A Server is the service: a pipeline from the WAL to subscribers, and an HTTP handler.
type Server struct {
	cfg   Config
	log   *slog.Logger
	guard *guard
	mux   *http.ServeMux
	ready chan struct{} // closed when the pipeline first serves

	readyOnce sync.Once
	pipeline  atomic.Pointer[pipeline] // nil until there is one
}

// New checks a configuration and makes a Server of it. It does not connect.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.DatabaseURL, cfg.AdminURL = onPrimary(cfg.DatabaseURL), onPrimary(cfg.AdminURL)
	if cfg.Dev && cfg.JWTSecret == "" {
		cfg.JWTSecret = NewSecret()
	}
	g, err := newGuard(cfg)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, log: cfg.Logger, guard: g, ready: make(chan struct{})}
	s.mux = s.routes()
	return s, nil
}

// Run connects, serves the handler's clients and returns when ctx has ended and everything that
// it started has stopped, or with what made going on impossible. When ctx ends it drains first:
// queued frames are sent, sockets closed with 1012, and what was handed on is acknowledged.
func (s *Server) Run(ctx context.Context) error {
	audit, stop := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { s.guard.runAudit(audit) })
	defer wg.Wait()
	defer stop() // behind everything that has something to record
	p, err := s.opened(ctx)
	if err != nil && ctx.Err() != nil {
		return nil // it was told to stop before it had begun
	}
	if err != nil {
		return err
	}
	defer p.close() //nolint:contextcheck // closing outlives what it closes
	defer s.pipeline.Store(nil)
	return p.run(ctx, func() {
		s.pipeline.Store(p)
		s.readyOnce.Do(func() { close(s.ready) })
		s.log.Info("ready for clients")
	})
}

// WaitReady waits until the service first serves clients.
func (s *Server) WaitReady(ctx context.Context) error {
	select {
	case <-s.ready:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// devTokenLife is a working day.
const devTokenLife = 12 * time.Hour

// DevTokens gives a token for each served role, by role. It waits until the service is ready,
// and is for Config.Dev alone.
func (s *Server) DevTokens(ctx context.Context) (map[string]string, error) {
	if !s.cfg.Dev {
		return nil, errors.New("tokens are given away with --dev only")
	}
	if err := s.WaitReady(ctx); err != nil {
		return nil, err
	}
	p := s.pipeline.Load()
	if p == nil {
		return nil, errors.New("the service has stopped")
	}
	tokens := map[string]string{}
	for _, role := range p.cfg.roles() {
		token, err := Token(p.cfg, role, nil, devTokenLife)
		if err != nil {
			return nil, err
		}
		tokens[role] = token
	}
	return tokens, nil
}

// Handler serves the page at /, /graphql, /healthz and /readyz. It may be mounted below a prefix
// with http.StripPrefix.
func (s *Server) Handler() http.Handler { return s.guard.hosts.only(s.mux) }

// ListenAndServe runs the service and serves its handler at an address.
func (s *Server) ListenAndServe(ctx context.Context, addr string) error {
	l, err := Listen(ctx, addr)
	if err != nil {
		return err
	}
	return s.Serve(ctx, l)
}

// Limits on HTTP before a socket is upgraded: they bound what a stranger can hold.
const (
	readHeaderTimeout = 10 * time.Second
	maxHeaderBytes    = 64 << 10
	idleTimeout       = 2 * time.Minute
	bodyTimeout       = 15 * time.Second
)

// bounded gives a body a time to come. Without one a request that is refused before its body was
// read is never over: net/http waits for the body before it answers.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
		}
		next.ServeHTTP(w, r)
	})
}

// Serve is ListenAndServe on a listener, which it closes.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	scheme := "https"
	if s.guard.certs == nil {
		scheme = "http"
	}
	if local := loopbackAddr(l.Addr().String()); local {
		s.guard.hosts.listed.Store(true)
	} else if scheme == "http" {
		s.log.Warn("clients reach this address without TLS: set --tls-cert and --tls-key, or put a proxy that has it in front", "listen", l.Addr().String())
	}
	s.cfg.AllowOrigins = append(slices.Clone(s.cfg.AllowOrigins), ownOrigins(scheme, l.Addr())...)
	return s.serveHTTP(ctx, l, s.Handler(), s.Run)
}

// serveHTTP serves a handler at a listener, with TLS where there is a certificate, as long as run
// does.
func (s *Server) serveHTTP(ctx context.Context, l net.Listener, handler http.Handler, run func(context.Context) error) error {
	h := &http.Server{
		Handler: bounded(handler), ReadHeaderTimeout: readHeaderTimeout, MaxHeaderBytes: maxHeaderBytes, IdleTimeout: idleTimeout,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), TLSConfig: s.guard.tls(),
	}
	serve := func() error { return h.Serve(l) }
	if h.TLSConfig != nil {
		serve = func() error { return h.ServeTLS(l, "", "") }
	}
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		// Run drains the sockets, which http.Server does not know; then the rest may go.
		err := run(gctx)
		return errors.Join(err, h.Close())
	})
	g.Go(func() error {
		if err := serve(); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve http: %w", err)
		}
		return nil
	})
	return g.Wait()
}

// ownOrigins are those of the page at /, where it is opened at the address that is listened at:
// what the Host header says is not asked, since a name in it may be anybody's. A page behind a
// proxy has the proxy's name, which has to be allowed like any other.
func ownOrigins(scheme string, a net.Addr) []string {
	addr, err := netip.ParseAddrPort(a.String())
	if err != nil || addr.Addr().IsUnspecified() {
		return nil
	}
	origins := []string{scheme + "://" + addr.String()}
	if addr.Addr().IsLoopback() {
		origins = append(origins, fmt.Sprintf("%s://localhost:%d", scheme, addr.Port()))
	}
	return origins
}
