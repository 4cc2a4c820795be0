package main

import (
	"context"
	"time"

	"github.com/rowtide/rowtide/internal/demo"
)

type demoCmd struct {
	Listen    string        `help:"Address to serve at; by default another port is taken where this one is in use." default:""`
	Every     time.Duration `help:"Time between two writes." default:"500ms"`
	LogFormat string        `help:"Format of the log on standard error." enum:"text,json" default:"text"`
	LogLevel  string        `help:"Least severity that is logged." enum:"debug,info,warn,error" default:"warn"`
}

func (c demoCmd) Run(ctx context.Context, s streams) error {
	cfg := demo.Config{Listen: c.Listen, Every: c.Every, Out: s.Out, Logger: logFlags{c.LogFormat, c.LogLevel}.logger(s.Err)}
	if cfg.Listen == "" {
		cfg.Listen, cfg.Fallback = "127.0.0.1:8080", true
	}
	return demo.Run(ctx, cfg)
}
