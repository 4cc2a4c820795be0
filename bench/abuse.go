package bench

import (
	"context"
	"fmt"
	"slices"
)

// Abuse measures how long changes take to honest subscribers while others flood the service in one
// way after another, against the same without a flood. The service has its default limits; the
// floods come by way of a proxy that it trusts, from addresses of their own.
type Abuse struct {
	Subscribers int `help:"Honest subscribers." default:"1000"`
	PerSecond   int `help:"Changes a second that each gets." default:"5"`
	Seconds     int `help:"How long each flood lasts." default:"5"`
	Foes        int `help:"Clients that flood, from four addresses." default:"32"`
}

func (*Abuse) needs() bedConfig { return bedConfig{schema: schema, clients: true, limited: true} }

func (s *Abuse) measure(ctx context.Context, b *bed) (*Result, error) {
	foes, err := startLoad(ctx)
	if err != nil {
		return nil, err
	}
	defer foes.close()
	if err := b.subscribers(s.Subscribers, 1); err != nil {
		return nil, err
	}
	r := newResult("abuse", b.version, 1, "p50 ms", "p99 ms", "max ms", "tried/s", "refused %", "CPUs of the service")
	first := 1
	measure := func(name, flood string) (float64, error) {
		if err := foes.tell(order{Do: doFlood, Flood: flood, Address: b.address(), Sockets: s.Foes, Seconds: s.Seconds}); err != nil {
			return 0, err
		}
		cpu := cpuTime()
		honest, err := b.load.do(order{Do: doWrite, URL: b.url, Rate: s.PerSecond, Seconds: s.Seconds, PerTransaction: 1, First: first, Subscriptions: s.Subscribers})
		if err != nil {
			return 0, fmt.Errorf("while flooded with %s: %w", name, err)
		}
		first += s.PerSecond * s.Seconds
		used := (cpuTime() - cpu).Seconds()
		tried, err := foes.hear()
		if err != nil {
			return 0, err
		}
		refused := nan
		if tried.Frames > 0 {
			refused = 100 * float64(tried.Written) / float64(tried.Frames)
		}
		r.add(name, honest.P50/1e3, honest.P99/1e3, honest.Max/1e3, float64(tried.Frames)/float64(s.Seconds), refused, used/honest.took().Seconds())
		return honest.P99, nil
	}
	if _, err := measure("to warm up", ""); err != nil {
		return nil, err
	}
	r.Series = nil
	calm, err := measure("no flood", "")
	if err != nil {
		return nil, err
	}
	for _, name := range floodNames() {
		p99, err := measure(name, name)
		if err != nil {
			return nil, err
		}
		r.ratio("p99 with "+name+" / without", p99/calm, "")
	}
	r.Notes = []string{
		fmt.Sprintf("%d honest subscribers get %d changes a second, each frame checked; %d foes from 4 addresses.", s.Subscribers, s.PerSecond, s.Foes),
		"Clients, foes, Postgres and the service share the machine: what foes spend is missing to the others too.",
	}
	return r, nil
}

func floodNames() []string {
	var out []string
	for name := range floods {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
