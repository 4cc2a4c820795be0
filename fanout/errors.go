package fanout

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/rowtide/rowtide/schema"
)

// What ends a subscription, or refuses one, other than a *schema.Error. Explain knows them all.
var (
	// ErrExpired says that the principal's token has ended. Nothing was sent since.
	ErrExpired = errors.New("token has expired")
	// ErrSlow says that the client did not read fast enough: it may resume by its cursor.
	ErrSlow = errors.New("client reads too slowly")
	// ErrDraining says that the service is going down or restarting.
	ErrDraining = errors.New("service is restarting")
	// ErrOtherSubject says that a token to refresh by is of another subject or role.
	ErrOtherSubject = errors.New("token is of another subject or role")
	// ErrRevoked says that the operator has revoked the principal's token or subject.
	ErrRevoked = errors.New("token has been revoked")
	// ErrKicked says that the operator has closed the connection or the subscription.
	ErrKicked = errors.New("closed by the operator")
	// ErrClosed says that the reader itself closed the subscription or session.
	ErrClosed = errors.New("subscription is closed")
)

// WebSocket close codes (RFC 6455, 7.4.1; 44xx by the graphql-transport-ws protocol). A
// graphql-ws client comes back after 4403, 1012 and 1013 and gives up after 4400 and 4401: what
// the same credentials will not get another time is 4401, whatever the code says besides.
const (
	closeInternal     = 1011
	closeRestart      = 1012
	closeTryLater     = 1013
	closeBadRequest   = 4400
	closeUnauthorized = 4401
	closeReconnect    = 4403
)

// A Fault is what a client is told of an error, whatever the transport.
type Fault struct {
	// Code is its extensions.code.
	Code schema.Code
	// Message holds nothing that the client may not know.
	Message string
	// Close is the WebSocket close code where the error ends a connection.
	Close int
	// Status is the HTTP status where the error is the answer to a request.
	Status int
	// RetryAfter is when to come back; 0 where nobody knows, or it is of no use.
	RetryAfter time.Duration
}

// Explain is the table from errors to codes. It hides what it does not know.
func Explain(err error) Fault {
	for _, row := range []struct {
		is    error
		fault Fault
	}{
		{ErrExpired, Fault{schema.Unauthenticated, "token has expired", closeReconnect, http.StatusUnauthorized, 0}},
		{ErrSlow, Fault{schema.LimitExceeded, "client reads too slowly: resume by the last cursor", closeTryLater, http.StatusServiceUnavailable, 0}},
		{ErrDraining, Fault{schema.Internal, "service is restarting: come back", closeRestart, http.StatusServiceUnavailable, 0}},
		{ErrOtherSubject, Fault{schema.Forbidden, "token is of another subject or role", closeReconnect, http.StatusForbidden, 0}},
		{ErrRevoked, Fault{schema.Unauthenticated, "token has been revoked", closeUnauthorized, http.StatusUnauthorized, 0}},
		{ErrKicked, Fault{schema.Forbidden, "closed by the operator", closeReconnect, http.StatusForbidden, 0}},
	} {
		if errors.Is(err, row.is) {
			return row.fault
		}
	}
	var e *schema.Error
	if !errors.As(err, &e) {
		return Fault{schema.Internal, "internal error", closeInternal, http.StatusInternalServerError, 0}
	}
	f := Fault{Code: e.Code, Message: e.Message}
	f.Close, f.Status = codes(e.Code)
	if e.Code == schema.Unauthenticated && e.Reason == schema.Expired {
		f.Close = closeReconnect // clients come back after it, with a fresh token
	}
	if f.RetryAfter = e.RetryAfter; e.RetryAfter > 0 {
		f.Status = http.StatusTooManyRequests
	}
	return f
}

func codes(c schema.Code) (closeCode, status int) {
	switch c {
	case schema.Unauthenticated:
		return closeUnauthorized, http.StatusUnauthorized
	case schema.Forbidden:
		return closeUnauthorized, http.StatusForbidden
	case schema.BadUserInput, schema.ParseFailed, schema.ValidationFailed:
		return closeBadRequest, http.StatusBadRequest
	case schema.LimitExceeded:
		return closeTryLater, http.StatusUnprocessableEntity
	case schema.RateLimited:
		return closeTryLater, http.StatusTooManyRequests
	case schema.ResyncRequired, schema.SchemaChanged:
		return closeRestart, http.StatusConflict
	case schema.Internal:
	}
	return closeInternal, http.StatusInternalServerError
}

type wireError struct {
	Message    string            `json:"message"`
	Locations  []schema.Location `json:"locations,omitempty"`
	Path       []any             `json:"path,omitempty"`
	Extensions wireExtensions    `json:"extensions"`
}

type wireExtensions struct {
	Code   schema.Code `json:"code"`
	Reason string      `json:"reason,omitempty"`
	// RetryAfter is in seconds.
	RetryAfter int `json:"retryAfter,omitempty"`
}

// AppendErrors writes an error as a JSON array of GraphQL errors.
func AppendErrors(dst []byte, err error) []byte {
	var list schema.ErrorList
	var e *schema.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &e):
		list = schema.ErrorList{e}
	}
	if len(list) == 0 {
		f := Explain(err)
		list = schema.ErrorList{{Code: f.Code, Message: f.Message}}
	}
	wire := make([]wireError, len(list))
	for i, e := range list {
		wire[i] = wireError{Message: e.Message, Locations: e.Locations, Path: e.Path, Extensions: wireExtensions{
			Code: e.Code, Reason: e.Reason, RetryAfter: Seconds(e.RetryAfter),
		}}
	}
	b, err := json.Marshal(wire)
	if err != nil { // a path of something other than strings and numbers
		return append(dst, `[{"message":"internal error","extensions":{"code":"INTERNAL"}}]`...)
	}
	return append(dst, b...)
}

// Seconds rounds up, as Retry-After has it.
func Seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// The reasons to resync (part 4.5 of the design). Those of a Gap come with it.
const (
	reasonRetention   = "retention"
	reasonPolicy      = "policy_changed"
	reasonRewritten   = "table_rewritten"
	reasonUnavailable = "policy_unavailable"
	reasonMembership  = "membership"
	reasonUndecodable = "undecodable"
	reasonTimeline    = "timeline"
	reasonTruncated   = "truncated"
	// reasonOverspent is no reason to resync but to come back later: see overspent.
	reasonOverspent = "evaluation_budget"
)

// budgetPause is when whoever has overspent its budget may come back: in as long as it takes to save
// up a burst.
const budgetPause = 5 * time.Second

// resyncRequired ends a subscription that cannot heal by itself; or may not, since that would
// cost what it has no budget for: it can come back with its cursor.
func resyncRequired(reason string) error {
	if reason == reasonOverspent {
		return &schema.Error{
			Code: schema.RateLimited, Reason: reason, RetryAfter: budgetPause,
			Message: "deciding what you see takes the server more time than it has for you: come back later, and go on behind your cursor",
		}
	}
	return &schema.Error{
		Code: schema.ResyncRequired, Reason: reason,
		Message: "changes may have been missed: fetch the rows anew and subscribe again without after, or with snapshot: true",
	}
}

// schemaChanged ends a subscription whose document is no longer valid.
func schemaChanged() error {
	return &schema.Error{Code: schema.SchemaChanged, Message: "the schema has changed and the operation is no longer valid as it was: read the schema anew"}
}

// forbidden answers a principal whose role is not served.
func forbidden() error {
	return &schema.Error{Code: schema.Forbidden, Message: "role is not served"}
}
