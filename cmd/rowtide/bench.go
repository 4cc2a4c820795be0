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
	Latency  latencyCmd  `cmd:"" help:"Commit to frame, against commit to a raw replication consumer."`
	Drain    drainCmd    `cmd:"" help:"A backlog of the WAL, against pg_recvlogical."`
	Fanout   fanoutCmd   `cmd:"" help:"Frames to many sockets, against frames that were encoded beforehand."`
	Target   targetCmd   `cmd:"" help:"A steady rate of changes to subscriptions that all match, every frame checked."`
	RLS      rlsCmd      `cmd:"" name:"rls" help:"A change that one of many subscriptions gets, as those become more."`
	Idle     idleCmd     `cmd:"" help:"Memory of connections on which nothing happens."`
	Abuse    abuseCmd    `cmd:"" help:"Honest subscribers while others flood the service, one way after another."`
	Snapshot snapshotCmd `cmd:"" help:"The rows of a table to a client, against COPY of the same SELECT."`
	Resume   resumeCmd   `cmd:"" help:"The changes behind an old cursor, to one client and to many at once."`
	Churn    churnCmd    `cmd:"" help:"Subscribe and complete over and over: memory must not grow."`
	Load     loadCmd     `cmd:"" hidden:"" help:"The process that plays the clients; the others start it."`
}

// benchOutput is how a result is shown.
type benchOutput struct {
	JSON    bool   `name:"json" help:"Print JSON rather than a table."`
	Out     string `help:"Write a chart to this SVG file." placeholder:"FILE"`
	Profile string `help:"Write CPU, allocation and block profiles into this folder." placeholder:"DIR"`
}

func (o benchOutput) show(s streams, r *bench.Result, err error) error {
	if err != nil {
		return err
	}
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

type abuseCmd struct {
	benchOutput
	Subscribers int `help:"Honest subscribers." default:"1000"`
	PerSecond   int `help:"Changes a second that each gets." default:"5"`
	Seconds     int `help:"How long each flood lasts." default:"5"`
	Foes        int `help:"Clients that flood." default:"32"`
}

func (c abuseCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Abuse(ctx, bench.AbuseConfig{Subscribers: c.Subscribers, Rate: c.PerSecond, Seconds: c.Seconds, Foes: c.Foes})
	return c.show(s, r, err)
}

type latencyCmd struct {
	benchOutput
	Rounds      int `help:"Commits measured, after a tenth as many to warm up." default:"2000"`
	Subscribers int `help:"Sockets that get each commit in the last part." default:"100"`
}

func (c latencyCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Latency(ctx, bench.LatencyConfig{Rounds: c.Rounds, Subscribers: c.Subscribers, Profile: c.Profile})
	return c.show(s, r, err)
}

type drainCmd struct {
	benchOutput
	Rounds  int `help:"How often each side drains." default:"5"`
	Changes int `help:"Changes to drain, 100 a transaction." default:"300000"`
}

func (c drainCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Drain(ctx, bench.DrainConfig{Rounds: c.Rounds, Changes: c.Changes, Profile: c.Profile})
	return c.show(s, r, err)
}

type fanoutCmd struct {
	benchOutput
	Rounds  int `help:"How often each side sends." default:"5"`
	Sockets int `help:"Sockets, with one subscription each." default:"1000"`
	Rows    int `help:"Rows of the transaction that all of them get." default:"1000"`
}

func (c fanoutCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Fanout(ctx, bench.FanoutConfig{Rounds: c.Rounds, Sockets: c.Sockets, Rows: c.Rows, Profile: c.Profile})
	return c.show(s, r, err)
}

type targetCmd struct {
	benchOutput
	PerSecond      int `help:"Changes a second." default:"10000"`
	Seconds        int `help:"How long they are written." default:"30"`
	Subscribers    int `help:"Subscriptions that get every change." default:"100"`
	PerSocket      int `help:"How many of them share a socket." default:"1"`
	PerTransaction int `help:"Changes a transaction." default:"100"`
}

func (c targetCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Target(ctx, bench.TargetConfig{
		Rate: c.PerSecond, Seconds: c.Seconds, Subscribers: c.Subscribers, PerSocket: c.PerSocket, PerTransaction: c.PerTransaction, Profile: c.Profile,
	})
	return c.show(s, r, err)
}

type rlsCmd struct {
	benchOutput
	Changes       int   `help:"Changes made one by one with each number of subscriptions." default:"1000"`
	Subscriptions []int `help:"Numbers of subscriptions." default:"1,100,10000,100000"`
}

func (c rlsCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.RLS(ctx, bench.RLSConfig{Changes: c.Changes, Subscriptions: c.Subscriptions, Profile: c.Profile})
	return c.show(s, r, err)
}

type idleCmd struct {
	benchOutput
	Rounds  int `help:"How often each side is measured." default:"1"`
	Sockets int `help:"Connections." default:"10000"`
	Further int `help:"Further subscriptions on each of a tenth of the connections." default:"50"`
}

func (c idleCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Idle(ctx, bench.IdleConfig{Rounds: c.Rounds, Sockets: c.Sockets, Further: c.Further, Profile: c.Profile})
	return c.show(s, r, err)
}

type churnCmd struct {
	benchOutput
	Times   int `help:"How often a client subscribes and completes." default:"1000000"`
	Sockets int `help:"Connections." default:"1000"`
}

func (c churnCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Churn(ctx, bench.ChurnConfig{Times: c.Times, Sockets: c.Sockets, Profile: c.Profile})
	return c.show(s, r, err)
}

type snapshotCmd struct {
	benchOutput
	Rounds   int `help:"How often each side reads." default:"5"`
	Rows     int `help:"Rows of the table." default:"100000"`
	Together int `help:"Clients that start at once in the last part." default:"20"`
}

func (c snapshotCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Snapshot(ctx, bench.SnapshotConfig{Rounds: c.Rounds, Rows: c.Rows, Together: c.Together, Profile: c.Profile})
	return c.show(s, r, err)
}

type resumeCmd struct {
	benchOutput
	Rounds  int `help:"How often each part is measured." default:"3"`
	Changes int `help:"Changes behind the cursor, 100 a transaction." default:"100000"`
	Clients int `help:"Clients that resume at once in the last part, behind a tenth as many." default:"200"`
}

func (c resumeCmd) Run(ctx context.Context, s streams) error {
	r, err := bench.Resume(ctx, bench.ResumeConfig{Rounds: c.Rounds, Changes: c.Changes, Clients: c.Clients, Profile: c.Profile})
	return c.show(s, r, err)
}

type loadCmd struct{}

func (loadCmd) Run(ctx context.Context, s streams) error { return bench.Load(ctx, os.Stdin, s.Out) }
