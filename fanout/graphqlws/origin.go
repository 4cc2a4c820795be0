package graphqlws

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
)

// originAllowed tells whether a page of the request's origin may connect. A browser always sends
// an origin; whoever sends none is no page, and brings no ambient credentials since none are
// taken.
func (h *Handler) originAllowed(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	return slices.Contains(h.cfg.Origins, values[0]) || ownPage(values[0], r.Host)
}

// ownPage tells whether an origin is this service itself under a name that nobody else can
// point here: an address, or localhost. Any other name could be an attacker's, rebound to us.
func ownPage(origin, host string) bool {
	u, err := url.Parse(origin)
	if err != nil || u.Host != host || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	_, err = netip.ParseAddr(name)
	return err == nil || name == "localhost"
}
