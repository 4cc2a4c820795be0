package graphqlws

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"

	"github.com/rowtide/rowtide/fanout"
)

// A refusal answers a request instead of an upgrade.
type refusal struct {
	status          int
	reason, message string
}

// refuse tells why a request is not upgraded, or nil.
func (h *Handler) refuse(r *http.Request) *refusal {
	switch {
	case !fanout.Origins(h.cfg.Origins).Allow(r):
		return &refusal{http.StatusForbidden, "origin", "the page's origin is not allowed: the server's --allow-origin lists those that are"}
	case fanout.TokenInURL(r.URL.RawQuery, nil):
		return &refusal{http.StatusBadRequest, "token_in_url", "tokens in the address end in logs: send it in the payload of connection_init"}
	case !offers(r.Header.Values("Sec-WebSocket-Protocol")):
		return &refusal{http.StatusBadRequest, "subprotocol", "connect with the WebSocket subprotocol " + Subprotocol}
	}
	return nil
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

// The library's buffers: the usual control frame fits the one for writing, and what does not fit
// is written and read past them. Ten thousand idle connections have them.
const (
	writeBuffer = 16
	readBuffer  = 64
)

// WriteHeaderNow is of gin's writer, which keeps headers back until it is called: Accept looks
// for it.
func (g *grabber) WriteHeaderNow() {
	if w, ok := g.ResponseWriter.(interface{ WriteHeaderNow() }); ok {
		w.WriteHeaderNow()
	}
}

// unanswered is for how many intervals of pings a client's system may acknowledge nothing of what it
// is sent.
const unanswered = 2

// Hijack is http.Hijacker's.
func (g *grabber) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	n, rw, err := http.NewResponseController(g.ResponseWriter).Hijack()
	if err != nil {
		return n, rw, err
	}
	early, err := rw.Peek(rw.Reader.Buffered())
	if err != nil {
		return n, rw, err
	}
	b := &below{
		Conn: n, client: g.c.client, within: g.c.h.cfg.WriteTimeout, gone: make(chan struct{}),
		inbound: inbound{over: &g.c.over, raw: rests(n), early: bytes.Clone(early), woken: len(early) > 0},
	}
	g.c.grab(b)
	boundUnanswered(n, unanswered*g.c.h.cfg.PingInterval)
	return b, bufio.NewReadWriter(bufio.NewReaderSize(b, readBuffer), bufio.NewWriterSize(b, writeBuffer)), nil
}
