package bench

import (
	"context"
	"fmt"
	"slices"
)

// AbuseConfig sets up Abuse.
type AbuseConfig struct {
	// Subscribers is how many honest sockets there are, with one subscription each. Defaults to
	// 1,000.
	Subscribers int
	// Rate is how many changes a second each of them gets. Defaults to 5.
	Rate int
	// Seconds is how long each kind of flood lasts. Defaults to 5.
	Seconds int
	// Foes is how many clients flood at once, from four addresses. Defaults to 32.
	Foes int
}

// Abuse measures how long changes take to honest subscribers while others flood the service in one
// way after another, against the same without a flood. The service has its default limits; the
// floods come by way of a proxy that it trusts, from addresses of their own.
func Abuse(ctx context.Context, cfg AbuseConfig) (*Result, error) {
	for _, d := range []struct {
		v         *int
		otherwise int
	}{{&cfg.Subscribers, 1000}, {&cfg.Rate, 5}, {&cfg.Seconds, 5}, {&cfg.Foes, 32}} {
		if *d.v <= 0 {
			*d.v = d.otherwise
		}
	}
	return onBed(ctx, bedConfig{schema: schema, clients: true, limited: true}, func(ctx context.Context, b *bed) (*Result, error) {
		return b.abuse(ctx, cfg)
	})
}

func (b *bed) abuse(ctx context.Context, cfg AbuseConfig) (*Result, error) {
	foes, err := startLoad(ctx)
	if err != nil {
		return nil, err
	}
	defer foes.close()
	if _, err := b.load.do(order{Do: doOpen, Address: b.address(), Sockets: cfg.Subscribers, PerSocket: 1, Query: feedQuery, Subject: "u{socket}"}); err != nil {
		return nil, err
	}
	r := newResult("abuse", b.version, 1, "p50 ms", "p99 ms", "max ms", "tried/s", "refused %", "CPUs of the service")
	first := 1
	measure := func(name, flood string) (float64, error) {
		if err := foes.tell(order{Do: doFlood, Flood: flood, Address: b.address(), Sockets: cfg.Foes, Seconds: cfg.Seconds}); err != nil {
			return 0, err
		}
		cpu := cpuTime()
		honest, err := b.load.do(order{Do: doWrite, URL: b.url, Rate: cfg.Rate, Seconds: cfg.Seconds, PerTransaction: 1, First: first, Subscriptions: cfg.Subscribers})
		if err != nil {
			return 0, fmt.Errorf("while flooded with %s: %w", name, err)
		}
		first += cfg.Rate * cfg.Seconds
		used := (cpuTime() - cpu).Seconds()
		tried, err := foes.hear()
		if err != nil {
			return 0, err
		}
		refused := nan
		if tried.Frames > 0 {
			refused = 100 * float64(tried.Written) / float64(tried.Frames)
		}
		r.add(name, honest.P50/1e3, honest.P99/1e3, honest.Max/1e3, float64(tried.Frames)/float64(cfg.Seconds), refused, used/honest.took().Seconds())
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
		fmt.Sprintf("%d honest subscribers get %d changes a second, each frame checked; %d foes from 4 addresses.", cfg.Subscribers, cfg.Rate, cfg.Foes),
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
