package graphqlws

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/rowtide/rowtide/schema"
)

// A closing is a WebSocket close code with its reason.
type closing struct {
	code   int
	reason string
}

// Close codes of the protocol and of RFC 6455, 7.4.1. Those of errors are in fanout.Explain.
const (
	codeNormal      = 1000
	codeUnsupported = 1003
	codeInvalidText = 1007
	codeTooBig      = 1009

	codeInvalidMessage  = 4400
	codeUnauthorized    = 4401
	codeInitTimeout     = 4408
	codeDuplicate       = 4409
	codeTooManyRequests = 4429
)

// An action is what follows from a message: at most one thing.
type action struct {
	do verb
	id string
	// token is of authenticate and refresh: nil where the client gave none.
	token   *string
	request schema.Request
	payload json.RawMessage // of pong
	closing closing
}

type verb uint8

const (
	nothing verb = iota + 1
	authenticate
	refresh
	pong
	start
	refuse // the operation is over the connection's limit
	stop
	closeSocket
)

// A protocol is the state of one connection by the graphql-transport-ws protocol. It is pure:
// messages go in and actions come out, and whoever does the actions tells it what came of them.
type protocol struct {
	initialised, acknowledged bool
	active                    []string // ids of operations: few, and a map would be larger
	maxActive                 int
}

func newProtocol(maxActive int) *protocol {
	return &protocol{maxActive: maxActive}
}

// receive takes a text message of the client.
func (p *protocol) receive(data []byte) action {
	m, err := parse(data)
	if errors.Is(err, errUTF8) {
		return shut(codeInvalidText, err.Error())
	}
	if err != nil {
		return shut(codeInvalidMessage, err.Error())
	}
	switch m.kind {
	case typeInit:
		return p.init(m)
	case typePing:
		return p.ping(m)
	case typeSubscribe:
		return p.subscribe(m)
	case typeComplete:
		if slices.Contains(p.active, m.id) {
			p.ended(m.id)
			return action{do: stop, id: m.id}
		}
	}
	return action{do: nothing} // a pong, or the completion of what has ended
}

func (p *protocol) init(m message) action {
	if p.initialised {
		return shut(codeTooManyRequests, "Too many initialisation requests")
	}
	p.initialised = true
	token, err := m.payload.token()
	if err != nil {
		return shut(codeInvalidMessage, err.Error())
	}
	return action{do: authenticate, token: token}
}

// ping is a pong, or brings a newer token: then the answer does not repeat it.
func (p *protocol) ping(m message) action {
	token, err := m.payload.credential("authorization")
	if err != nil {
		return shut(codeInvalidMessage, err.Error())
	}
	if token != nil && p.acknowledged {
		return action{do: refresh, token: token}
	}
	if token != nil {
		m.raw = nil
	}
	return action{do: pong, payload: m.raw}
}

func (p *protocol) subscribe(m message) action {
	if !p.acknowledged {
		return shut(codeUnauthorized, "Unauthorized")
	}
	if slices.Contains(p.active, m.id) {
		return shut(codeDuplicate, fmt.Sprintf("Subscriber for %s already exists", m.id))
	}
	if len(p.active) >= p.maxActive {
		return action{do: refuse, id: m.id}
	}
	p.active = append(p.active, m.id)
	return action{do: start, id: m.id, request: m.request}
}

// accept says that the client was authenticated and connection_ack is about to be sent.
func (p *protocol) accept() { p.acknowledged = true }

// ended says that an operation ended by itself: its id is free.
func (p *protocol) ended(id string) {
	p.active = slices.DeleteFunc(p.active, func(a string) bool { return a == id })
}

func shut(code int, reason string) action {
	return action{do: closeSocket, closing: closing{code, clip(reason)}}
}

// maxReason is what fits a close frame (RFC 6455, 5.5) beside the code.
const maxReason = 123

func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	n := maxReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// frameHead is the beginning of a message of an operation, up to its payload.
func frameHead(kind, id string) []byte {
	quoted, _ := json.Marshal(id) // a string has no error
	return fmt.Appendf(nil, `{"id":%s,"type":"%s","payload":`, quoted, kind)
}

func completeMessage(id string) []byte {
	quoted, _ := json.Marshal(id)
	return fmt.Appendf(nil, `{"id":%s,"type":"%s"}`, quoted, typeComplete)
}

func pongMessage(payload json.RawMessage) []byte {
	if payload == nil {
		return []byte(`{"type":"` + typePong + `"}`)
	}
	return fmt.Appendf(nil, `{"type":"%s","payload":%s}`, typePong, payload)
}
