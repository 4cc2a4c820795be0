package graphqlhttp

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// A fault is a request that is not served.
type fault struct {
	status int
	err    error
	// operation tells that the request was well, and its operation was not.
	operation bool
}

func refusal(status int, code schema.Code, message string) *fault {
	return &fault{status: status, err: &schema.Error{Code: code, Message: message}}
}

func badRequest(message string) *fault {
	return refusal(http.StatusBadRequest, schema.BadUserInput, message)
}

// explain makes a fault of what package fanout or an Authenticator says.
func explain(err error) *fault {
	return &fault{status: fanout.Explain(err).Status, err: err, operation: ofOperation(err)}
}

// ofOperation tells of errors that are about one operation, rather than about who asks for it
// or about the service: a client that sends the same again gets the same.
func ofOperation(err error) bool {
	var list schema.ErrorList
	var e *schema.Error
	if !errors.As(err, &list) && !errors.As(err, &e) {
		return false
	}
	what := fanout.Explain(err)
	if what.RetryAfter > 0 {
		return false
	}
	switch what.Code {
	case schema.Unauthenticated, schema.Forbidden, schema.RateLimited, schema.Internal:
		return false
	default:
		return true
	}
}

// refuse answers with errors. Under application/json the status tells of HTTP alone, so an
// operation that is not valid is 200 there (GraphQL over HTTP, 6.4.1).
func (h *Handler) refuse(w http.ResponseWriter, a accept, f *fault) {
	m, status := a.forRefusal(), f.status
	switch {
	case m == plainJSON && f.operation:
		status = http.StatusOK
	case status == http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		// Under GraphQL's own media type a client takes this for the operation's result and
		// gives up; under plain JSON the status counts, and it comes back.
		m = plainJSON
		w.Header().Set("Retry-After", strconv.Itoa(max(1, fanout.Seconds(fanout.Explain(f.err).RetryAfter))))
	}
	h.answer(w, m, status, failure(f.err))
}

// answer writes one JSON response.
func (h *Handler) answer(w http.ResponseWriter, m media, status int, body []byte) {
	w.Header().Set("Content-Type", mediaTypes[m]+"; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.cfg.WriteTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(body) // to a client that is gone
}

// failure writes an error as a GraphQL response.
func failure(err error) []byte {
	return append(fanout.AppendErrors([]byte(`{"errors":`), err), '}')
}
