package main

import (
	"context"
	"fmt"

	"github.com/rowtide/rowtide"
)

type schemaCmd struct {
	DatabaseURL string   `help:"URL of the service login, or of an admin." placeholder:"URL" required:""`
	Schemas     []string `help:"Served schemas." default:"public"`
	Role        string   `help:"Role whose schema is printed." required:""`
}

func (c schemaCmd) Run(ctx context.Context, s streams) error {
	sdl, problems, err := rowtide.SDL(ctx, c.DatabaseURL, c.Schemas, c.Role)
	if err != nil {
		return err
	}
	printProblems(s, problems)
	_, err = fmt.Fprint(s.Out, sdl)
	return err
}
