package main

import (
	"context"
	"fmt"
	"io"

	"github.com/rowtide/rowtide/migrations"
)

type migrateCmd struct {
	Up     migrateUpCmd     `cmd:"" help:"Make or update Rowtide's own objects."`
	Down   migrateDownCmd   `cmd:"" help:"Remove everything that Rowtide made and restore what sync changed."`
	Status migrateStatusCmd `cmd:"" help:"Tell how far the migrations are."`
}

type migrateUpCmd struct {
	AdminURL string `help:"URL of a superuser or owner." placeholder:"URL" required:""`
	DryRun   bool   `help:"Print the SQL and change nothing."`
}

// Help is shown between the summary and the flags.
func (migrateUpCmd) Help() string {
	return `setup does it too; it is needed by itself where a new version of Rowtide says so:

  rowtide migrate up --admin-url postgres://postgres@localhost/app`
}

func (c migrateUpCmd) Run(ctx context.Context, s streams) error {
	report, err := migrations.Up(ctx, migrations.UpConfig{AdminURL: c.AdminURL, DryRun: adminFlags{DryRun: c.DryRun}.sql(s)})
	_, _ = io.WriteString(s.Err, report.String())
	return err
}

type migrateDownCmd struct {
	AdminURL string   `help:"URL of a superuser or owner." placeholder:"URL" required:""`
	Slot     []string `help:"Further slots to drop. Repeatable."`
	DryRun   bool     `help:"Print the SQL and change nothing."`
}

// Help is shown between the summary and the flags.
func (migrateDownCmd) Help() string {
	return `Stop the service first. Nothing stays behind but what others have come to use:

  rowtide migrate down --admin-url postgres://postgres@localhost/app --dry-run
  rowtide migrate down --admin-url postgres://postgres@localhost/app`
}

func (c migrateDownCmd) Run(ctx context.Context, s streams) error {
	report, err := migrations.Down(ctx, migrations.DownConfig{
		AdminURL: c.AdminURL, Slots: c.Slot, DryRun: adminFlags{DryRun: c.DryRun}.sql(s),
	})
	_, _ = io.WriteString(s.Err, report.String())
	return err
}

type migrateStatusCmd struct {
	AdminURL string `help:"URL of a superuser or owner." placeholder:"URL" required:""`
}

// Help is shown between the summary and the flags.
func (migrateStatusCmd) Help() string {
	return `  rowtide migrate status --admin-url postgres://postgres@localhost/app`
}

func (c migrateStatusCmd) Run(ctx context.Context, s streams) error {
	status, err := migrations.ReadStatus(ctx, c.AdminURL)
	if err != nil {
		return err
	}
	triggers := "changes of the catalog are polled for"
	if status.EventTriggers {
		triggers = "changes of the catalog are announced by event triggers"
	}
	interrupted := ""
	if status.Interrupted {
		interrupted = ", interrupted: run rowtide migrate up to finish it"
	}
	_, err = fmt.Fprintf(s.Out, "version %d of %d%s; %s\n", status.Version, status.Latest, interrupted, triggers)
	return err
}
