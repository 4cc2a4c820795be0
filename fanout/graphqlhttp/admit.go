package graphqlhttp

import (
	"net/http"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

const allowedMethods = "GET, POST, PUT, DELETE, OPTIONS"

// admit holds a request to what is asked before it is read: its origin, and no token in its
// URL. It answers a page of an allowed origin that it may read the answer (CORS).
func (h *Handler) admit(w http.ResponseWriter, r *http.Request) *fault {
	w.Header().Add("Vary", "Origin")
	if !h.cfg.Origins.Allow(r) {
		return refusal(http.StatusForbidden, schema.Forbidden, "this origin may not connect: start the service with --allow-origin for it")
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		// No credentials are allowed: none that a browser sends by itself are taken.
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "Retry-After")
		if r.Method == http.MethodOptions {
			w.Header().Set("Access-Control-Allow-Methods", allowedMethods)
			w.Header().Set("Access-Control-Allow-Headers", "Authorization, *") // * does not stand for Authorization
			w.Header().Set("Access-Control-Max-Age", "600")
		}
	}
	if fanout.TokenInURL(r.URL.RawQuery, isStreamToken) {
		return badRequest("a token in the URL ends in logs: send it in the Authorization header")
	}
	return nil
}
