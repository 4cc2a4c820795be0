package rowtide

import (
	"context"
	"errors"

	"github.com/rowtide/rowtide/internal/doctor"
)

// checkDatabase refuses to start where the doctor finds what would keep changes from coming at all.
// What can be lived with for a while is logged.
func checkDatabase(ctx context.Context, cfg Config) error {
	findings, err := doctor.AtStart(ctx, doctorConfig(cfg))
	if err != nil {
		return err
	}
	for _, f := range findings {
		if f.Severity == doctor.Fatal && !f.Late {
			return errors.New(f.Line())
		}
	}
	for _, f := range findings {
		if f.Severity > doctor.Note {
			cfg.Logger.Warn("doctor", "finding", f.Line())
		}
	}
	return nil
}

// examine has the doctor look at tables, grants and policies once the service runs: what is wrong
// with one of them is logged, and keeps no other from being served.
func (p *pipeline) examine(ctx context.Context) error {
	cfg := doctorConfig(p.cfg)
	cfg.AdminURL, cfg.Annotations, cfg.Running = p.cfg.AdminURL, p.source.annotations, true
	findings, err := doctor.Examine(ctx, cfg)
	if err != nil {
		p.log.Debug("doctor could not look at everything", "error", err)
	}
	for _, f := range findings {
		if f.Severity == doctor.Fatal && !f.Late && ctx.Err() == nil {
			p.log.Warn("doctor", "finding", f.Line())
		}
	}
	return nil
}

func doctorConfig(cfg Config) doctor.Config {
	return doctor.Config{
		DatabaseURL: cfg.DatabaseURL, Roles: cfg.roles(), Schemas: cfg.Schemas, Slot: cfg.Slot, Publication: cfg.Publication,
	}
}
