package bench

import (
	"context"
	"fmt"
	"runtime"
	"time"
)

// churnParts is how often memory is looked at.
const churnParts = 10

// Churn subscribes, waits for LIVE and completes, over and over, and looks at memory and goroutines
// meanwhile: they must not grow. The baseline is the first part.
type Churn struct {
	Times   int `help:"How often a client subscribes and completes." default:"1000000"`
	Sockets int `help:"Connections." default:"1000"`
}

func (*Churn) needs() bedConfig { return bedConfig{schema: schema, clients: true} }

func (s *Churn) measure(ctx context.Context, b *bed) (*Result, error) {
	if err := b.subscribers(s.Sockets, 0); err != nil {
		return nil, err
	}
	r := newResult("churn", b.version, 1, "subscribed/s", "CPU µs each", "resident MB", "heap MB", "goroutines")
	r.Charted = 2
	_, err := b.measured("churn", func() error {
		for part := range churnParts {
			if err := s.part(ctx, b, part, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	first, last := r.Series[0].Values, r.Series[churnParts-1].Values
	r.ratio("resident memory, last / first part", float64(last[2]/first[2]), "1")
	r.ratio("goroutines, last / first part", float64(last[4]/first[4]), "1")
	return r, nil
}

func (s *Churn) part(ctx context.Context, b *bed, part int, r *Result) error {
	start, cpu := time.Now(), cpuTime()
	times := s.Times / churnParts
	if _, err := b.load.do(order{Do: doChurn, Frames: times}); err != nil {
		return err
	}
	took, used := time.Since(start), cpuTime()-cpu
	m, err := settledMemory(ctx)
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("after %d", times*(part+1)), float64(times)/took.Seconds(), float64(used.Nanoseconds())/1e3/float64(times),
		float64(m.resident)/(1<<20), float64(m.heap)/(1<<20), float64(runtime.NumGoroutine()))
	return nil
}
