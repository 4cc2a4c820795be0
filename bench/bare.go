package bench

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/coder/websocket"
)

// A bareWriter sends frames to a socket, in order.
type bareWriter func(ctx context.Context, ws *websocket.Conn, conn net.Conn, f *encoded) error

// encoded are frames as the service sends them.
type encoded struct {
	payloads [][]byte
	// wire has all of them with their WebSocket headers; frame i ends at ends[i].
	wire []byte
	ends []int
}

func encode(rows int) *encoded {
	e := &encoded{}
	for i := range rows {
		p := []byte(`{"id":"1","type":"next","payload":{"data":{"feed":{"row":{"id":"` + strconv.Itoa(i+1) +
			`","sent":"0"}}},"extensions":{"cursor":"` + strings.Repeat("c", 32) + `"}}}`)
		e.payloads = append(e.payloads, p)
		e.wire = binary.BigEndian.AppendUint16(append(e.wire, 0x80|opText, 126), uint16(len(p))) //nolint:gosec // it is short
		e.wire = append(e.wire, p...)
		e.ends = append(e.ends, len(e.wire))
	}
	return e
}

func together(_ context.Context, _ *websocket.Conn, conn net.Conn, f *encoded) error {
	from := 0
	for i := 0; i < len(f.ends); i += batch {
		end := f.ends[min(i+batch, len(f.ends))-1]
		if _, err := conn.Write(f.wire[from:end]); err != nil {
			return err
		}
		from = end
	}
	return nil
}

func oneByOne(ctx context.Context, ws *websocket.Conn, _ net.Conn, f *encoded) error {
	for _, p := range f.payloads {
		if err := ws.Write(ctx, websocket.MessageText, p); err != nil {
			return err
		}
	}
	return nil
}

// A bareServer upgrades sockets and, once begin is closed, writes to all.
type bareServer struct {
	listener net.Listener
	http     *http.Server
	begin    chan struct{}
	end      context.CancelFunc
	writers  sync.WaitGroup
}

func newBareServer(ctx context.Context, write bareWriter, f *encoded) (*bareServer, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &bareServer{listener: l, begin: make(chan struct{}), end: cancel}
	s.http = &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.writers.Add(1)
		defer s.writers.Done()
		below := &hijacked{ResponseWriter: w}
		ws, err := websocket.Accept(below, r, &websocket.AcceptOptions{
			Subprotocols: []string{"graphql-transport-ws"}, CompressionMode: websocket.CompressionDisabled,
		})
		if err != nil {
			return // Accept has answered
		}
		defer ws.CloseNow() //nolint:errcheck // it is of no more use
		select {
		case <-s.begin:
			_ = write(ctx, ws, below.conn, f) // the clients notice what is missing
		case <-ctx.Done():
		}
		_, _, _ = ws.Read(ctx) // until they hang up
	})}
	go func() { _ = s.http.Serve(l) }() // until close
	return s, nil
}

func (s *bareServer) close() {
	s.end()
	_ = s.http.Close()
	s.writers.Wait()
}
