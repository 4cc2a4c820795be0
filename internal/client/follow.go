package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"
)

// A Follower follows one subscription over as many sockets as it takes. Each time it goes on
// behind the cursor of the last result that it handed on.
type Follower struct {
	// URL is the service's, ws:// or wss://.
	URL string
	// Token makes the token of a socket. Defaults to none.
	Token func() (string, error)
	// Fresh tells that Token signs another each time: one that expires is then no end.
	Fresh bool
	// Document is what to follow, and Variables go with it.
	Document  Document
	Variables map[string]any
	// Result gets each result as it came. Its error ends Run.
	Result func(Result) error
	// Lost is told when the connection is, why, and how long until the next try. Found is told
	// when there is one again. Default to nothing.
	Lost  func(why error, wait time.Duration)
	Found func()
}

// A Result is one result of the subscription.
type Result struct {
	// Payload is as it came.
	Payload json.RawMessage
	// Data is the only field of its data.
	Data json.RawMessage
	// Cursor is where to go on; "" where none was given.
	Cursor string
}

// A Refused is how the service ended a subscription.
type Refused struct{ Message, Code, Reason string }

// Error is one line.
func (e *Refused) Error() string {
	if e.Reason != "" {
		return fmt.Sprintf("%s (%s, %s)", e.Message, e.Code, e.Reason)
	}
	return fmt.Sprintf("%s (%s)", e.Message, e.Code)
}

// expired is the close code of a token that has ended.
const expired = 4403

const (
	firstWait = 250 * time.Millisecond
	lastWait  = 10 * time.Second
)

// Run follows until ctx or the subscription ends: then it returns nil. A socket that never was
// opened, a refusal, and a close that says that this client is at fault are errors; all other ends
// of sockets are waited out, for twice as long each time, and a random part of it.
func (f *Follower) Run(ctx context.Context) error {
	after := f.Document.From
	opened := false
	wait := firstWait
	for {
		got, err := f.once(ctx, &after)
		if ctx.Err() != nil || err == nil {
			return nil
		}
		if got {
			opened, wait = true, firstWait
		}
		if !opened || !f.retryable(err) {
			return err
		}
		pause := wait/2 + rand.N(wait/2) //nolint:gosec // spreads clients in time
		if f.Lost != nil {
			f.Lost(err, pause)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil
		}
		wait = min(2*wait, lastWait)
	}
}

// retryable tells whether coming back may help.
func (f *Follower) retryable(err error) bool {
	var closed *Closed
	var refused *Refused
	var stop *stopError
	switch {
	case errors.As(err, &closed):
		return closed.Retryable() && (closed.Code != expired || f.Fresh)
	case errors.As(err, &refused):
		return refused.Code == "RATE_LIMITED" || refused.Code == "INTERNAL"
	}
	return !errors.As(err, &stop)
}

// A stopError is an error of our own side.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }
func (e *stopError) Unwrap() error { return e.err }

// once follows over one socket. Got tells that a result came: before one, a service that takes
// sockets and drops them is not one that is back.
func (f *Follower) once(ctx context.Context, after *string) (got bool, err error) {
	token := ""
	if f.Token != nil {
		if token, err = f.Token(); err != nil {
			return false, &stopError{err}
		}
	}
	conn, err := Dial(ctx, f.URL, token)
	if err != nil {
		return false, err
	}
	defer conn.CloseNow() //nolint:errcheck // it was read, and is of no more use
	if err := conn.Subscribe(ctx, "1", f.Document.Query, f.variables(*after)); err != nil {
		return false, err
	}
	for {
		m, err := conn.Next(ctx)
		if err != nil {
			return got, err
		}
		switch m.Type {
		case "next":
			if !got && f.Found != nil {
				f.Found()
			}
			got = true
			r, err := readResult(m.Payload)
			if err == nil {
				err = f.Result(r)
			}
			if err != nil {
				return got, &stopError{err}
			}
			*after = r.Cursor // none while a snapshot is on its way: then it starts over
		case "error":
			return got, refused(m.Payload)
		case "complete":
			return got, nil
		}
	}
}

func (f *Follower) variables(after string) map[string]any {
	if f.Document.After == "" {
		return f.Variables
	}
	all := maps.Clone(f.Variables)
	if all == nil {
		all = map[string]any{}
	}
	if after != "" {
		all[f.Document.After] = after
	}
	return all
}

func readResult(payload json.RawMessage) (Result, error) {
	r := Result{Payload: payload}
	var parts struct {
		Data       map[string]json.RawMessage
		Extensions struct{ Cursor string }
	}
	if err := json.Unmarshal(payload, &parts); err != nil {
		return r, fmt.Errorf("read result: %w", err)
	}
	r.Cursor = parts.Extensions.Cursor
	for _, v := range parts.Data {
		r.Data = v
	}
	return r, nil
}

// refused reads the errors of an operation.
func refused(payload json.RawMessage) error {
	var list []struct {
		Message    string
		Extensions struct{ Code, Reason string }
	}
	if err := json.Unmarshal(payload, &list); err != nil || len(list) == 0 {
		return errors.New("the service refused the subscription without a reason")
	}
	return &Refused{list[0].Message, list[0].Extensions.Code, list[0].Extensions.Reason}
}
