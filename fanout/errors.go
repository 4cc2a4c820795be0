package fanout

import (
	"encoding/json"
	"errors"
	"net/http"

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
	// ErrClosed says that the reader itself closed the subscription or session.
	ErrClosed = errors.New("subscription is closed")
)

// WebSocket close codes (RFC 6455, 7.4.1; 44xx by the graphql-transport-ws protocol). A
// graphql-ws client comes back after 4403, 1012 and 1013 and gives up after 4400 and 4401.
const (
	closeInternal     = 1011
	closeRestart      = 1012
	closeTryLater     = 1013
	closeBadRequest   = 4400
	closeUnauthorized = 4401
	closeForbidden    = 4403
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
}

// Explain is the table from errors to codes. It hides what it does not know.
func Explain(err error) Fault {
	for _, row := range []struct {
		is    error
		fault Fault
	}{
		{ErrExpired, Fault{schema.Unauthenticated, "token has expired", closeForbidden, http.StatusUnauthorized}},
		{ErrSlow, Fault{schema.LimitExceeded, "client reads too slowly: resume by the last cursor", closeTryLater, http.StatusServiceUnavailable}},
		{ErrDraining, Fault{schema.Internal, "service is restarting: come back", closeRestart, http.StatusServiceUnavailable}},
		{ErrOtherSubject, Fault{schema.Forbidden, "token is of another subject or role", closeForbidden, http.StatusForbidden}},
	} {
		if errors.Is(err, row.is) {
			return row.fault
		}
	}
	var e *schema.Error
	if !errors.As(err, &e) {
		return Fault{schema.Internal, "internal error", closeInternal, http.StatusInternalServerError}
	}
	f := Fault{Code: e.Code, Message: e.Message}
	f.Close, f.Status = codes(e.Code)
	if e.Code == schema.Unauthenticated && e.Reason == schema.Expired {
		f.Close = closeForbidden // clients come back after it, with a fresh token
	}
	return f
}

func codes(c schema.Code) (closeCode, status int) {
	switch c {
	case schema.Unauthenticated:
		return closeUnauthorized, http.StatusUnauthorized
	case schema.Forbidden:
		return closeForbidden, http.StatusForbidden
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
		wire[i] = wireError{Message: e.Message, Locations: e.Locations, Path: e.Path, Extensions: wireExtensions{Code: e.Code, Reason: e.Reason}}
	}
	b, err := json.Marshal(wire)
	if err != nil { // a path of something other than strings and numbers
		return append(dst, `[{"message":"internal error","extensions":{"code":"INTERNAL"}}]`...)
	}
	return append(dst, b...)
}

// The reasons to resync (part 4.5 of the design). Those of a Gap come with it.
const (
	reasonRetention   = "retention"
	reasonPolicy      = "policy_changed"
	reasonUnavailable = "policy_unavailable"
	reasonMembership  = "membership"
	reasonUndecodable = "undecodable"
	reasonTimeline    = "timeline"
)

// resyncRequired ends a subscription that cannot heal by itself.
func resyncRequired(reason string) error {
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
