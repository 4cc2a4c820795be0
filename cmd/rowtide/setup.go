package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/migrations"
	"github.com/rowtide/rowtide/schema"
)

// adminFlags are common to the commands that change the database.
type adminFlags struct {
	AdminURL    string   `help:"URL of a superuser, or of a role that owns the tables and may create roles." placeholder:"URL" required:""`
	Schemas     []string `help:"Served schemas." default:"public"`
	Publication string   `help:"Publication." default:"rowtide"`
	Annotations string   `help:"File of COMMENT ON statements that stand for the comments in the database." placeholder:"FILE.sql"`
	DryRun      bool     `help:"Print the SQL and change nothing."`
}

// sql is where a dry run prints to, or nil.
func (f adminFlags) sql(s streams) io.Writer {
	if f.DryRun {
		return s.Out
	}
	return nil
}

type setupCmd struct {
	adminFlags
	Roles []string `help:"Postgres roles that tokens may name." required:""`
	Login string   `help:"Service login." default:"rowtide"`
	Slot  string   `help:"Replication slot that serve will make." default:"rowtide"`
	Yes   bool     `help:"Accept that full replica identity makes updates of wide tables write much more WAL."`
}

func (c setupCmd) Run(ctx context.Context, s streams) error {
	report, err := rowtide.Setup(ctx, rowtide.SetupConfig{
		AdminURL: c.AdminURL, Roles: c.Roles, Login: c.Login, Schemas: c.Schemas,
		Publication: c.Publication, Slot: c.Slot, Annotations: c.Annotations, Yes: c.Yes, DryRun: c.sql(s),
	})
	printReport(s, report, err)
	if err != nil || c.DryRun {
		return err
	}
	_, err = fmt.Fprintf(s.Out, "\nNow run:\n\n  rowtide serve --database-url '%s' --roles %s --jwt-secret \"$(openssl rand -hex 32)\"%s\n",
		report.DatabaseURL, strings.Join(c.Roles, ","), c.otherFlags())
	return err
}

// otherFlags repeats for serve what was not left at its default.
func (c setupCmd) otherFlags() string {
	var b strings.Builder
	for _, f := range []struct{ name, value, otherwise string }{
		{"schemas", strings.Join(c.Schemas, ","), "public"},
		{"publication", c.Publication, "rowtide"},
		{"slot", c.Slot, "rowtide"},
		{"annotations", c.Annotations, ""},
	} {
		if f.value != f.otherwise {
			fmt.Fprintf(&b, " --%s %s", f.name, f.value)
		}
	}
	return b.String()
}

// printReport keeps standard output free for SQL: it goes to standard error. Where an error
// ended it early, what was done is told and the rest is left to the error.
func printReport(s streams, r rowtide.SetupReport, err error) {
	var refused *migrations.RefusedError
	if err != nil && !errors.As(err, &refused) {
		r.Notes, r.Problems = nil, nil
	}
	_, _ = io.WriteString(s.Err, r.String())
	printProblems(s, r.Problems)
}

// printProblems tells of mistakes in annotations.
func printProblems(s streams, problems []schema.Problem) {
	for _, p := range problems {
		_, _ = fmt.Fprintf(s.Err, "problem  %s\n", p)
	}
}
