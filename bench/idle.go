package bench

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/coder/websocket"
)

// IdleConfig sets up Idle.
type IdleConfig struct {
	// Rounds is how often each side is measured. Defaults to 1: memory hardly varies.
	Rounds int
	// Sockets is how many connections there are. Defaults to 10,000.
	Sockets int
	// Further is how many subscriptions each of a tenth of the sockets has in the second part.
	// Defaults to 50.
	Further int
	// Profile is a folder for profiles. Defaults to none.
	Profile string
}

// Idle measures the resident memory of connections on which nothing happens, each with one
// subscription, against connections of the WebSocket library that do nothing but read; and of
// further subscriptions on a connection.
func Idle(ctx context.Context, cfg IdleConfig) (*Result, error) {
	if cfg.Rounds == 0 {
		cfg.Rounds = 1
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = 10_000
	}
	if cfg.Further == 0 {
		cfg.Further = 50
	}
	return onBed(ctx, bedConfig{schema: schema, clients: true, profile: cfg.Profile}, func(ctx context.Context, b *bed) (*Result, error) {
		return b.idle(ctx, cfg)
	})
}

func (b *bed) idle(ctx context.Context, cfg IdleConfig) (*Result, error) {
	var ours, library, further [][]float64
	for range cfg.Rounds {
		kb, err := b.resident(ctx, "idle", order{Address: b.address(), Sockets: cfg.Sockets, PerSocket: 1, Query: feedQuery, Subject: "u{socket}"})
		if err != nil {
			return nil, err
		}
		ours = append(ours, kb)
		s, err := newBareServer(ctx, readOnly, nil)
		if err != nil {
			return nil, err
		}
		close(s.begin)
		kb, err = b.resident(ctx, "library", order{Address: s.listener.Addr().String(), Sockets: cfg.Sockets, PerSocket: 1, Bare: true})
		s.close()
		if err != nil {
			return nil, err
		}
		library = append(library, kb)
		few := max(cfg.Sockets/10, 1)
		kb, err = b.resident(ctx, "further", order{Address: b.address(), Sockets: few, PerSocket: 1 + cfg.Further, Query: feedQuery, Subject: "u{socket}"})
		if err != nil {
			return nil, err
		}
		for i := range kb {
			kb[i] = (kb[i] - ours[len(ours)-1][i]) / float64(cfg.Further)
		}
		further = append(further, kb)
	}
	r := newResult("idle", b.version, cfg.Rounds, "resident KB", "heap KB", "stacks KB")
	r.add("a connection with one subscription", medians(ours)...)
	r.add("a further subscription", medians(further)...)
	r.add("a connection of the library that only reads", medians(library)...)
	r.ratio("KB a connection with one subscription", medians(ours)[0], "at most 10")
	r.ratio("KB a further subscription", medians(further)[0], "at most 1")
	return r, nil
}

// medians gives that of each column.
func medians(rows [][]float64) []float64 {
	out := make([]float64, len(rows[0]))
	for i := range out {
		var column []float64
		for _, r := range rows {
			column = append(column, r[i])
		}
		out[i] = median(column)
	}
	return out
}

// readOnly reads until the socket is closed.
func readOnly(ctx context.Context, ws *websocket.Conn, _ net.Conn, _ *encoded) error {
	_, _, err := ws.Read(ctx)
	return err
}

// resident gives how much the resident memory of this process, its heap and its stacks grow with
// each connection, in KB.
func (b *bed) resident(ctx context.Context, name string, o order) ([]float64, error) {
	goroutines := runtime.NumGoroutine()
	before, err := settledMemory(ctx)
	if err != nil {
		return nil, err
	}
	o.Do = doOpen
	if _, err := b.load.do(o); err != nil {
		return nil, err
	}
	after, err := settledMemory(ctx)
	if err != nil {
		return nil, err
	}
	if err := b.profile.heap(name); err != nil {
		return nil, err
	}
	if _, err := b.load.do(order{Do: doHangUp}); err != nil {
		return nil, err
	}
	each := func(after, before int) float64 { return float64(after-before) / 1024 / float64(o.Sockets) }
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
