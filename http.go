package rowtide

import (
	"encoding/json"
	"net/http"
	"strings"

	"github.com/rowtide/rowtide/console"
)

// routes are the paths of Handler.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("/graphql", s.serveGraphQL)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("GET /readyz", s.serveReady)
	mux.Handle("/", console.Handler())
	return mux
}

// serveGraphQL hands WebSockets, and all else, to the pipeline of the moment.
func (s *Server) serveGraphQL(w http.ResponseWriter, r *http.Request) {
	p := s.pipeline.Load()
	switch {
	case p == nil:
		w.Header().Set("Retry-After", "1")
		http.Error(w, "not ready: the service is starting or stopping", http.StatusServiceUnavailable)
	case strings.EqualFold(r.Header.Get("Upgrade"), "websocket"):
		p.sockets.ServeHTTP(w, r)
	default:
		p.requests.ServeHTTP(w, r)
	}
}

// serveReady answers 200 when changes flow, else 503 with the reasons.
func (s *Server) serveReady(w http.ResponseWriter, _ *http.Request) {
	reasons := []string{"the service is starting or stopping"}
	if p := s.pipeline.Load(); p != nil {
		reasons = p.unready()
	}
	w.Header().Set("Content-Type", "application/json")
	if len(reasons) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"ready": len(reasons) == 0, "reasons": reasons})
}
