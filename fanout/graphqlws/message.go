package graphqlws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/rowtide/rowtide/fanout"
	"github.com/rowtide/rowtide/schema"
)

// Bounds on a message beyond its size.
const (
	// maxDepth is how deep its JSON may nest: variables, three levels down, have a lower bound
	// of their own in package schema.
	maxDepth = 64
	// maxID is the length of an operation's id: it is repeated in every frame.
	maxID = 128
)

// A message is one that a client may send, in the form that the protocol gives it.
type message struct {
	kind string
	id   string
	// payload is of connection_init, ping and pong: an object, or nil.
	payload object
	// raw is the payload as it came.
	raw     json.RawMessage
	request schema.Request
}

// The types of messages.
const (
	typeInit      = "connection_init"
	typeAck       = "connection_ack"
	typePing      = "ping"
	typePong      = "pong"
	typeSubscribe = "subscribe"
	typeNext      = "next"
	typeError     = "error"
	typeComplete  = "complete"
)

// errUTF8 is a message that is no UTF-8 text: the one mistake with a close code of its own.
var errUTF8 = errors.New("message is not UTF-8")

// parse reads a message as strictly as the protocol allows. Its errors are for the client and
// hold nothing of the message but its type.
func parse(data []byte) (message, error) {
	if !utf8.Valid(data) {
		return message{}, errUTF8
	}
	if fanout.Deeper(data, maxDepth) {
		return message{}, fmt.Errorf("message nests deeper than %d levels", maxDepth)
	}
	o, err := readObject(data)
	if err != nil {
		return message{}, fmt.Errorf("message %w", err)
	}
	var m message
	if m.kind, err = o.text("type"); err != nil {
		return message{}, err
	}
	switch m.kind {
	case typeInit, typePing, typePong:
		if m.payload, err = o.object("payload"); err == nil && m.payload != nil {
			m.raw, _ = o.get("payload")
		}
	case typeSubscribe:
		if m.id, err = o.id(); err == nil {
			m.request, err = o.request()
		}
	case typeComplete:
		m.id, err = o.id()
	default:
		err = errors.New("message has a type that clients do not send")
	}
	return m, err
}

func (o object) id() (string, error) {
	id, err := o.text("id")
	switch {
	case err != nil:
		return "", err
	case id == "":
		return "", errors.New(`message requires a non-empty "id"`)
	case len(id) > maxID:
		return "", fmt.Errorf(`message has an "id" of more than %d bytes`, maxID)
	}
	return id, nil
}

// request reads the payload of a subscribe message.
func (o object) request() (schema.Request, error) {
	p, err := o.object("payload")
	if err != nil {
		return schema.Request{}, err
	}
	if p == nil {
		return schema.Request{}, errors.New(`message expects "payload" to be an object`)
	}
	var r schema.Request
	if r.Query, err = p.text("query"); err != nil {
		return schema.Request{}, err
	}
	if !p.null("operationName") {
		if r.OperationName, err = p.text("operationName"); err != nil {
			return schema.Request{}, err
		}
	}
	for _, key := range []string{"variables", "extensions"} {
		if _, err := p.object(key); err != nil {
			return schema.Request{}, err
		}
	}
	if !p.null("variables") {
		variables, _ := p.get("variables")
		r.Variables = bytes.Clone(variables) // the message itself is not kept
	}
	return r, nil
}

// token finds the token in the payload of connection_init: authorization, token, or
// headers.Authorization, with or without Bearer. It is nil where there is none.
func (o object) token() (*string, error) {
	if t, err := o.credential("authorization"); t != nil || err != nil {
		return t, err
	}
	if t, err := o.credential("token"); t != nil || err != nil {
		return t, err
	}
	if o.null("headers") {
		return nil, nil //nolint:nilnil // no token is no mistake
	}
	headers, err := o.object("headers")
	if err != nil {
		return nil, err
	}
	return headers.credential("authorization")
}

// credential gives the token under a key, in any case of letters.
func (o object) credential(key string) (*string, error) {
	var found *string
	for _, m := range o {
		if !strings.EqualFold(m.key, key) || m.null() {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("message has %q twice", key)
		}
		s, ok := text(m.value)
		if !ok {
			return nil, fmt.Errorf("message expects %q to be a string", key)
		}
		s = fanout.Bearer(s)
		found = &s
	}
	return found, nil
}
