package graphqlws

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/coder/websocket"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// Close codes of the protocol, beside those of package fanout's table.
const (
	closeInvalid       = 4400
	closeUnauthorized  = 4401
	closeSubprotocol   = 4406
	closeInitTimeout   = 4408
	closeDuplicate     = 4409
	closeTooManyInits  = 4429
	closeNotText       = int(websocket.StatusUnsupportedData)
	closeNotUTF8       = int(websocket.StatusInvalidFramePayloadData)
	maxReason          = 123 // RFC 6455, 5.5: a control frame has 125 bytes, two are the code
	maxDepth           = 64
	maxIDLength        = 256
	typeInit           = "connection_init"
	typePing           = "ping"
	typePong           = "pong"
	typeSubscribe      = "subscribe"
	typeComplete       = "complete"
	invalidMessageText = "Invalid message received"
)

// A message is one message of a client, with what its type calls for.
type message struct {
	kind string
	id   string
	// payload is of connection_init, ping and pong; nil for none.
	payload json.RawMessage
	request schema.Request // of subscribe
}

// fault is a mistake of the client that closes the socket.
func fault(code int, reason string) *fanout.Fault {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
		for !utf8.ValidString(reason) {
			reason = reason[:len(reason)-1]
		}
	}
	return &fanout.Fault{Close: code, Message: reason}
}

func invalid(format string, args ...any) *fanout.Fault {
	return fault(closeInvalid, invalidMessageText+": "+fmt.Sprintf(format, args...))
}

// parse reads a message and holds it to the protocol's rules about messages. It allocates no
// more than in proportion to the message.
func parse(data []byte) (message, *fanout.Fault) {
	if !utf8.Valid(data) {
		return message{}, fault(closeNotUTF8, "message is no UTF-8")
	}
	if tooDeep(data) {
		return message{}, invalid("nested deeper than %d", maxDepth)
	}
	var raw struct {
		Type    *string         `json:"type"`
		ID      json.RawMessage `json:"id"`
		Payload json.RawMessage `json:"payload"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return message{}, invalid("not a JSON object with a type")
	}
	if raw.Type == nil {
		return message{}, invalid("type is missing")
	}
	m := message{kind: *raw.Type}
	switch m.kind {
	case typeInit, typePing, typePong:
		if raw.Payload != nil && !isNull(raw.Payload) && !isObject(raw.Payload) {
			return m, invalid("%s: payload is no object", m.kind)
		}
		if !isNull(raw.Payload) {
			m.payload = raw.Payload
		}
		return m, nil
	case typeSubscribe:
		if f := m.readID(raw.ID); f != nil {
			return m, f
		}
		return m, m.readRequest(raw.Payload)
	case typeComplete:
		return m, m.readID(raw.ID)
	}
	return m, invalid("unexpected type")
}

func (m *message) readID(raw json.RawMessage) *fanout.Fault {
	if json.Unmarshal(raw, &m.id) != nil || m.id == "" || raw[0] != '"' {
		return invalid("%s: id is no string that is not empty", m.kind)
	}
	if len(m.id) > maxIDLength {
		return invalid("%s: id is longer than %d bytes", m.kind, maxIDLength)
	}
	return nil
}

func (m *message) readRequest(raw json.RawMessage) *fanout.Fault {
	var p struct {
		Query         *string         `json:"query"`
		OperationName *string         `json:"operationName"`
		Variables     json.RawMessage `json:"variables"`
		Extensions    json.RawMessage `json:"extensions"`
	}
	if !isObject(raw) || json.Unmarshal(raw, &p) != nil {
		return invalid("subscribe: payload is no object with a query")
	}
	switch {
	case p.Query == nil:
		return invalid("subscribe: query is no string")
	case p.Variables != nil && !isNull(p.Variables) && !isObject(p.Variables):
		return invalid("subscribe: variables is no object")
	case p.Extensions != nil && !isNull(p.Extensions) && !isObject(p.Extensions):
		return invalid("subscribe: extensions is no object")
	}
	m.request = schema.Request{Query: *p.Query, Variables: p.Variables}
	if p.OperationName != nil {
		m.request.OperationName = *p.OperationName
	}
	return nil
}

func isNull(raw json.RawMessage) bool   { return bytes.Equal(raw, []byte("null")) }
func isObject(raw json.RawMessage) bool { return len(raw) > 0 && raw[0] == '{' }

// tooDeep looks for nesting before anything is decoded: encoding/json recurses.
func tooDeep(data []byte) bool {
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}

// tokenOf gives the token that a payload brings, and whether it brings one: authorization,
// token, or headers.Authorization.
func tokenOf(payload json.RawMessage) (string, bool) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(payload, &fields) != nil {
		return "", false
	}
	for _, name := range []string{"authorization", "Authorization", "token"} {
		if token, ok := stringOf(fields[name]); ok {
			return bearer(token), true
		}
	}
	var headers map[string]json.RawMessage
	if json.Unmarshal(fields["headers"], &headers) != nil {
		return "", false
	}
	for _, name := range []string{"Authorization", "authorization"} {
		if token, ok := stringOf(headers[name]); ok {
			return bearer(token), true
		}
	}
	return "", false
}

func stringOf(raw json.RawMessage) (string, bool) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, s != ""
}

// appendNext writes a next message around a payload.
func appendNext(dst []byte, quotedID string, payload []byte) []byte {
	dst = append(dst, `{"id":`...)
	dst = append(dst, quotedID...)
	dst = append(dst, `,"type":"next","payload":`...)
	dst = append(dst, payload...)
	return append(dst, '}')
}

// quote writes a string as JSON.
func quote(s string) string {
	b, _ := json.Marshal(s) //nolint:errchkjson // a string always can be
	return string(b)
}
