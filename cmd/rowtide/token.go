package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/rowtide/rowtide"
)

// signingFlags are those of commands that sign tokens.
type signingFlags struct {
	JWTSecret   string `name:"jwt-secret" help:"Secret that signs the token, as given to serve."`
	JWTIssuer   string `name:"jwt-issuer" help:"Issuer that the token names."`
	JWTAudience string `name:"jwt-audience" help:"Audience that the token names."`
	RoleClaim   string `help:"Claim that names the role." default:"role"`
}

func (f signingFlags) sign(role, claims string, life time.Duration) (string, error) {
	if f.JWTSecret == "" {
		return "", errors.New("no secret to sign a token with: set --jwt-secret to that of the service")
	}
	return rowtide.Token(rowtide.Config{
		JWTSecret: f.JWTSecret, JWTIssuer: f.JWTIssuer, JWTAudience: f.JWTAudience, RoleClaim: f.RoleClaim,
	}, role, json.RawMessage(claims), life)
}

type tokenCmd struct {
	Role    string        `help:"Postgres role." required:""`
	Claims  string        `help:"Further claims, a JSON object." placeholder:"JSON"`
	Expires time.Duration `help:"How long the token is good for." default:"1h"`
	signingFlags
}

// Help is shown between the summary and the flags.
func (tokenCmd) Help() string {
	return `For development and tests; in earnest your own login signs tokens, with the same secret.

  rowtide token --role web_user --claims '{"sub":"ana","team":7}' --jwt-secret …
  curl -H "Authorization: Bearer $(rowtide token --role web_user)" … # with ROWTIDE_JWT_SECRET set`
}

func (c tokenCmd) Run(s streams) error {
	token, err := c.sign(c.Role, c.Claims, c.Expires)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(s.Out, token)
	return err
}
