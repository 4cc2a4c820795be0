package fanout_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

func TestErrorsHaveOneTable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err    error
		code   schema.Code
		close  int
		status int
	}{
		{fanout.ErrExpired, schema.Unauthenticated, 4403, http.StatusUnauthorized},
		{fanout.ErrSlow, schema.LimitExceeded, 1013, http.StatusServiceUnavailable},
		{fmt.Errorf("wrapped: %w", fanout.ErrDraining), schema.Internal, 1012, http.StatusServiceUnavailable},
		{fanout.ErrOtherSubject, schema.Forbidden, 4403, http.StatusForbidden},
		{&schema.Error{Code: schema.Unauthenticated}, schema.Unauthenticated, 4401, http.StatusUnauthorized},
		{&schema.Error{Code: schema.Forbidden}, schema.Forbidden, 4401, http.StatusForbidden},
		{&schema.Error{Code: schema.BadUserInput}, schema.BadUserInput, 4400, http.StatusBadRequest},
		{&schema.Error{Code: schema.ParseFailed}, schema.ParseFailed, 4400, http.StatusBadRequest},
		{&schema.Error{Code: schema.ValidationFailed}, schema.ValidationFailed, 4400, http.StatusBadRequest},
		{&schema.Error{Code: schema.LimitExceeded}, schema.LimitExceeded, 1013, http.StatusUnprocessableEntity},
		{&schema.Error{Code: schema.LimitExceeded, RetryAfter: 1}, schema.LimitExceeded, 1013, http.StatusTooManyRequests},
		{fanout.ErrRevoked, schema.Unauthenticated, 4401, http.StatusUnauthorized},
		{fanout.ErrKicked, schema.Forbidden, 4403, http.StatusForbidden},
		{&schema.Error{Code: schema.RateLimited}, schema.RateLimited, 1013, http.StatusTooManyRequests},
		{&schema.Error{Code: schema.ResyncRequired}, schema.ResyncRequired, 1012, http.StatusConflict},
		{&schema.Error{Code: schema.SchemaChanged}, schema.SchemaChanged, 1012, http.StatusConflict},
		{&schema.Error{Code: schema.Internal}, schema.Internal, 1011, http.StatusInternalServerError},
		{errors.New("dial postgres://u:p@host"), schema.Internal, 1011, http.StatusInternalServerError},
	} {
		f := fanout.Explain(tt.err)
		if f.Code != tt.code || f.Close != tt.close || f.Status != tt.status {
			t.Errorf("%v: %+v, want %s, %d, %d", tt.err, f, tt.code, tt.close, tt.status)
		}
	}
}

// Covers S42.
func TestUnknownErrorsTellNothing(t *testing.T) {
	t.Parallel()
	err := errors.New(`ERROR: column "secret" of relation "public.todos" (SQLSTATE 42703)`)
	if got, want := string(fanout.AppendErrors(nil, err)), `[{"message":"internal error","extensions":{"code":"INTERNAL"}}]`; got != want {
		t.Errorf("got %s", got)
	}
	list := schema.ErrorList{
		{Code: schema.ValidationFailed, Message: `a "b"`, Locations: []schema.Location{{Line: 1, Column: 2}}, Path: []any{"x", 3}},
		{Code: schema.ResyncRequired, Message: "m", Reason: "retention"},
		{Code: schema.RateLimited, Message: "l", RetryAfter: 1500 * time.Millisecond},
	}
	want := `x[{"message":"a \"b\"","locations":[{"line":1,"column":2}],"path":["x",3],"extensions":{"code":"GRAPHQL_VALIDATION_FAILED"}},` +
		`{"message":"m","extensions":{"code":"RESYNC_REQUIRED","reason":"retention"}},` +
		`{"message":"l","extensions":{"code":"RATE_LIMITED","retryAfter":2}}]`
	if got := string(fanout.AppendErrors([]byte("x"), list)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
