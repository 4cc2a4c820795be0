package main

import (
	"context"
	"encoding/json"

	"github.com/rowtide/rowtide/bench"
)

type benchCmd struct {
	Latency latencyCmd `cmd:"" help:"Commit to frame, against commit to a raw replication consumer."`
}

type latencyCmd struct {
	Rounds int  `help:"Commits measured, after a tenth as many to warm up." default:"2000"`
	JSON   bool `name:"json" help:"Print JSON rather than a table."`
}

func (c latencyCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Latency(ctx, bench.LatencyConfig{Rounds: c.Rounds})
	if err != nil {
		return err
	}
	if c.JSON {
		return json.NewEncoder(s.Out).Encode(r)
	}
	return r.Print(s.Out)
}
