package graphqlhttp

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

const (
	maxDepth    = 64  // of a body; variables are held to less when they are read
	maxIDLength = 256 // of an operation's id
)

// A request is a GraphQL request, with what extensions say.
type request struct {
	schema.Request
	// operationID is of single connection mode, "" for none.
	operationID string
}

// read takes the request out of the body or, with GET, the URL.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) (request, *fault) {
	if r.Method == http.MethodGet {
		return parseQuery(r.URL.RawQuery)
	}
	if f := checkContent(r.Header); f != nil {
		return request{}, f
	}
	body, f := h.readBody(w, r)
	if f != nil {
		return request{}, f
	}
	return parseBody(body)
}

// checkContent refuses what is not JSON as it is. A page of another site can have a browser send
// form data and plain text without asking; application/json it has to ask for first (CORS).
func checkContent(header http.Header) *fault {
	if e := header.Get("Content-Encoding"); e != "" && !strings.EqualFold(e, "identity") {
		return refusal(http.StatusUnsupportedMediaType, schema.BadUserInput, "compressed bodies are not taken: send it as it is, without Content-Encoding")
	}
	typ, params, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || typ != mediaTypes[plainJSON] || len(header.Values("Content-Type")) > 1 {
		return refusal(http.StatusUnsupportedMediaType, schema.BadUserInput, "body is not taken: send Content-Type: application/json")
	}
	if c, ok := params["charset"]; ok && !strings.EqualFold(c, "utf-8") {
		return refusal(http.StatusUnsupportedMediaType, schema.BadUserInput, "charset is not taken: send UTF-8")
	}
	return nil
}

// readBody reads a body within its limit and time, or until ctx ends.
func (h *Handler) readBody(w http.ResponseWriter, r *http.Request) ([]byte, *fault) {
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(h.cfg.ReadTimeout))
	stop := context.AfterFunc(r.Context(), func() { _ = rc.SetReadDeadline(time.Unix(1, 0)) })
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.cfg.ReadLimit))
	if stop() {
		_ = rc.SetReadDeadline(time.Time{}) // the server listens for the client's leaving
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return body, nil
	case errors.As(err, &tooLarge):
		return nil, refusal(http.StatusRequestEntityTooLarge, schema.LimitExceeded, "body is too large")
	case errors.Is(err, os.ErrDeadlineExceeded):
		w.Header().Set("Connection", "close")
		return nil, refusal(http.StatusRequestTimeout, schema.LimitExceeded, "body came too slowly")
	}
	w.Header().Set("Connection", "close")
	return nil, refusal(http.StatusBadRequest, schema.BadUserInput, "body broke off")
}

// parseBody reads the parameters from a body. It allocates no more than in proportion to it.
func parseBody(body []byte) (request, *fault) {
	body = bytes.TrimSpace(body)
	switch {
	case len(body) == 0:
		return request{}, badRequest("body is empty: send a JSON object with a query")
	case !utf8.Valid(body):
		return request{}, badRequest("body is no UTF-8")
	case body[0] == '[':
		return request{}, badRequest("batches are not taken: send one request at a time")
	case fanout.Deeper(body, maxDepth):
		return request{}, badRequest("body is nested too deeply")
	}
	var p struct {
		Query         *string         `json:"query"`
		OperationName *string         `json:"operationName"`
		Variables     json.RawMessage `json:"variables"`
		Extensions    json.RawMessage `json:"extensions"`
	}
	if body[0] != '{' {
		return request{}, badRequest("body is no JSON object")
	}
	if err := json.Unmarshal(body, &p); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return request{}, badRequest(typ.Field + " is no string")
		}
		return request{}, badRequest("body is no JSON")
	}
	if p.Query == nil {
		return request{}, badRequest("query is missing")
	}
	out := request{Request: schema.Request{Query: *p.Query}}
	if p.OperationName != nil {
		out.OperationName = *p.OperationName
	}
	return out, out.complete(p.Variables, p.Extensions)
}

// parseQuery reads the parameters from a URL.
func parseQuery(raw string) (request, *fault) {
	q, err := url.ParseQuery(raw)
	switch {
	case err != nil || !utf8.ValidString(q.Get("query")+q.Get("operationName")+q.Get("variables")+q.Get("extensions")):
		return request{}, badRequest("the URL's parameters cannot be read")
	case !q.Has("query"):
		return request{}, badRequest("query is missing: send it in the body of a POST, or in the URL of a GET")
	}
	out := request{Request: schema.Request{Query: q.Get("query"), OperationName: q.Get("operationName")}}
	variables, extensions := []byte(q.Get("variables")), []byte(q.Get("extensions"))
	if fanout.Deeper(variables, maxDepth) || fanout.Deeper(extensions, maxDepth) {
		return request{}, badRequest("a parameter is nested too deeply")
	}
	for name, value := range map[string][]byte{"variables": variables, "extensions": extensions} {
		if len(value) > 0 && !json.Valid(value) {
			return request{}, badRequest(name + " is no JSON")
		}
	}
	return out, out.complete(bytes.TrimSpace(variables), bytes.TrimSpace(extensions))
}

// complete takes the parameters that are objects: JSON, without white space around it.
func (r *request) complete(variables, extensions json.RawMessage) *fault {
	if !isObjectOrNone(variables) {
		return badRequest("variables is no object")
	}
	if !isObjectOrNone(extensions) {
		return badRequest("extensions is no object")
	}
	r.Variables = variables
	var e struct {
		OperationID json.RawMessage `json:"operationId"`
	}
	if len(extensions) > 0 && json.Unmarshal(extensions, &e) == nil && len(e.OperationID) > 0 && e.OperationID[0] == '"' {
		if err := json.Unmarshal(e.OperationID, &r.operationID); err != nil || len(r.operationID) > maxIDLength {
			return badRequest("extensions.operationId is too long")
		}
	}
	return nil
}

func isObjectOrNone(raw json.RawMessage) bool {
	return len(raw) == 0 || raw[0] == '{' || bytes.Equal(raw, []byte("null"))
}
