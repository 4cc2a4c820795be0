package main

import (
	"context"

	"github.com/rowtide/rowtide"
)

type syncCmd struct {
	adminFlags
	Login string `help:"Service login, which gets USAGE on the schemas that it needs." default:"rowtide"`
	Yes   bool   `help:"Accept that full replica identity makes updates of wide tables write much more WAL."`
}

// Help is shown between the summary and the flags.
func (syncCmd) Help() string {
	return `Run it when annotations have changed, unless serve has an --admin-url and does it by itself:

  rowtide sync --admin-url postgres://postgres@localhost/app --dry-run
  rowtide sync --admin-url postgres://postgres@localhost/app`
}

func (c syncCmd) Run(ctx context.Context, s streams) error {
	report, err := rowtide.Sync(ctx, rowtide.SetupConfig{
		AdminURL: c.AdminURL, Login: c.Login, Schemas: c.Schemas, Publication: c.Publication,
		Annotations: c.Annotations, Yes: c.Yes, DryRun: c.sql(s),
	})
	printReport(s, report, err)
	return err
}
