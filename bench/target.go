package bench

import (
	"context"
	"fmt"
)

// TargetConfig sets up Target.
type TargetConfig struct {
	// Rate is how many changes a second are written. Defaults to 10,000.
	Rate int
	// Seconds is for how long. Defaults to 30.
	Seconds int
	// Subscribers is how many subscriptions get each change. Defaults to 100.
	Subscribers int
	// PerSocket is how many of them share a socket. Defaults to 1.
	PerSocket int
	// PerTransaction is how many changes a transaction has. Defaults to 100.
	PerTransaction int
	// Profile is a folder for profiles. Defaults to none.
	Profile string
}

// Target writes at a steady rate to subscriptions that get every change, and checks that every
// frame arrives, in order. The baseline is what it wants: the rate.
func Target(ctx context.Context, cfg TargetConfig) (*Result, error) {
	for _, d := range []struct {
		v         *int
		otherwise int
	}{{&cfg.Rate, 10_000}, {&cfg.Seconds, 30}, {&cfg.Subscribers, 100}, {&cfg.PerSocket, 1}, {&cfg.PerTransaction, perTransaction}} {
		if *d.v <= 0 {
			*d.v = d.otherwise
		}
	}
	return onBed(ctx, bedConfig{schema: schema, clients: true, queueBytes: 64 << 20, profile: cfg.Profile}, func(_ context.Context, b *bed) (*Result, error) {
		return b.target(cfg)
	})
}

func (b *bed) target(cfg TargetConfig) (*Result, error) {
	sockets := (cfg.Subscribers + cfg.PerSocket - 1) / cfg.PerSocket
	subscribers := sockets * cfg.PerSocket
	if _, err := b.load.do(order{Do: doOpen, Address: b.address(), Sockets: sockets, PerSocket: cfg.PerSocket, Query: feedQuery, Subject: "u{socket}"}); err != nil {
		return nil, err
	}
	if err := b.profile.start("target"); err != nil {
		return nil, err
	}
	cpu := cpuTime()
	r, err := b.load.do(order{
		Do: doWrite, URL: b.url, Rate: cfg.Rate, Seconds: cfg.Seconds, PerTransaction: cfg.PerTransaction, First: 1, Subscriptions: subscribers,
	})
	if err != nil {
		return nil, err
	}
	used := cpuTime() - cpu
	if err := b.profile.stop("target"); err != nil {
		return nil, err
	}
	frames := float64(r.Frames)
	result := newResult("target", b.version, 1, "changes/s", "frames/s", "p50 ms", "p99 ms", "max ms", "CPU µs/frame", "CPUs used")
	result.add("wanted", float64(cfg.Rate), float64(cfg.Rate*subscribers), nan, nan, nan, nan, nan)
	result.add("written", float64(r.Written)/r.Wrote.Seconds(), nan, nan, nan, nan, nan, nan)
	result.add("arrived", float64(r.Written)/r.took().Seconds(), frames/r.took().Seconds(), r.P50/1e3, r.P99/1e3, r.Max/1e3,
		float64(used.Nanoseconds())/1e3/frames, used.Seconds()/r.took().Seconds())
	result.ratio("arrived / wanted", float64(r.Written)/r.took().Seconds()/float64(cfg.Rate), "1")
	result.Notes = []string{fmt.Sprintf("%d frames, each checked: none missing, none twice, all in order.", r.Frames)}
	return result, nil
}
