package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// Idle measures the resident memory of connections on which nothing happens, each with one
// subscription, against connections of the WebSocket library that do nothing but read; and of
// further subscriptions on a connection.
type Idle struct {
	Rounds  int `help:"How often each side is measured: memory hardly varies." default:"1"`
	Sockets int `help:"Connections." default:"10000"`
	Further int `help:"Further subscriptions on each of a tenth of the connections." default:"50"`
}

func (*Idle) needs() bedConfig { return bedConfig{schema: schema, clients: true} }

func (s *Idle) measure(ctx context.Context, b *bed) (*Result, error) {
	const ours, further, library = "a connection with one subscription", "a further subscription", "a connection of the library that only reads"
	r := newResult("idle", b.version, s.Rounds, "resident KB", "heap KB", "stacks KB")
	for range s.Rounds {
		one, err := b.resident(ctx, "idle", s.Sockets, func() error { return b.subscribers(s.Sockets, 1) })
		if err != nil {
			return nil, err
		}
		r.sample(ours, one...)
		few := max(s.Sockets/10, 1)
		more, err := b.resident(ctx, "further", few, func() error { return b.subscribers(few, 1+s.Further) })
		if err != nil {
			return nil, err
		}
		for i := range more {
			more[i] = (more[i] - one[i]) / float64(s.Further)
		}
		r.sample(further, more...)
		bare, err := s.bare(ctx, b)
		if err != nil {
			return nil, err
		}
		r.sample(library, bare...)
	}
	r.ratio("KB a connection with one subscription", r.at(ours, 0), "at most 10")
	r.ratio("KB a further subscription", r.at(further, 0), "at most 1")
	return r, nil
}

// bare measures the baseline.
func (s *Idle) bare(ctx context.Context, b *bed) ([]float64, error) {
	server, err := newBareServer(ctx, readOnly, nil)
	if err != nil {
		return nil, err
	}
	defer server.close()
	close(server.begin)
	return b.resident(ctx, "library", s.Sockets, func() error {
		_, err := b.load.do(order{Do: doOpen, Address: server.listener.Addr().String(), Sockets: s.Sockets, PerSocket: 1, Bare: true})
		return err
	})
}

// readOnly reads until the socket is closed.
func readOnly(ctx context.Context, ws *websocket.Conn, _ net.Conn, _ *encoded) error {
	_, _, err := ws.Read(ctx)
	return err
}

// resident gives how much the resident memory of this process, its heap and its stacks grow with
// each of the sockets that are opened, in KB.
func (b *bed) resident(ctx context.Context, name string, sockets int, open func() error) ([]float64, error) {
	goroutines := runtime.NumGoroutine()
	before, err := settledMemory(ctx)
	if err != nil {
		return nil, err
	}
	if err := open(); err != nil {
		return nil, err
	}
	after, err := settledMemory(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(b.profile.heap(name), b.hangUp()); err != nil {
		return nil, err
	}
	each := func(after, before int) float64 { return float64(after-before) / 1024 / float64(sockets) }
	return []float64{each(after.resident, before.resident), each(after.heap, before.heap), each(after.stacks, before.stacks)}, gone(ctx, goroutines)
}

// gone waits until connections that were hung up have ended.
func gone(ctx context.Context, goroutines int) error {
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > goroutines+10; {
		if time.Now().After(deadline) {
			return fmt.Errorf("%d goroutines are left of connections that have ended", runtime.NumGoroutine())
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// A memory is what this process takes, in bytes.
type memory struct{ resident, heap, stacks int }

// settledMemory is what it takes once what is no longer needed was given back to the system.
func settledMemory(ctx context.Context) (memory, error) {
	var least memory
	for range 5 {
		debug.FreeOSMemory()
		n, err := residentBytes()
		if err != nil {
			return memory{}, err
		}
		if least.resident == 0 || n < least.resident {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			least = memory{n, int(m.HeapInuse), int(m.StackInuse)} //nolint:gosec // sizes
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return memory{}, err
		}
	}
	return least, nil
}

// residentBytes reads proc(5), so it needs Linux.
func residentBytes() (int, error) {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return 0, fmt.Errorf("read resident memory: got %q", b)
	}
	pages, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, fmt.Errorf("read resident memory: %w", err)
	}
	return pages * os.Getpagesize(), nil
}
