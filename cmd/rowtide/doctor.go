package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/rowtide/rowtide/internal/doctor"
	"github.com/rowtide/rowtide/schema/annotation"
)

type doctorCmd struct {
	DatabaseURL string   `help:"URL of the service login, as serve gets it." placeholder:"URL"`
	AdminURL    string   `help:"URL of a superuser or owner, who sees more." placeholder:"URL"`
	Roles       []string `help:"Postgres roles that tokens may name."`
	AnonRole    string   `help:"Role of clients without a token."`
	Schemas     []string `help:"Served schemas." default:"public"`
	Slot        string   `help:"Replication slot." default:"rowtide"`
	Publication string   `help:"Publication." default:"rowtide"`
	Annotations string   `help:"File of COMMENT ON statements that stand for the comments in the database." placeholder:"FILE.sql"`
	JSON        bool     `name:"json" help:"Print JSON."`
}

// Help is shown between the summary and the flags.
func (doctorCmd) Help() string {
	return `Give it the URL, roles, schemas, slot and publication that serve gets; with --admin-url it sees more. It changes nothing.

Each finding is a line with its severity, what is concerned and what is wrong, and below it what mends it: SQL to run as an
administrator, or a command. The exit status is 1 where a finding is fatal.

  rowtide doctor # with the settings of rowtide.yaml
  rowtide doctor --admin-url postgres://postgres@localhost/app --roles web_user --json`
}

func (c doctorCmd) Run(ctx context.Context, s streams) error {
	f, err := annotation.ReadFile(c.Annotations)
	if err != nil {
		return err
	}
	roles := c.Roles
	if c.AnonRole != "" {
		roles = append(roles, c.AnonRole)
	}
	findings, err := doctor.Examine(ctx, doctor.Config{
		DatabaseURL: c.DatabaseURL, AdminURL: c.AdminURL, Roles: roles, Schemas: c.Schemas,
		Slot: c.Slot, Publication: c.Publication, Annotations: f,
	})
	if err != nil {
		return err
	}
	show := printFindings
	if c.JSON {
		show = func(w io.Writer, findings []doctor.Finding) error {
			return writeJSON(w, append([]doctor.Finding{}, findings...)) // [] and not null
		}
	}
	if err := show(s.Out, findings); err != nil {
		return err
	}
	fatal := 0
	for _, f := range findings {
		if f.Severity == doctor.Fatal {
			fatal++
		}
	}
	if fatal > 0 {
		return fmt.Errorf("doctor: %s that must be mended", count(fatal, "finding"))
	}
	return nil
}

// printFindings prints the worst first.
func printFindings(w io.Writer, findings []doctor.Finding) error {
	var b strings.Builder
	for severity := doctor.Fatal; severity >= doctor.Note; severity-- {
		for _, f := range findings {
			if f.Severity != severity {
				continue
			}
			b.WriteString(f.String() + "\n")
			for _, fix := range f.Fix {
				b.WriteString("   fix: " + fix + "\n")
			}
		}
	}
	if len(findings) == 0 {
		b.WriteString("All is well.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
