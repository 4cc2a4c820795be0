package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/rowtide/rowtide"
	"github.com/rowtide/rowtide/schema"
)

type lintCmd struct {
	DatabaseURL string   `help:"URL of any login of the database." placeholder:"URL" required:""`
	Schemas     []string `help:"Served schemas." default:"public"`
	Annotations string   `help:"File of COMMENT ON statements that stand for the comments in the database." placeholder:"FILE.sql"`
	Format      string   `help:"How to print: for people, as JSON, or as annotations of a GitHub workflow." enum:"human,json,github" default:"human"`
	JSON        bool     `name:"json" help:"Short for --format json."`
	Dump        bool     `help:"Write all annotations as COMMENT ON statements instead."`
}

// Help is shown between the summary and the flags.
func (lintCmd) Help() string {
	return `The exit status is 1 where a mistake keeps a table from being served, and 0 where there are notes alone.

To keep the annotations in a file beside the code, and check that:

  rowtide lint --database-url postgres://localhost/app --dump > annotations.sql
  rowtide lint --database-url postgres://localhost/app --annotations annotations.sql --format github`
}

func (c lintCmd) Run(ctx context.Context, s streams) error {
	report, err := rowtide.Lint(ctx, rowtide.ReadConfig{URL: c.DatabaseURL, Schemas: c.Schemas, Annotations: c.Annotations})
	if err != nil {
		return err
	}
	if c.Dump {
		_, err := io.WriteString(s.Out, report.SQL)
		return err
	}
	show := printForPeople
	switch {
	case c.JSON || c.Format == "json":
		show = printAsJSON
	case c.Format == "github":
		show = printForGitHub
	}
	if err := show(s.Out, report.Problems); err != nil {
		return err
	}
	mistakes := 0
	for _, p := range report.Problems {
		if !p.Note() {
			mistakes++
		}
	}
	if mistakes > 0 {
		return fmt.Errorf("annotations: %s to correct", count(mistakes, "mistake"))
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func severity(p schema.Problem) string {
	if p.Note() {
		return "note"
	}
	return "error"
}

func printForPeople(w io.Writer, problems []schema.Problem) error {
	if len(problems) == 0 {
		_, err := io.WriteString(w, "The annotations are good.\n")
		return err
	}
	var b strings.Builder
	for _, p := range problems {
		where := p.Object
		if p.File != "" {
			where += ", " + p.File
		}
		if p.Line > 0 {
			where += fmt.Sprintf(", line %d, column %d", p.Line, p.Column)
		}
		fmt.Fprintf(&b, "%-5s  %s: %s\n", severity(p), where, p.Message)
		if p.Hint != "" {
			fmt.Fprintf(&b, "       → %s\n", p.Hint)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// A lintLine is a problem in JSON.
type lintLine struct {
	Severity string `json:"severity"`
	Object   string `json:"object"`
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Column   int    `json:"column,omitempty"`
	Message  string `json:"message"`
	Hint     string `json:"hint,omitempty"`
}

func printAsJSON(w io.Writer, problems []schema.Problem) error {
	lines := make([]lintLine, len(problems))
	for i, p := range problems {
		lines[i] = lintLine{severity(p), p.Object, p.File, p.Line, p.Column, p.Message, p.Hint}
	}
	return writeJSON(w, lines)
}

// writeJSON leaves <, > and & as they are: it is for terminals and programs, not for pages.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printForGitHub prints workflow commands. Comments in the database have no file: their place goes
// into the message.
func printForGitHub(w io.Writer, problems []schema.Problem) error {
	message := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	var b strings.Builder
	for _, p := range problems {
		command := map[string]string{"error": "error", "note": "notice"}[severity(p)]
		place := ""
		if p.File != "" {
			place = fmt.Sprintf("file=%s,line=%d,col=%d,", property.Replace(p.File), p.Line, p.Column)
		}
		fmt.Fprintf(&b, "::%s %stitle=%s::%s\n", command, place, property.Replace(p.Object), message.Replace(p.String()))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
