package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// FanoutConfig sets up Fanout.
type FanoutConfig struct {
	// Rounds is how often each side sends. Defaults to 5.
	Rounds int
	// Sockets is how many there are, with one subscription each. Defaults to 1,000.
	Sockets int
	// Rows is how many rows one transaction inserts: the backlog of each socket. Defaults to
	// 1,000.
	Rows int
	// Profile is a folder for profiles. Defaults to none.
	Profile string
}

// batch is how many frames the ceiling writes at once: as many as the service does.
const batch = 64

// Fanout measures how fast frames go to many sockets that all get the same changes, against two
// servers without a service behind: one that writes frames that were encoded beforehand, 64 at a
// time, which is as fast as sockets get; and one that writes them one by one, as a program does
// that calls its WebSocket library for each message.
func Fanout(ctx context.Context, cfg FanoutConfig) (*Result, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 5
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = 1000
	}
	if cfg.Rows == 0 {
		cfg.Rows = 1000
	}
	return onBed(ctx, bedConfig{schema: schema, clients: true, queueBytes: 64 << 20, profile: cfg.Profile}, func(ctx context.Context, b *bed) (*Result, error) {
		return b.fanout(ctx, cfg)
	})
}

// A sending is what one side did: how fast, and with how much CPU time.
type sending struct{ perSecond, cpu []float64 }

func (s *sending) add(r *report, frames int, used time.Duration) {
	s.perSecond = append(s.perSecond, float64(frames)/r.took().Seconds())
	s.cpu = append(s.cpu, float64(used.Nanoseconds())/1e3/float64(frames))
}

func (b *bed) fanout(ctx context.Context, cfg FanoutConfig) (*Result, error) {
	var ceiling, plain, ours sending
	for round := range cfg.Rounds {
		for _, bare := range []struct {
			to    *sending
			write bareWriter
		}{{&ceiling, together}, {&plain, oneByOne}} {
			if err := b.bare(ctx, cfg, bare.write, bare.to); err != nil {
				return nil, err
			}
		}
		if err := b.fanoutOnce(ctx, cfg, round, &ours); err != nil {
			return nil, err
		}
	}
	r := newResult("fanout", b.version, cfg.Rounds, "frames/s", "CPU µs/frame")
	r.add(fmt.Sprintf("encoded beforehand, %d at a time", batch), median(ceiling.perSecond), median(ceiling.cpu))
	r.add("one Write a message", median(plain.perSecond), median(plain.cpu))
	r.add("rowtide", median(ours.perSecond), median(ours.cpu))
	r.ratio("rowtide / encoded beforehand", median(ours.perSecond)/median(ceiling.perSecond), "at least 0.6")
	r.ratio("rowtide / one Write a message", median(ours.perSecond)/median(plain.perSecond), "at least 6")
	r.ratio("rowtide, CPU µs a frame", median(ours.cpu), "at most 1")
	r.Notes = []string{"Elapsed time runs from the first frame that a client has to the last; CPU time is this process's, Postgres and the clients not counted."}
	return r, nil
}

func (b *bed) fanoutOnce(ctx context.Context, cfg FanoutConfig, round int, to *sending) error {
	_, err := b.load.do(order{Do: doOpen, Address: b.address(), Sockets: cfg.Sockets, PerSocket: 1, Query: feedQuery, Subject: "u{socket}"})
	if err != nil {
		return err
	}
	frames := cfg.Sockets * cfg.Rows
	if err := b.load.expect(frames); err != nil {
		return err
	}
	runtime.GC()
	if err := b.profile.start("fanout"); err != nil {
		return err
	}
	cpu := cpuTime()
	if err := b.exec(ctx, fmt.Sprintf("INSERT INTO feed SELECT n, 'me', 1, 0, 'a payload of ordinary length' FROM generate_series(%d, %d) n",
		round*cfg.Rows+1, (round+1)*cfg.Rows)); err != nil {
		return err
	}
	r, err := b.load.await()
	if err != nil {
		return err
	}
	to.add(r, frames, cpuTime()-cpu)
	if err := b.profile.stop("fanout"); err != nil {
		return err
	}
	_, err = b.load.do(order{Do: doHangUp})
	return err
}

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

// bare lets a server without anything behind send.
func (b *bed) bare(ctx context.Context, cfg FanoutConfig, write bareWriter, to *sending) error {
	s, err := newBareServer(ctx, write, encode(cfg.Rows))
	if err != nil {
		return err
	}
	defer s.close()
	_, err = b.load.do(order{Do: doOpen, Address: s.listener.Addr().String(), Sockets: cfg.Sockets, PerSocket: 1, Bare: true})
	if err != nil {
		return err
	}
	frames := cfg.Sockets * cfg.Rows
	if err := b.load.expect(frames); err != nil {
		return err
	}
	runtime.GC()
	cpu := cpuTime()
	close(s.begin)
	r, err := b.load.await()
	if err != nil {
		return err
	}
	to.add(r, frames, cpuTime()-cpu)
	_, err = b.load.do(order{Do: doHangUp})
	return err
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
