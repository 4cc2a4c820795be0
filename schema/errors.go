package schema

import (
	"strings"
	"time"
)

// A Code is the extensions.code of an error. Package fanout maps them to close codes and HTTP
// statuses.
type Code string

// The codes of the API.
const (
	Unauthenticated  Code = "UNAUTHENTICATED"
	Forbidden        Code = "FORBIDDEN"
	BadUserInput     Code = "BAD_USER_INPUT"
	ParseFailed      Code = "GRAPHQL_PARSE_FAILED"
	ValidationFailed Code = "GRAPHQL_VALIDATION_FAILED"
	LimitExceeded    Code = "LIMIT_EXCEEDED"
	RateLimited      Code = "RATE_LIMITED"
	ResyncRequired   Code = "RESYNC_REQUIRED"
	SchemaChanged    Code = "SCHEMA_CHANGED"
	Internal         Code = "INTERNAL"
)

// An Error is an error that a client may see: its text holds nothing that the client's role
// may not know.
type Error struct {
	Code    Code
	Message string
	// Reason is set on ResyncRequired: retention, slot_lost, policy_changed, …; and on
	// Unauthenticated it is Expired where another token will do.
	Reason string
	// RetryAfter is when it is worth to come back, on LimitExceeded and RateLimited; 0 where
	// the same will be refused again.
	RetryAfter time.Duration
	Locations  []Location
	Path       []any // response keys (string) and list indexes (int)
}

// Expired is the Reason of an Unauthenticated whose token was good.
const Expired = "expired"

// A Location is a place in the document, from 1.
type Location struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Error gives the message and its code.
func (e *Error) Error() string {
	return e.Message + " (" + string(e.Code) + ")"
}

// ErrorList are the errors of a document. It is never empty where it is an error.
type ErrorList []*Error

// Error joins the messages.
func (l ErrorList) Error() string {
	s := make([]string, len(l))
	for i, e := range l {
		s[i] = e.Error()
	}
	return strings.Join(s, "; ")
}

// Unwrap gives the errors, so that errors.As finds the first.
func (l ErrorList) Unwrap() []error {
	s := make([]error, len(l))
	for i, e := range l {
		s[i] = e
	}
	return s
}
