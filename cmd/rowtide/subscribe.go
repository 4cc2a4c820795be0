package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/rowtide/rowtide/internal/client"
	"github.com/rowtide/rowtide/internal/livetable"
)

type subscribeCmd struct {
	Query     string `arg:"" help:"The subscription."`
	URL       string `help:"The service." default:"ws://127.0.0.1:8080/graphql"`
	Token     string `help:"Token; without one, and without --role, the client is anonymous."`
	Role      string `help:"Postgres role: a token is signed with --jwt-secret, instead of --token."`
	Claims    string `help:"Further claims of that token, a JSON object." placeholder:"JSON"`
	Variables string `help:"Variables of the subscription, a JSON object." placeholder:"JSON"`
	JSON      bool   `name:"json" help:"Print JSON lines in a terminal too."`
	signingFlags
}

// Help is shown between the summary and the flags.
func (subscribeCmd) Help() string {
	return `In a terminal the rows are shown as a table that lives: + new, ~ changed, - gone. Piped, each result is a line of JSON:

  rowtide subscribe --role web_user --claims '{"sub":"ana"}' --jwt-secret … \
    'subscription { tasks(snapshot: true) { kind row { id title done } } }'

  rowtide subscribe --token "$TOKEN" 'subscription { tasks { kind rowId row { id } } }' | jq .data.tasks.kind

When the connection is lost it comes back and goes on behind the last result; a cursor that it starts behind can be given as the
argument after. A subscription with snapshot: true starts over where its cursor is not held any more; any other ends then.`
}

func (c subscribeCmd) Run(ctx context.Context, s streams) error {
	f := &client.Follower{URL: c.URL, Token: c.token, Fresh: c.Role != ""}
	if c.Token != "" && c.Role != "" {
		return errors.New("both --token and --role are given: keep one")
	}
	if c.Variables != "" && json.Unmarshal([]byte(c.Variables), &f.Variables) != nil {
		return errors.New(`--variables is no JSON object: write it like {"done":false}`)
	}
	screen, interactive := terminal(s.Out)
	f.Document = client.ParseDocument(c.Query, interactive && !c.JSON)
	if c.JSON || !interactive || f.Document.Kind == "" || len(f.Document.Columns) == 0 {
		f.Document = client.ParseDocument(c.Query, false)
		return c.explain(c.lines(ctx, f, s))
	}
	return c.explain(c.table(ctx, f, screen))
}

// lines prints each result on a line.
func (c subscribeCmd) lines(ctx context.Context, f *client.Follower, s streams) error {
	f.Result = func(r client.Result) error {
		_, err := fmt.Fprintf(s.Out, "%s\n", r.Payload)
		return err
	}
	f.Lost = func(why error, wait time.Duration) {
		_, _ = fmt.Fprintf(s.Err, "connection lost (%s), next try in %s\n", why, wait.Round(time.Millisecond))
	}
	return f.Run(ctx)
}

// table shows the rows.
func (c subscribeCmd) table(ctx context.Context, f *client.Follower, screen livetable.Screen) error {
	d := f.Document
	t := livetable.New(strings.Join(strings.Fields(c.Query), " "), d.Columns)
	f.Result = func(r client.Result) error {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal(r.Data, &fields); err != nil {
			return fmt.Errorf("read change: %w", err)
		}
		var change livetable.Change
		for name, into := range map[string]any{d.Kind: &change.Kind, d.RowID: &change.RowID, d.Row: &change.Row} {
			if v := fields[name]; v != nil {
				if err := json.Unmarshal(v, into); err != nil {
					return fmt.Errorf("read change: %w", err)
				}
			}
		}
		t.Apply(change, time.Now())
		return nil
	}
	f.Lost = func(why error, wait time.Duration) {
		t.Say(fmt.Sprintf("connection lost (%s), next try in %s", why, wait.Round(100*time.Millisecond)))
	}
	f.Found = func() { t.Say("connected again") }
	return screen.Show(ctx, t, f.Run)
}

// terminal tells whether w is one.
func terminal(w io.Writer) (livetable.Screen, bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || os.Getenv("TERM") == "dumb" {
		return livetable.Screen{}, false
	}
	size := func() (int, int) {
		wide, high, err := term.GetSize(int(f.Fd()))
		if err != nil || wide <= 0 || high <= 0 {
			return 80, 24
		}
		return wide, high
	}
	_, plain := os.LookupEnv("NO_COLOR")
	return livetable.Screen{Out: w, Size: size, Style: livetable.Style{Color: !plain}}, true
}

// token is what the client shows at each connection.
func (c subscribeCmd) token() (string, error) {
	if c.Role == "" {
		return c.Token, nil
	}
	return c.sign(c.Role, c.Claims, time.Hour)
}

// explain says what to do where the service does not take the token.
func (c subscribeCmd) explain(err error) error {
	var closed *client.Closed
	if !errors.As(err, &closed) || closed.Code != 4401 && closed.Code != 4403 {
		return err
	}
	if c.Token == "" && c.Role == "" {
		return fmt.Errorf("%w: set --token, or --role and --jwt-secret", err)
	}
	return fmt.Errorf("%w: rowtide token makes another; --jwt-secret and --role must be as the service has them", err)
}
