package main

import (
	"context"
	"fmt"

	"github.com/rowtide/rowtide"
)

type schemaCmd struct {
	DatabaseURL string   `help:"URL of the service login, or of an admin." placeholder:"URL" required:""`
	Schemas     []string `help:"Served schemas." default:"public"`
	Annotations string   `help:"File of COMMENT ON statements that stand for the comments in the database." placeholder:"FILE.sql"`
	Role        string   `help:"Role whose schema is printed." required:""`
}

// Help is shown between the summary and the flags.
func (schemaCmd) Help() string {
	return `For code generators, and to see what a role may read:

  rowtide schema --database-url postgres://postgres@localhost/app --role web_user > schema.graphql`
}

func (c schemaCmd) Run(ctx context.Context, s streams) error {
	sdl, problems, err := rowtide.SDL(ctx, rowtide.ReadConfig{URL: c.DatabaseURL, Schemas: c.Schemas, Annotations: c.Annotations}, c.Role)
	if err != nil {
		return err
	}
	printProblems(s, problems)
	_, err = fmt.Fprint(s.Out, sdl)
	return err
}
