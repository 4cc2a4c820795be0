package rowtide

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
)

// AdminHandler serves /metrics, /healthz, /readyz and the admin API: GET /connections, DELETE
// /connections/{id} and /subscriptions/{id}, GET and POST /revocations, POST /reload. It is for
// operators: mount it where clients do not reach it. With Config.AdminToken callers must bring
// that, but to the probes.
func (s *Server) AdminHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics())
	mux.HandleFunc("GET /connections", s.listConnections)
	mux.HandleFunc("DELETE /connections/{id}", s.closeConnection)
	mux.HandleFunc("DELETE /subscriptions/{id}", s.closeSubscription)
	mux.HandleFunc("GET /revocations", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{"revocations": s.guard.revoked.List()})
	})
	mux.HandleFunc("POST /revocations", s.revoke)
	mux.HandleFunc("POST /reload", s.reload)
	open := http.NewServeMux()
	open.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	open.HandleFunc("GET /readyz", s.serveReady)
	open.Handle("/", s.onlyOperators(mux))
	return open
}

// ServeAdmin serves AdminHandler at a listener, which it closes, until ctx ends. Off this machine
// it wants an AdminToken.
func (s *Server) ServeAdmin(ctx context.Context, l net.Listener) error {
	if err := s.checkAdmin(l); err != nil {
		_ = l.Close()
		return err
	}
	names := newHosts(s.cfg.AllowHosts, nil)
	names.listed.Store(loopbackAddr(l.Addr().String()) || len(s.cfg.AllowHosts) > 0)
	return s.serveHTTP(ctx, l, names.only(s.AdminHandler()), func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
}

// onlyOperators wants the token where there is one. Pages have no business here: a browser sends
// an Origin with whatever changes something.
func (s *Server) onlyOperators(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Header.Get("Origin") != "" {
			http.Error(w, "the admin API is not for pages", http.StatusForbidden)
			return
		}
		if want := s.cfg.AdminToken; want != "" {
			a, b := sha256.Sum256([]byte(fanout.Bearer(r.Header.Get("Authorization")))), sha256.Sum256([]byte(want))
			if subtle.ConstantTimeCompare(a[:], b[:]) != 1 {
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "send the admin token: Authorization: Bearer …", http.StatusUnauthorized)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // to a client that is gone
}

// dispatcher gives that of the moment, or answers that there is none.
func (s *Server) dispatcher(w http.ResponseWriter) *fanout.Dispatcher {
	p := s.pipeline.Load()
	if p == nil {
		http.Error(w, "the service is starting or stopping", http.StatusServiceUnavailable)
		return nil
	}
	return p.dispatcher
}

func (s *Server) listConnections(w http.ResponseWriter, _ *http.Request) {
	if d := s.dispatcher(w); d != nil {
		writeJSON(w, http.StatusOK, map[string]any{"connections": d.Sessions()})
	}
}

func (s *Server) closeConnection(w http.ResponseWriter, r *http.Request) {
	s.closeOne(w, r, "connection", func(d *fanout.Dispatcher, id uint64) bool { //nolint:contextcheck // likewise
		return d.EndSessions(fanout.ErrKicked, func(n uint64, _ *authz.Principal) bool { return n == id }) > 0
	})
}

func (s *Server) closeSubscription(w http.ResponseWriter, r *http.Request) {
	s.closeOne(w, r, "subscription", func(d *fanout.Dispatcher, id uint64) bool { return d.EndSubscription(id, fanout.ErrKicked) }) //nolint:contextcheck // likewise
}

func (s *Server) closeOne(w http.ResponseWriter, r *http.Request, what string, end func(*fanout.Dispatcher, uint64) bool) {
	d := s.dispatcher(w)
	if d == nil {
		return
	}
	id, err := strconv.ParseUint(r.PathValue("id"), 10, 64)
	if err != nil || !end(d, id) {
		http.Error(w, "there is no such "+what, http.StatusNotFound)
		return
	}
	s.guard.audit.Record(authz.Record{Event: authz.EventRevoke, Reason: what + "_closed"})
	w.WriteHeader(http.StatusNoContent)
}

// maxAdminBody is more than any request to the admin API has.
const maxAdminBody = 4 << 10

// revoke revokes a token or a subject, and ends what is there of it before it answers. It is kept
// for other processes, and those to come, before that too, or else as soon as Postgres takes it.
func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	var what authz.Revocation
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&what); err != nil {
		http.Error(w, `send {"subject": "…"} or {"jti": "…"}, and if you like {"expires": "2030-01-02T15:04:05Z"}`, http.StatusBadRequest)
		return
	}
	what.At = time.Now()
	if err := s.guard.revoked.Add(what); err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	ended, kept := 0, false
	if p := s.pipeline.Load(); p != nil {
		ended = p.endRevoked()
		kept = p.keepRevoked(r.Context())
	}
	s.guard.audit.Record(authz.Record{Event: authz.EventRevoke, Subject: what.Subject, Reason: "revoked", Count: ended}) //nolint:contextcheck // a record outlives the request
	writeJSON(w, http.StatusOK, map[string]any{"ended": ended, "kept": kept})
}

// reload reads anew what else would be at its time: catalog, certificate.
func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	s.guard.certs.reload()
	p := s.pipeline.Load()
	if p == nil {
		http.Error(w, "the service is starting or stopping", http.StatusServiceUnavailable)
		return
	}
	if err := p.renew(r.Context()); err != nil {
		s.log.Error("catalog cannot be read", "error", err)
		http.Error(w, "the catalog cannot be read: the log says why", http.StatusBadGateway)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// metrics answers Prometheus, within a time.
func (s *Server) metrics() http.Handler {
	r := prometheus.NewRegistry()
	err := errors.Join(r.Register(collectors.NewGoCollector()), r.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})), r.Register(&meters{s: s}))
	if err != nil {
		panic(err) // none of them is there yet
	}
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second, ErrorHandling: promhttp.ContinueOnError})
}
