package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// A socket is a WebSocket client that costs next to nothing: it takes frames apart where they
// were read, and looks for the few things that it checks.
type socket struct {
	c      *clients
	number int
	sparse bool
	bare   bool
	query  string
	conn   net.Conn
	// last is the id of the last row of each subscription; id "1" is the first.
	last []int64
	// before is how many rows must come before LIVE, on all subscriptions, and came how many have.
	before, came int
	latency      histogram
	closed       atomic.Bool

	mu sync.Mutex // of writing, and of what follows
	// churning is how many times are left to subscribe and complete; id the operation's.
	churning, id int
}

// The messages of graphql-transport-ws that a socket looks for. What the service sends of an
// operation begins with its id.
var (
	idMark    = []byte(`{"id":"`)
	nextMark  = []byte(`"type":"next"`)
	ackMark   = []byte(`{"type":"connection_ack"`)
	rowMark   = []byte(`"row":`)
	nullMark  = []byte("null")
	resetMark = []byte(`"RESET"`)
	rowID     = []byte(`{"id":"`)
	sentMark  = []byte(`"sent":"`)
)

const handshake = "GET /graphql HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n"

func (s *socket) open(ctx context.Context, o order) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", o.Address)
	if err != nil {
		return err
	}
	s.conn, s.bare, s.query, s.before = conn, o.Bare, o.Query, o.Rows*o.PerSocket
	s.last = make([]int64, max(o.PerSocket, 1))
	if _, err := fmt.Fprintf(conn, handshake, o.Address); err != nil {
		return err
	}
	buf := make([]byte, 0, 2048)
	end := -1
	for end < 0 {
		n, err := conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return fmt.Errorf("upgrade: %w", err)
		}
		buf = buf[:len(buf)+n]
		end = bytes.Index(buf, []byte("\r\n\r\n"))
	}
	if !bytes.HasPrefix(buf, []byte("HTTP/1.1 101")) {
		return fmt.Errorf("upgrade: the server answered %.100q", buf)
	}
	if s.bare {
		s.c.live.Add(int64(o.PerSocket))
	} else if err := s.hello(o); err != nil {
		return err
	}
	rest := append(make([]byte, 0, 4096), buf[end+4:]...)
	go s.read(rest)
	return nil
}

func (s *socket) hello(o order) error {
	t, err := token(o.Subject, s.number)
	if err != nil {
		return err
	}
	if err := s.send(map[string]any{"type": "connection_init", "payload": map[string]string{"authorization": "Bearer " + t}}); err != nil {
		return err
	}
	for sub := range o.PerSocket {
		if err := s.subscribe(strconv.Itoa(sub+1), sub); err != nil {
			return err
		}
	}
	return nil
}

func (s *socket) subscribe(id string, sub int) error {
	query := numbered(numbered(s.query, "{socket}", s.number), "{sub}", sub)
	return s.send(map[string]any{"id": id, "type": "subscribe", "payload": map[string]string{"query": query}})
}

func (s *socket) send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return s.frame(opText, data)
}

// The opcodes of RFC 6455, 5.2.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10
)

// frame writes a frame, masked by a key of zeros.
func (s *socket) frame(opcode byte, data []byte) error {
	b := []byte{0x80 | opcode}
	switch n := len(data); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		return errors.New("message is too long")
	}
	b = append(append(b, 0, 0, 0, 0), data...)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.conn.Write(b)
	return err
}

// mostRead is the largest buffer of a socket: it begins small, since thousands are idle.
const mostRead = 256 << 10

// read takes frames until the socket is closed.
func (s *socket) read(buf []byte) {
	for {
		rest, rows, err := s.frames(buf)
		if rows > 0 {
			s.c.came(rows, time.Now())
		}
		if err == nil {
			buf, err = s.more(buf, rest)
		}
		if err != nil {
			if !s.closed.Load() {
				s.c.fail(fmt.Errorf("socket %d: %w", s.number, err))
			}
			return
		}
	}
}

// more keeps the rest and reads on behind it.
func (s *socket) more(buf, rest []byte) ([]byte, error) {
	if len(rest) == cap(buf) || len(buf) == cap(buf) && cap(buf) < mostRead && len(buf) > 0 {
		bigger := make([]byte, len(rest), max(2*cap(buf), 4096))
		copy(bigger, rest)
		buf = bigger
	} else {
		buf = buf[:copy(buf[:cap(buf)], rest)]
	}
	n, err := s.conn.Read(buf[len(buf):cap(buf)])
	return buf[:len(buf)+n], err
}

// frames takes whole frames off the front of b, and counts the rows in them.
func (s *socket) frames(b []byte) (rest []byte, rows int, err error) {
	now := time.Now().UnixMicro()
	for len(b) >= 2 {
		head, size := 2, int(b[1]&0x7F)
		switch size {
		case 126:
			if len(b) < 4 {
				return b, rows, nil
			}
			head, size = 4, int(binary.BigEndian.Uint16(b[2:]))
		case 127:
			if len(b) < 10 {
				return b, rows, nil
			}
			head, size = 10, int(binary.BigEndian.Uint64(b[2:])) //nolint:gosec // frames fit memory
		}
		if len(b) < head+size {
			return b, rows, nil
		}
		row, err := s.take(b[0]&0x0F, b[head:head+size], now)
		if err != nil {
			return nil, rows, err
		}
		if row {
			rows++
		}
		b = b[head+size:]
	}
	return b, rows, nil
}

// take looks at one frame and tells whether it brought a row.
func (s *socket) take(opcode byte, m []byte, now int64) (bool, error) {
	switch opcode {
	case opPing:
		return false, s.frame(opPong, m)
	case opClose:
		return false, fmt.Errorf("the server closed it: %q", m)
	case opText:
	default:
		return false, fmt.Errorf("unexpected opcode %d", opcode)
	}
	if bytes.HasPrefix(m, ackMark) {
		return false, nil
	}
	id, tail := number(m, idMark)
	if id < 1 || !bytes.HasPrefix(tail, []byte(`",`)) || !bytes.HasPrefix(tail[2:], nextMark) {
		return false, fmt.Errorf("unexpected message %.200s", m)
	}
	at := bytes.Index(tail, rowMark)
	if at < 0 {
		return false, fmt.Errorf("unexpected result %.200s", m)
	}
	tail = tail[at+len(rowMark):]
	switch {
	case !bytes.HasPrefix(tail, nullMark):
		s.came++
		return true, s.row(int(id), tail, m, now)
	case bytes.Contains(m, resetMark):
		return false, nil
	case s.came < s.before:
		return false, fmt.Errorf("%d rows came before LIVE, want %d", s.came, s.before)
	}
	s.c.live.Add(1) // no other frame without a row is ever sent here
	return false, s.again()
}

// row checks that the row is the one that is due.
func (s *socket) row(id int, tail, m []byte, now int64) error {
	seq, tail := number(tail, rowID)
	if id > len(s.last) || seq < 0 {
		return fmt.Errorf("unexpected row %.200s", m)
	}
	last := &s.last[id-1]
	if *last != 0 && seq != *last+1 && (!s.sparse || seq <= *last) {
		return fmt.Errorf("subscription %d got row %d behind row %d", id, seq, *last)
	}
	*last = seq
	if at := bytes.Index(tail, sentMark); at >= 0 {
		if sent, _ := number(tail[at:], sentMark); sent > 0 {
			s.latency.add(now - sent)
		}
	}
	return nil
}

// number reads the digits behind a mark at the front of b; it is -1 where they are not there.
func number(b, mark []byte) (int64, []byte) {
	if !bytes.HasPrefix(b, mark) {
		return -1, b
	}
	b = b[len(mark):]
	n, i := int64(0), 0
	for i < len(b) && b[i] >= '0' && b[i] <= '9' {
		n = n*10 + int64(b[i]-'0')
		i++
	}
	if i == 0 {
		return -1, b
	}
	return n, b[i:]
}

// churn begins to subscribe and complete.
func (s *socket) churn(times int) error {
	s.mu.Lock()
	s.churning = times
	s.mu.Unlock()
	return s.another()
}

// again completes the operation that has got LIVE, and subscribes anew.
func (s *socket) again() error {
	s.mu.Lock()
	id := s.id
	s.mu.Unlock()
	if id == 0 {
		return nil
	}
	if err := s.send(map[string]any{"id": strconv.Itoa(id), "type": "complete"}); err != nil {
		return err
	}
	return s.another()
}

func (s *socket) another() error {
	s.mu.Lock()
	if s.churning == 0 {
		s.id = 0
		s.mu.Unlock()
		return nil
	}
	s.churning--
	s.id++
	id := s.id
	s.mu.Unlock()
	return s.subscribe(strconv.Itoa(id), 0)
}

func (s *socket) close() {
	s.closed.Store(true)
	if s.conn != nil {
		_ = s.conn.Close()
	}
}
