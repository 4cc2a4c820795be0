package rowtide

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
)

// hosts are the names under which the service may be asked for. A page of evil.example whose name
// server answers 127.0.0.1 is, to a browser, of the same origin as what listens there: the Host
// header is the only thing that tells (DNS rebinding). An address cannot be rebound.
type hosts struct {
	names []string
	any   bool
	// listed tells that names must be listed: the service listens on this machine alone, or
	// somebody has listed some.
	listed atomic.Bool
}

func newHosts(names, origins []string) *hosts {
	h := &hosts{any: slices.Contains(names, "*"), names: []string{"localhost"}}
	for _, n := range names {
		h.names = append(h.names, strings.ToLower(n))
	}
	for _, o := range origins {
		if u, err := url.Parse(o); err == nil {
			h.names = append(h.names, strings.ToLower(u.Hostname()))
		}
	}
	h.listed.Store(len(names) > 0)
	return h
}

func (h *hosts) allow(r *http.Request) bool {
	if h.any || !h.listed.Load() {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	return slices.Contains(h.names, host)
}

// only lets requests pass that name an allowed host. Probes are for everybody.
func (h *hosts) only(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !h.allow(r) && r.URL.Path != "/healthz" && r.URL.Path != "/readyz" {
			http.Error(w, "this host name is not allowed: the server's --allow-host lists those that are", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}
