package graphqlws

import (
	"bufio"
	"net"
	"net/http"
	"slices"
	"strings"
)

// A refusal answers a request instead of an upgrade.
type refusal struct {
	status  int
	message string
}

// refuse tells why a request is not upgraded, or nil.
func (h *Handler) refuse(r *http.Request) *refusal {
	switch {
	case !allowed(h.cfg.Origins, r.Header.Values("Origin")):
		return &refusal{http.StatusForbidden, "the page's origin is not allowed: the server's --allow-origin lists those that are"}
	case tokenInQuery(r):
		return &refusal{http.StatusBadRequest, "tokens in the address end in logs: send it in the payload of connection_init"}
	case !offers(r.Header.Values("Sec-WebSocket-Protocol")):
		return &refusal{http.StatusBadRequest, "connect with the WebSocket subprotocol " + Subprotocol}
	}
	return nil
}

// allowed compares a whole origin, byte by byte: browsers write it in one way only (RFC 6454,
// 6.2), and a pattern is where holes are.
func allowed(origins, sent []string) bool {
	switch len(sent) {
	case 0:
		return true
	case 1:
		return sent[0] != "" && sent[0] != "null" && slices.Contains(origins, sent[0])
	}
	return false
}

// tokenInQuery tells whether the address carries what looks like a token. It reads the raw query
// too, since a query that cannot be parsed is logged all the same.
func tokenInQuery(r *http.Request) bool {
	for _, pair := range strings.FieldsFunc(r.URL.RawQuery, func(c rune) bool { return c == '&' || c == ';' }) {
		key, _, _ := strings.Cut(pair, "=")
		switch strings.ToLower(key) {
		case "token", "access_token", "accesstoken", "authorization", "auth", "jwt", "bearer", "id_token", "api_key", "apikey":
			return true
		}
	}
	return false
}

// offers tells whether the client offers the subprotocol, exactly.
func offers(headers []string) bool {
	for _, h := range headers {
		for p := range strings.SplitSeq(h, ",") {
			if strings.TrimSpace(p) == Subprotocol {
				return true
			}
		}
	}
	return false
}

// A grabber keeps the network connection below a WebSocket: the one way to cut off a client
// that neither reads nor answers.
type grabber struct {
	http.ResponseWriter
	c *conn
}

// Hijack is http.Hijacker's.
func (g *grabber) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	n, rw, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err == nil {
		g.c.grab(n)
	}
	return n, rw, err
}
