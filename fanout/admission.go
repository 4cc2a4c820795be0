package fanout

import (
	"net"
	"net/http"
	"net/netip"
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

// Origins are those whose pages may connect: scheme, host and port.
type Origins []string

// Allow tells whether a page of the request's origin may connect. Origins are compared whole, byte
// by byte: browsers write them in one way only (RFC 6454, 6.2), and a pattern is where holes are.
// The Host header is not asked, since a name in it may be anybody's. A browser sends an origin
// where it matters; whoever sends none is no page of another site, and brings no ambient
// credentials since none are taken.
func (o Origins) Allow(r *http.Request) bool {
	sent := r.Header.Values("Origin")
	switch len(sent) {
	case 0:
		return true
	case 1:
		return sent[0] != "" && sent[0] != "null" && slices.Contains(o, sent[0])
	}
	return false
}

// Proxies are the networks of proxies that are believed about where a request comes from.
type Proxies []netip.Prefix

// Client gives the address that a request comes from: the last one in X-Forwarded-For that is no
// trusted proxy's, as long as trusted proxies say so. Whatever a client writes in that header
// itself stands before what the first trusted proxy adds. It is "" where there is no address.
func (p Proxies) Client(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return ""
	}
	at := host
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.trusts(at); i-- {
		hop := strings.TrimSpace(hops[i])
		if _, err := netip.ParseAddr(hop); err != nil {
			break // empty, or nothing that tells one client from another
		}
		at = hop
	}
	return at
}

func (p Proxies) trusts(address string) bool {
	a, err := netip.ParseAddr(address)
	return err == nil && slices.ContainsFunc(p, func(n netip.Prefix) bool { return n.Contains(a.Unmap()) })
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

// Deeper tells whether JSON nests deeper than a bound. It is asked before anything is decoded:
// encoding/json recurses. It reads brackets outside strings and nothing else.
func Deeper(data []byte, bound int) bool {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > bound {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
