package main

import (
	"context"
	"time"

	"github.com/rowtide/rowtide/internal/demo"
)

type demoCmd struct {
	Listen     string        `help:"Address to serve at; by default another port is taken where this one is in use." default:""`
	Every      time.Duration `help:"Time between two writes." default:"500ms"`
	Postgres   string        `help:"Where its PostgreSQL comes from: this machine's server binaries, Docker, a download into the cache, or the first of them that can be had." enum:"auto,local,docker,download" default:"auto"`
	Repository string        `help:"Maven repository of the download." default:"https://repo1.maven.org/maven2" placeholder:"URL"`
	LogFormat  string        `help:"Format of the log on standard error." enum:"text,json" default:"text"`
	LogLevel   string        `help:"Least severity that is logged." enum:"debug,info,warn,error" default:"warn"`
}

// Help is shown between the summary and the flags.
func (demoCmd) Help() string {
	return `Nothing has to be set up, and nothing stays behind: Ctrl-C removes it all.

  rowtide demo
  rowtide demo --postgres docker --every 2s`
}

func (c demoCmd) Run(ctx context.Context, s streams) error {
	cfg := demo.Config{Listen: c.Listen, Every: c.Every, Out: s.Out, Logger: logFlags{c.LogFormat, c.LogLevel}.logger(s.Err)}
	cfg.Postgres = demo.PostgresConfig{Choice: demo.Choice(c.Postgres), Repository: c.Repository, Out: s.Err}
	if cfg.Listen == "" {
		cfg.Listen, cfg.Fallback = "127.0.0.1:8080", true
	}
	return demo.Run(ctx, cfg)
}
