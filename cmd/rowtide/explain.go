package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/rowtide/rowtide"
)

type explainCmd struct {
	Query        string   `arg:"" help:"The subscription."`
	DatabaseURL  string   `help:"URL of the service login, or of a superuser." placeholder:"URL" required:""`
	AdminURL     string   `help:"URL of a superuser, who sees the row." placeholder:"URL"`
	Schemas      []string `help:"Served schemas." default:"public"`
	Publication  string   `help:"Publication." default:"rowtide"`
	Annotations  string   `help:"File of COMMENT ON statements that stand for the comments in the database." placeholder:"FILE.sql"`
	Role         string   `help:"Role of the subscriber." required:""`
	Claims       string   `help:"Claims of the subscriber's token, a JSON object." placeholder:"JSON"`
	RoleClaim    string   `help:"Claim that names the role." default:"role"`
	ClaimSetting []string `help:"Setting that policies read, and the claim it takes: app.tenant=tenant.id. Repeatable." placeholder:"GUC=CLAIM"`
	Variables    string   `help:"Variables of the subscription, a JSON object." placeholder:"JSON"`
	Row          string   `help:"Key of a row: why it is delivered, or not. A JSON object where the key has several columns." placeholder:"KEY"`
	JSON         bool     `name:"json" help:"Print JSON."`
}

// Help is shown between the summary and the flags.
func (explainCmd) Help() string {
	return `Which way each policy takes and why not a faster one, and what the index goes by; with --row why that row, as it is now, is
delivered or not:

  rowtide explain 'subscription { tasks { kind row { id } } }' --role web_user --claims '{"sub":"ana"}' --row 7 \
    --database-url postgres://rowtide:…@db/app --admin-url postgres://postgres@db/app

compiled: evaluated in process, on the row and the claims alone. set: in process too, with what the policy asks of other tables
kept there. postgres: PostgreSQL is asked about each change.`
}

func (c explainCmd) Run(ctx context.Context, s streams) error {
	report, problems, err := rowtide.Explain(ctx, rowtide.ExplainConfig{
		ReadConfig: rowtide.ReadConfig{URL: c.DatabaseURL, Schemas: c.Schemas, Annotations: c.Annotations}, AdminURL: c.AdminURL,
		Role: c.Role, Publication: c.Publication, Claims: json.RawMessage(c.Claims), RoleClaim: c.RoleClaim, ClaimSettings: c.ClaimSetting,
		Query: c.Query, Variables: json.RawMessage(c.Variables), Row: c.Row,
	})
	if err != nil {
		printProblems(s, problems) // the table may not be served because of one
		return err
	}
	if c.JSON {
		return writeJSON(s.Out, report)
	}
	_, err = fmt.Fprint(s.Out, report)
	return err
}
