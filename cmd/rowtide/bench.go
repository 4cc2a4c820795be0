package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/rowtide/rowtide/bench"
)

type benchCmd struct {
	Latency  benchOf[bench.Latency, *bench.Latency]   `cmd:"" help:"Commit to frame, against commit to a raw replication consumer."`
	Drain    benchOf[bench.Drain, *bench.Drain]       `cmd:"" help:"A backlog of the WAL, against pg_recvlogical."`
	Fanout   benchOf[bench.Fanout, *bench.Fanout]     `cmd:"" help:"Frames to many sockets, against frames that were encoded beforehand."`
	Target   benchOf[bench.Target, *bench.Target]     `cmd:"" help:"A steady rate of changes to subscriptions that all match, every frame checked."`
	RLS      benchOf[bench.RLS, *bench.RLS]           `cmd:"" name:"rls" help:"A change that one of many subscriptions gets, as those become more."`
	Idle     benchOf[bench.Idle, *bench.Idle]         `cmd:"" help:"Memory of connections on which nothing happens."`
	Abuse    benchOf[bench.Abuse, *bench.Abuse]       `cmd:"" help:"Honest subscribers while others flood the service, one way after another."`
	Poison   benchOf[bench.Poison, *bench.Poison]     `cmd:"" help:"Honest subscribers while a policy does something evil for one principal."`
	Snapshot benchOf[bench.Snapshot, *bench.Snapshot] `cmd:"" help:"The rows of a table to a client, against COPY of the same SELECT."`
	Resume   benchOf[bench.Resume, *bench.Resume]     `cmd:"" help:"The changes behind an old cursor, to one client and to many at once."`
	Churn    benchOf[bench.Churn, *bench.Churn]       `cmd:"" help:"Subscribe and complete over and over: memory must not grow."`
	Load     loadCmd                                  `cmd:"" hidden:"" help:"The process that plays the clients; the others start it."`
}

// benchOf is the command of a scenario, whose fields are its flags.
type benchOf[S any, P interface {
	*S
	bench.Scenario
}] struct {
	benchOutput
	Scenario S `embed:""`
}

// Run measures, and shows the result.
func (c *benchOf[S, P]) Run(ctx context.Context, s streams) error {
	r, err := bench.Run(ctx, P(&c.Scenario), c.Profile)
	if err != nil {
		return err
	}
	return c.show(s, r)
}

// benchOutput is how a result is shown.
type benchOutput struct {
	JSON    bool   `name:"json" help:"Print JSON rather than a table."`
	Out     string `help:"Write a chart to this SVG file." placeholder:"FILE"`
	Profile string `help:"Write CPU, allocation and block profiles into this folder." placeholder:"DIR"`
}

func (o benchOutput) show(s streams, r *bench.Result) error {
	if o.Out != "" {
		if err := o.chart(r); err != nil {
			return fmt.Errorf("write chart: %w", err)
		}
	}
	if o.JSON {
		return json.NewEncoder(s.Out).Encode(r)
	}
	return r.Print(s.Out)
}

func (o benchOutput) chart(r *bench.Result) error {
	f, err := os.Create(o.Out)
	if err != nil {
		return err
	}
	return errors.Join(r.Chart(f), f.Close())
}

type loadCmd struct{}

func (loadCmd) Run(ctx context.Context, s streams) error { return bench.Load(ctx, os.Stdin, s.Out) }
