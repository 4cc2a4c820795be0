package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/rowtide/rowtide"
)

type tokenCmd struct {
	JWTSecret   string        `name:"jwt-secret" help:"Secret that signs the token, as given to serve." required:""`
	JWTIssuer   string        `name:"jwt-issuer" help:"Issuer that the token names."`
	JWTAudience string        `name:"jwt-audience" help:"Audience that the token names."`
	RoleClaim   string        `help:"Claim that names the role." default:"role"`
	Role        string        `help:"Postgres role." required:""`
	Claims      string        `help:"Further claims, a JSON object." placeholder:"JSON"`
	Expires     time.Duration `help:"How long the token is good for." default:"1h"`
}

func (c tokenCmd) Run(s streams) error {
	token, err := rowtide.Token(rowtide.Config{
		JWTSecret: c.JWTSecret, JWTIssuer: c.JWTIssuer, JWTAudience: c.JWTAudience, RoleClaim: c.RoleClaim,
	}, c.Role, json.RawMessage(c.Claims), c.Expires)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, token)
	return err
}
