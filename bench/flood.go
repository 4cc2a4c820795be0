package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A foe is one client that floods, over and over, until its time is over. It counts what it tried
// and what was refused.
type foe struct {
	address string
	number  int
	token   string

	tried, refused *atomic.Int64
}

// floods are the kinds of floods. Each function is one attempt: it ends when the service ends it,
// or the connection's time is over.
var floods = map[string]func(*foe, net.Conn, *bufio.Reader) error{
	"connections without a word": (*foe).hoard,
	"tokens that are wrong":      (*foe).guess,
	"pings":                      repeat(0x89, ""),
	"messages":                   repeat(0x81, `{"type":"ping"}`),
	"frames without end":         (*foe).endless,
	"subscribe and complete":     (*foe).churn,
	"documents that are deep":    (*foe).deep,
	"cursors that are forged":    (*foe).forge,
	"messages that are large":    (*foe).large,
}

func (c *clients) flood(ctx context.Context, o order) (*report, error) {
	if o.Flood == "" {
		return &report{}, nil
	}
	attempt := floods[o.Flood]
	if o.Flood == floodResubscribe {
		attempt = (*foe).resubscribe
	}
	if attempt == nil {
		return nil, fmt.Errorf("there is no flood %q", o.Flood)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(o.Seconds)*time.Second)
	defer cancel()
	var tried, refused atomic.Int64
	var wg sync.WaitGroup
	for n := range o.Sockets {
		t, err := token(cmp.Or(o.Subject, "foe{socket}"), n)
		if err != nil {
			return nil, err
		}
		f := &foe{address: o.Address, number: n, token: t, tried: &tried, refused: &refused}
		wg.Go(func() {
			for ctx.Err() == nil {
				f.connect(ctx, attempt)
			}
		})
	}
	wg.Wait()
	return &report{Frames: int(tried.Load()), Written: int(refused.Load())}, nil
}

// connect makes a connection and floods it until that ends.
func (f *foe) connect(ctx context.Context, attempt func(*foe, net.Conn, *bufio.Reader) error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.address)
	if err != nil {
		return
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	f.tried.Add(1)
	hello := strings.TrimSuffix(fmt.Sprintf(handshake, f.address), "\r\n") + fmt.Sprintf("X-Forwarded-For: 203.0.113.%d\r\n\r\n", f.number%4)
	if _, err := io.WriteString(conn, hello); err != nil {
		return
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		f.refused.Add(1)
		return
	}
	_ = attempt(f, conn, r)
}

// clientFrame is a frame of a client, masked with zeros.
func clientFrame(first byte, payload string) []byte {
	out := []byte{first}
	if n := len(payload); n < 126 {
		out = append(out, 0x80|byte(n))
	} else {
		out = binary.BigEndian.AppendUint64(append(out, 0x80|127), uint64(n))
	}
	return append(append(out, 0, 0, 0, 0), payload...)
}

func (f *foe) init(conn net.Conn, token string) error {
	_, err := conn.Write(clientFrame(0x81, `{"type":"connection_init","payload":{"authorization":"Bearer `+token+`"}}`))
	return err
}

// drain reads whatever comes, until the connection ends, and counts refusals.
func (f *foe) drain(r io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		f.refused.Add(int64(bytes.Count(buf[:n], []byte(`"type":"error"`))))
		if err != nil {
			return
		}
	}
}

// hoard says nothing.
func (f *foe) hoard(_ net.Conn, r *bufio.Reader) error {
	f.drain(r)
	f.refused.Add(1)
	return nil
}

func (f *foe) guess(conn net.Conn, r *bufio.Reader) error {
	wrong := f.token[:len(f.token)-4] + "AAAA"
	if err := f.init(conn, wrong); err != nil {
		return err
	}
	_, _ = r.ReadByte() // of the close frame; a polite client would answer it
	f.refused.Add(1)
	return nil
}

// send writes the same over and over.
func (f *foe) send(conn net.Conn, r *bufio.Reader, what []byte, of int) error {
	if err := f.init(conn, f.token); err != nil {
		return err
	}
	go f.drain(r) // it ends with the connection
	for {
		if _, err := conn.Write(what); err != nil {
			return err
		}
		f.tried.Add(int64(of))
	}
}

// repeat sends frames of one kind, a hundred with a system call.
func repeat(first byte, payload string) func(*foe, net.Conn, *bufio.Reader) error {
	return func(f *foe, conn net.Conn, r *bufio.Reader) error {
		return f.send(conn, r, bytes.Repeat(clientFrame(first, payload), 100), 100)
	}
}

// endless is a message of frames without content.
func (f *foe) endless(conn net.Conn, r *bufio.Reader) error {
	if err := f.init(conn, f.token); err != nil {
		return err
	}
	go f.drain(r) // it ends with the connection
	if _, err := conn.Write(clientFrame(0x01, "{")); err != nil {
		return err
	}
	empty := bytes.Repeat(clientFrame(0x00, ""), 1000)
	for {
		if _, err := conn.Write(empty); err != nil {
			return err
		}
		f.tried.Add(1000)
	}
}

func (f *foe) operations(conn net.Conn, r *bufio.Reader, query string) error {
	one := append(clientFrame(0x81, `{"id":"1","type":"subscribe","payload":{"query":"`+query+`"}}`), clientFrame(0x81, `{"id":"1","type":"complete"}`)...)
	return f.send(conn, r, bytes.Repeat(one, 20), 20)
}

func (f *foe) churn(conn net.Conn, r *bufio.Reader) error {
	return f.operations(conn, r, "subscription { feed { row { id } } }")
}

func (f *foe) deep(conn net.Conn, r *bufio.Reader) error {
	return f.operations(conn, r, "subscription { feed "+strings.Repeat("{ row ", 4000)+strings.Repeat("}", 4000)+" }")
}

func (f *foe) forge(conn net.Conn, r *bufio.Reader) error {
	return f.operations(conn, r, `subscription { feed(after: \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\") { row { id } } }`)
}

// large is a message over the limit, as fast as it is taken.
func (f *foe) large(conn net.Conn, r *bufio.Reader) error {
	return f.send(conn, r, clientFrame(0x81, strings.Repeat(" ", 8<<20)), 1)
}
