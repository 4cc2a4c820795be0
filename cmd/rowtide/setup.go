package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

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
	Save  bool     `help:"Write rowtide.yaml with all that serve needs, a new jwt-secret among it."`
}

// Help is shown between the summary and the flags.
func (setupCmd) Help() string {
	return `To see what would be done, as SQL, and then to do it:

  rowtide setup --admin-url postgres://postgres@localhost/app --roles web_user --dry-run
  rowtide setup --admin-url postgres://postgres@localhost/app --roles web_user --save
  rowtide serve

It may be repeated, and rowtide migrate down takes it all back. Hosts without a superuser (Supabase, RDS, Cloud SQL, Neon, Azure)
are known by what the server says of itself: docs/hosts.`
}

func (c setupCmd) Run(ctx context.Context, s streams) error {
	if c.Save {
		if err := refuseToOverwrite(defaultConfig); err != nil {
			return err
		}
	}
	report, err := rowtide.Setup(ctx, rowtide.SetupConfig{
		AdminURL: c.AdminURL, Roles: c.Roles, Login: c.Login, Schemas: c.Schemas,
		Publication: c.Publication, Slot: c.Slot, Annotations: c.Annotations, Yes: c.Yes, DryRun: c.sql(s),
	})
	printReport(s, report, err)
	if err != nil || c.DryRun {
		return err
	}
	if c.Save {
		return c.save(s, report.DatabaseURL)
	}
	_, err = fmt.Fprintf(s.Out, "\nNow run:\n\n  rowtide serve --database-url '%s' --roles %s --jwt-secret \"$(openssl rand -hex 32)\"%s\n",
		report.DatabaseURL, strings.Join(c.Roles, ","), c.otherFlags())
	return err
}

// A setting is one that is not left at its default.
type setting struct{ name, value string }

// changed are what serve must be told too.
func (c setupCmd) changed() []setting {
	var out []setting
	for _, f := range []struct{ name, value, otherwise string }{
		{"schemas", strings.Join(c.Schemas, ","), "public"},
		{"publication", c.Publication, "rowtide"},
		{"slot", c.Slot, "rowtide"},
		{"annotations", c.Annotations, ""},
	} {
		if f.value != f.otherwise {
			out = append(out, setting{f.name, f.value})
		}
	}
	return out
}

// otherFlags repeats for serve what was not left at its default.
func (c setupCmd) otherFlags() string {
	var b strings.Builder
	for _, f := range c.changed() {
		fmt.Fprintf(&b, " --%s %s", f.name, f.value)
	}
	return b.String()
}

func refuseToOverwrite(file string) error {
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is there already: move it away, or leave --save out", file)
	}
	return nil
}

// save writes rowtide.yaml, for its owner alone: it holds secrets.
func (c setupCmd) save(s streams, databaseURL string) error {
	settings := append([]setting{
		{"database-url", databaseURL},
		{"roles", strings.Join(c.Roles, ",")},
		{"jwt-secret", rowtide.NewSecret()},
	}, c.changed()...)
	var b strings.Builder
	b.WriteString("# Written by rowtide setup --save. It holds secrets: keep it to yourself.\n")
	for _, f := range settings {
		value, err := yaml.Marshal(f.value)
		if err != nil {
			return fmt.Errorf("write %s: %w", defaultConfig, err)
		}
		fmt.Fprintf(&b, "%s: %s", f.name, value)
	}
	if err := os.WriteFile(defaultConfig, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", defaultConfig, err)
	}
	_, err := fmt.Fprintf(s.Out, "\nrowtide.yaml is written. Now run, in this folder:\n\n  rowtide serve\n")
	return err
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
