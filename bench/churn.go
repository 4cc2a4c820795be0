package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// ChurnConfig sets up Churn.
type ChurnConfig struct {
	// Times is how often a client subscribes, waits for LIVE, and completes. Defaults to a
	// million.
	Times int
	// Sockets is on how many connections. Defaults to 1,000.
	Sockets int
	// Profile is a folder for profiles. Defaults to none.
	Profile string
}

// churnParts is how often memory is looked at.
const churnParts = 10

// Churn subscribes and completes, over and over, and looks at memory and goroutines meanwhile:
// they must not grow. The baseline is the first part.
func Churn(ctx context.Context, cfg ChurnConfig) (*Result, error) {
	if cfg.Times == 0 {
		cfg.Times = 1_000_000
	}
	if cfg.Sockets == 0 {
		cfg.Sockets = 1000
	}
	return onBed(ctx, bedConfig{schema: schema, clients: true, profile: cfg.Profile}, func(ctx context.Context, b *bed) (*Result, error) {
		return b.churn(ctx, cfg)
	})
}

func (b *bed) churn(ctx context.Context, cfg ChurnConfig) (*Result, error) {
	if _, err := b.load.do(order{Do: doOpen, Address: b.address(), Sockets: cfg.Sockets, Query: feedQuery, Subject: "u{socket}"}); err != nil {
		return nil, err
	}
	r := newResult("churn", b.version, 1, "subscribed/s", "CPU µs each", "resident MB", "heap MB", "goroutines")
	r.Charted = 2
	if err := b.profile.start("churn"); err != nil {
		return nil, err
	}
	for part := range churnParts {
		start, cpu := time.Now(), cpuTime()
		times := cfg.Times / churnParts
		if _, err := b.load.do(order{Do: doChurn, Frames: times}); err != nil {
			return nil, err
		}
		took, used := time.Since(start), cpuTime()-cpu
		m, err := settledMemory(ctx)
		if err != nil {
			return nil, err
		}
		r.add(fmt.Sprintf("after %d", times*(part+1)), float64(times)/took.Seconds(), float64(used.Nanoseconds())/1e3/float64(times),
			float64(m.resident)/(1<<20), float64(m.heap)/(1<<20), float64(runtime.NumGoroutine()))
	}
	first, last := r.Series[0].Values, r.Series[churnParts-1].Values
	r.ratio("resident memory, last / first part", float64(last[2]/first[2]), "1")
	r.ratio("goroutines, last / first part", float64(last[4]/first[4]), "1")
	return r, b.profile.stop("churn")
}
