package fanout

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/rowtide/rowtide/authz"
)

// An Authenticator makes principals of what clients bring to a transport. Its errors are
// *schema.Error.
type Authenticator interface {
	Verify(token string) (*authz.Principal, error)
	Anonymous() (*authz.Principal, error)
}

// Origins are those whose pages may connect: scheme, host and port, compared whole.
type Origins []string

// Allow tells whether a page of the request's origin may connect. Pages of this machine, and
// those that the service serves under an IP address, always may. A browser always sends an
// origin where it matters; whoever sends none is no page of another site, and brings no ambient
// credentials since none are taken.
func (o Origins) Allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 {
		return true
	}
	if len(values) > 1 {
		return false
	}
	return slices.Contains(o, values[0]) || ownPage(values[0], r.Host)
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
	_, err = netip.ParseAddr(strings.Trim(name, "[]"))
	return err == nil || name == "localhost"
}

// TokenInURL tells of a token in a query string, under the names that people give it: it would
// end in logs. It reads the query as it was sent, since one that cannot be parsed is logged all
// the same. What harmless tells of, where it is not nil, is no such token.
func TokenInURL(rawQuery string, harmless func(value string) bool) bool {
	for _, pair := range strings.FieldsFunc(rawQuery, func(c rune) bool { return c == '&' || c == ';' }) {
		key, value, _ := strings.Cut(pair, "=")
		switch strings.ToLower(key) {
		case "token", "access_token", "accesstoken", "authorization", "auth", "jwt", "bearer", "id_token", "api_key", "apikey":
			if harmless == nil || !harmless(value) {
				return true
			}
		}
	}
	return false
}

// Bearer gives the token of an Authorization value, with or without its scheme.
func Bearer(value string) string {
	value = strings.TrimSpace(value)
	if scheme, rest, ok := strings.Cut(value, " "); ok && strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(rest)
	}
	return value
}
