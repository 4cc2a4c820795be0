package bench

import (
	"context"
	"fmt"
)

// Target writes at a steady rate to subscriptions that get every change, and checks that every
// frame arrives, in order. The baseline is what it wants: the rate.
type Target struct {
	PerSecond      int `help:"Changes a second." default:"10000"`
	Seconds        int `help:"How long they are written." default:"30"`
	Subscribers    int `help:"Subscriptions that get every change." default:"100"`
	PerSocket      int `help:"How many of them share a socket." default:"1"`
	PerTransaction int `help:"Changes a transaction." default:"100"`
}

func (*Target) needs() bedConfig {
	return bedConfig{schema: schema, clients: true, queueBytes: 64 << 20}
}

func (s *Target) measure(_ context.Context, b *bed) (*Result, error) {
	sockets := (s.Subscribers + s.PerSocket - 1) / s.PerSocket
	subscribers := sockets * s.PerSocket
	if err := b.subscribers(sockets, s.PerSocket); err != nil {
		return nil, err
	}
	var r *report
	used, err := b.measured("target", func() (err error) {
		r, err = b.load.do(order{
			Do: doWrite, URL: b.url, Rate: s.PerSecond, Seconds: s.Seconds, PerTransaction: s.PerTransaction, First: 1, Subscriptions: subscribers,
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	frames := float64(r.Frames)
	result := newResult("target", b.version, 1, "changes/s", "frames/s", "p50 ms", "p99 ms", "max ms", "CPU µs/frame", "CPUs used")
	result.add("wanted", float64(s.PerSecond), float64(s.PerSecond*subscribers), nan, nan, nan, nan, nan)
	result.add("written", float64(r.Written)/r.Wrote.Seconds(), nan, nan, nan, nan, nan, nan)
	result.add("arrived", float64(r.Written)/r.took().Seconds(), frames/r.took().Seconds(), r.P50/1e3, r.P99/1e3, r.Max/1e3,
		float64(used.Nanoseconds())/1e3/frames, used.Seconds()/r.took().Seconds())
	result.ratio("arrived / wanted", float64(r.Written)/r.took().Seconds()/float64(s.PerSecond), "1")
	result.Notes = []string{fmt.Sprintf("%d frames, each checked: none missing, none twice, all in order.", r.Frames)}
	return result, nil
}
