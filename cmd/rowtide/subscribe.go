package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/rowtide/rowtide/internal/client"
)

type subscribeCmd struct {
	Query string `arg:"" help:"The subscription."`
	URL   string `help:"The service." default:"ws://127.0.0.1:8080/graphql"`
	Token string `help:"Token; without it the client is anonymous." env:"ROWTIDE_TOKEN"`
}

func (c subscribeCmd) Run(ctx context.Context, s streams) error {
	conn, err := client.Dial(ctx, c.URL, c.Token)
	switch {
	case err != nil && ctx.Err() != nil: // interrupted before it had begun
		return nil
	case err != nil:
		return c.explain(err)
	}
	defer conn.CloseNow() //nolint:errcheck // it was read, and is of no more use
	if err := conn.Subscribe(ctx, "1", c.Query, nil); err != nil {
		return err
	}
	for {
		m, err := conn.Next(ctx)
		switch {
		case ctx.Err() != nil: // interrupted: that is how it is ended
			return nil
		case err != nil:
			return c.explain(err)
		}
		switch m.Type {
		case "next":
			if _, err := fmt.Fprintf(s.Out, "%s\n", m.Payload); err != nil {
				return err
			}
		case "error":
			return refused(m.Payload)
		case "complete":
			return nil
		}
	}
}

// explain says what to do where the service does not take the token.
func (c subscribeCmd) explain(err error) error {
	var closed *client.Closed
	if !errors.As(err, &closed) || closed.Code != 4401 && closed.Code != 4403 {
		return err
	}
	if c.Token == "" {
		return fmt.Errorf("%w: set --token; rowtide token makes one", err)
	}
	return fmt.Errorf("%w: rowtide token makes another; --jwt-secret and --role must be as the service has them", err)
}

// refused turns the errors of an operation into one line.
func refused(payload json.RawMessage) error {
	var list []struct {
		Message    string
		Extensions struct{ Code, Reason string }
	}
	if err := json.Unmarshal(payload, &list); err != nil || len(list) == 0 {
		return errors.New("the service refused the subscription without a reason")
	}
	e := list[0]
	if e.Extensions.Reason != "" {
		return fmt.Errorf("%s (%s, %s)", e.Message, e.Extensions.Code, e.Extensions.Reason)
	}
	return fmt.Errorf("%s (%s)", e.Message, e.Extensions.Code)
}
