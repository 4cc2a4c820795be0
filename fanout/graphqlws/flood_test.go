package graphqlws_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/rowtide/rowtide/authz"
	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/fanout/graphqlws"
)

// Opcodes and bits of RFC 6455, 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opPing         = 0x9
	opPong         = 0xA
	fin            = 0x80
	masked         = 0x80
)

// A raw is a client that sends frames as they are, however wrong.
type raw struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// An answer is what the service said to an upgrade.
type answer struct {
	status int
	header http.Header
}

func (p *place) raw(headers ...string) (*raw, answer) {
	p.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(p.t.Context(), "tcp", strings.TrimPrefix(p.url, "ws://"))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	_, err = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"+
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n"+strings.Join(append(headers, ""), "\r\n")+"\r\n")
	if err != nil {
		p.t.Fatal(err)
	}
	r := &raw{t: p.t, conn: conn, r: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(r.r, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp.Body.Close()
	return r, answer{resp.StatusCode, resp.Header}
}

// frame is a client's frame, masked with zeros.
func frame(first byte, payload string) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, masked|byte(n))
	case n <= 0xFFFF:
		out = binary.BigEndian.AppendUint16(append(out, masked|126), uint16(n))
	default:
		out = binary.BigEndian.AppendUint64(append(out, masked|127), uint64(n))
	}
	return append(append(out, 0, 0, 0, 0), payload...)
}

// read gives the next frame's opcode and payload; those of the service are no longer than 64 KiB here, and
// not masked.
func (r *raw) read() (opcode byte, payload string, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r.r, head); err != nil {
		return 0, "", err
	}
	size := int(head[1])
	if size == 126 {
		var long [2]byte
		if _, err := io.ReadFull(r.r, long[:]); err != nil {
			return 0, "", err
		}
		size = int(binary.BigEndian.Uint16(long[:]))
	}
	body := make([]byte, size)
	_, err = io.ReadFull(r.r, body)
	return head[0] &^ fin, string(body), err
}

func (r *raw) init() {
	r.t.Helper()
	r.send(frame(fin|opText, `{"type":"connection_init","payload":{"authorization":"Bearer good"}}`))
	if _, text, err := r.read(); err != nil || text != `{"type":"connection_ack"}` {
		r.t.Fatalf("%s, %v", text, err)
	}
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.conn.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// gone tells that a connection ended otherwise than by the test's patience.
func gone(err error) bool {
	var timeout net.Error
	return err != nil && (!errors.As(err, &timeout) || !timeout.Timeout())
}

// What a client sends is the same however it comes: byte by byte, in fragments with pings between
// them, or much at once.
func TestMessagesAreReadHoweverTheyArrive(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	var sent []byte
	for _, f := range [][]byte{
		frame(opText, `{"type":"connection_init",`), frame(fin|opPing, "a"), frame(opContinuation, ""),
		frame(fin|opContinuation, `"payload":{"authorization":"Bearer good"}}`),
		frame(fin|opPing, "b"), frame(fin|opPong, "nobody asked"), frame(fin|opText, `{"type":"ping"}`),
		frame(fin|opText, `{"type":"ping","payload":{"x":"`+strings.Repeat("x", 60)+`"}}`), frame(fin|opPing, ""),
	} {
		sent = append(sent, f...)
	}
	want := []string{"a", `{"type":"connection_ack"}`, "b", `{"type":"pong"}`, `{"type":"pong","payload":{"x":"` + strings.Repeat("x", 60) + `"}}`, ""}
	for _, size := range []int{1, 2, 5, 16, 64, 65, len(sent)} {
		r, _ := p.raw()
		go func() {
			for b := range slices.Chunk(sent, size) {
				_, _ = r.conn.Write(b)
			}
		}()
		for _, w := range want {
			if _, got, err := r.read(); err != nil || got != w {
				t.Fatalf("%d bytes at a time: got %q, %v, want %q", size, got, err, w)
			}
		}
	}
}

// Covers S10.
func TestAMessageOfEmptyFramesIsReadSlowlyAndCutOff(t *testing.T) {
	t.Parallel()
	const perSecond = 20_000
	p := open(t, graphqlws.Config{
		ReadTimeout: 2 * time.Second, PingInterval: time.Hour, Limiter: authz.NewLimiter(authz.Limits{authz.Received: {authz.PerConnection: perSecond}}),
	}, fanout.Limits{})
	r, _ := p.raw()
	r.init()
	r.send(frame(opText, `{"type":"ping"`))
	sent, err := 0, error(nil)
	empty := bytes.Repeat(frame(opContinuation, ""), 1000)
	began := time.Now()
	for err == nil {
		var n int
		n, err = r.conn.Write(empty)
		sent += n
	}
	if !gone(err) {
		t.Fatalf("the flood was never ended: %v", err)
	}
	eventually(t, "the connection is gone", func() bool { return p.handler.Connections() == 0 })
	// What the two kernels hold besides is theirs.
	const kernels = 16 << 20
	if most := perSecond*(5+int(time.Since(began).Seconds())) + kernels; sent > most {
		t.Errorf("%d bytes were taken in %v, want at most %d", sent, time.Since(began), most)
	}
}

// Covers S10.
func TestBytesAreReadAtTheirRateOnly(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{Limiter: authz.NewLimiter(authz.Limits{authz.Received: {authz.PerConnection: 20_000}})}, fanout.Limits{})
	s := p.connect()
	began := time.Now()
	go func() {
		for range 3 {
			ctx, cancel := s.wait()
			_ = s.ws.Write(ctx, websocket.MessageText, []byte(`{"type":"ping","payload":{"x":"`+strings.Repeat("x", 50_000)+`"}}`))
			cancel()
		}
	}()
	for range 3 {
		if _, err := s.read(); err != nil {
			t.Fatal(err)
		}
	}
	// 150,000 bytes, of which five seconds' worth may come at once; the last of them waits.
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("150,000 bytes were read in %v, with 20,000 a second", took)
	}
}

// Covers S10.
func TestAMessageThatComesByteByByteIsCutOff(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{ReadTimeout: 300 * time.Millisecond}, fanout.Limits{})
	r, _ := p.raw()
	r.init()
	text := `{"type":"ping"}`
	r.send(frame(fin|opText, text)[:8]) // its header, and two bytes of it
	if _, _, err := r.read(); !gone(err) {
		t.Errorf("half a message, and a minute later: %v", err)
	}
	honest := p.connect()
	honest.send(text)
	honest.expect(`{"type":"pong"}`)
}

// Covers S14.
func TestPingsAreAnsweredAtARateOnly(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	r, _ := p.raw()
	r.init()
	const sent = 500
	began := time.Now()
	r.send(bytes.Repeat(frame(fin|opPing, "x"), sent))
	r.send(frame(fin|opText, `{"type":"ping","payload":{"last":true}}`))
	pongs := 0
	for {
		opcode, text, err := r.read()
		if err != nil {
			t.Fatal(err)
		}
		if opcode != opPong {
			if text != `{"type":"pong","payload":{"last":true}}` {
				t.Errorf("got %s", text)
			}
			break
		}
		pongs++
	}
	if most := 60 + int(10*time.Since(began).Seconds()); pongs == 0 || pongs > most {
		t.Errorf("%d of %d pings were answered in %v, want some, and at most %d", pongs, sent, time.Since(began), most)
	}
}

// Covers S14.
func TestAFloodOfPingsIsCutOff(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{PingInterval: time.Hour}, fanout.Limits{})
	r, _ := p.raw()
	r.init()
	go func() {
		for {
			if _, err := r.conn.Write(bytes.Repeat(frame(fin|opPing, ""), 100)); err != nil {
				return
			}
		}
	}()
	for {
		if _, _, err := r.read(); gone(err) {
			return
		} else if err != nil {
			t.Fatalf("the flood was never ended: %v", err)
		}
	}
}

// TestControlFramesWaitForTheirTurn sends pings, and pongs that nobody asked for, before a message,
// and has them cost what as many messages would.
//
// Covers S14.
func TestControlFramesWaitForTheirTurn(t *testing.T) {
	t.Parallel()
	for _, opcode := range []byte{opPing, opPong} {
		p := open(t, graphqlws.Config{PingInterval: time.Hour, Limiter: authz.NewLimiter(authz.Limits{authz.Messages: {authz.PerConnection: 100}})}, fanout.Limits{})
		r, _ := p.raw()
		r.init()
		began := time.Now()
		r.send(bytes.Repeat(frame(fin|opcode, ""), 300))
		r.send(frame(fin|opText, `{"type":"ping"}`))
		for {
			got, text, err := r.read()
			if err != nil {
				t.Fatal(err)
			}
			if got == opText && strings.Contains(text, "pong") {
				break
			}
		}
		if took := time.Since(began); took < 1500*time.Millisecond {
			t.Errorf("300 frames of kind %x were read in %v, with 100 messages a second and 100 at once", opcode, took)
		}
	}
}

// Covers S69, S10.
func TestNothingIsCompressed(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{}, fanout.Limits{})
	r, resp := p.raw("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits")
	if e := resp.header.Get("Sec-WebSocket-Extensions"); resp.status != http.StatusSwitchingProtocols || e != "" {
		t.Fatalf("%d, extensions %q: want none", resp.status, e)
	}
	r.send(frame(fin|0x40|opText, "\xaa\x56\x2a\xa9")) // RSV1: compressed all the same
	for {
		opcode, text, err := r.read()
		if gone(err) {
			return
		}
		if err != nil || opcode != 0x8 || binary.BigEndian.Uint16([]byte(text)) != 1002 {
			t.Fatalf("opcode %d %q, %v: want a protocol error", opcode, text, err)
		}
	}
}

// Covers S11.
func TestTheLimiterRefusesBeforeTheUpgradeWhereRatesAreOver(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{
		Limiter: authz.NewLimiter(authz.Limits{authz.Connects: {authz.PerAddress: 1}, authz.Subscriptions: {authz.PerPrincipal: 1}, authz.Operations: {authz.PerConnection: 1}}),
		Proxies: proxies(t, "127.0.0.0/8"),
	}, fanout.Limits{})
	from := "X-Forwarded-For: 198.51.100.9, 203.0.113.7"
	for range 5 {
		if _, resp := p.raw(from); resp.status != http.StatusSwitchingProtocols {
			t.Fatalf("status %d", resp.status)
		}
	}
	_, resp := p.raw(from)
	if resp.status != http.StatusTooManyRequests || resp.header.Get("Retry-After") != "1" {
		t.Errorf("%d, Retry-After %q: want 429 and 1", resp.status, resp.header.Get("Retry-After"))
	}
	// What a client puts into the header itself makes nobody of it.
	if _, resp := p.raw("X-Forwarded-For: 192.0.2.55, 203.0.113.7"); resp.status != http.StatusTooManyRequests {
		t.Errorf("with a forged hop: %d", resp.status)
	}
	if _, resp := p.raw("X-Forwarded-For: 203.0.113.8"); resp.status != http.StatusSwitchingProtocols {
		t.Errorf("another address: %d", resp.status)
	}
	s := p.connect()
	for range 5 {
		s.send(`{"id":"q","type":"subscribe","payload":{"query":"{ rowtide { version } }"}}`)
		if _, err := s.read(); err != nil {
			t.Fatal(err)
		}
		s.expect(`{"id":"q","type":"complete"}`)
	}
	s.send(`{"id":"q","type":"subscribe","payload":{"query":"{ rowtide { version } }"}}`)
	s.expect(`{"id":"q","type":"error","payload":[{"message":"too many operations a second for this connection: come back in 1 s","extensions":{"code":"RATE_LIMITED","retryAfter":1}}]}`)
}

// A client that has much to read gets to pings late, and is no dead one. When nothing is sent any more
// it has to answer.
//
// Covers S14.
func TestAClientThatIsSentFramesMayAnswerPingsLate(t *testing.T) {
	t.Parallel()
	p := open(t, graphqlws.Config{PingInterval: time.Second}, fanout.Limits{})
	r, _ := p.raw()
	r.init()
	r.send(frame(fin|opText, subscribeTo("a", "")))
	for pings := 0; pings < 3; { // the second comes when the first should have been answered
		opcode, _, err := r.read()
		switch {
		case err != nil:
			t.Fatalf("behind %d pings: %v", pings, err)
		case opcode == opPing:
			pings++
		default:
			p.write(1)
		}
	}
	for {
		if _, _, err := r.read(); err != nil {
			if !gone(err) {
				t.Errorf("the connection is still there: %v", err)
			}
			return
		}
	}
}
