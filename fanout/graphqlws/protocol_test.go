package graphqlws

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzMessage holds the parser and the state machine to what whoever does the actions relies on.
//
// Covers S04, S09.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		`{"type":"connection_init"}`, `{"type":"connection_init","payload":{"headers":{"Authorization":"Bearer x"}}}`,
		`{"type":"ping","payload":{"a":[1]}}`, `{"type":"pong"}`, `{"type":"complete","id":"1"}`,
		`{"type":"subscribe","id":"1","payload":{"query":"{ a }","variables":{"x":"\ud800"},"operationName":null}}`,
		`{"type":"subscribe","id":"1","type":"ping"}`, "{\"type\":\"ping\",\"payload\":{\"a\":\"\xff\"}}", "[", `{"type":1}`, "\xff", strings.Repeat("[", 100000),
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, data []byte, acknowledged bool) {
		p := newProtocol(1)
		p.initialised, p.acknowledged = acknowledged, acknowledged
		a := p.receive(data)
		switch a.do {
		case start:
			if !acknowledged || a.id == "" || len(p.active) != 1 {
				t.Errorf("%q starts %+v", data, a)
			}
		case authenticate:
			if acknowledged {
				t.Errorf("%q authenticates a second time", data)
			}
		case refresh:
			if !acknowledged || a.token == nil {
				t.Errorf("%q refreshes by %+v", data, a)
			}
		case pong:
			if message := pongMessage(a.payload); !json.Valid(message) {
				t.Errorf("%q is answered by %q", data, message)
			}
		case closeSocket:
			if a.closing.code < 1000 || len(a.closing.reason) > maxReason || a.closing.reason == "" {
				t.Errorf("%q closes with %+v", data, a.closing)
			}
		case nothing:
		case refuse, stop:
			t.Errorf("%q on a new connection is %d", data, a.do)
		default:
			t.Errorf("%q is nothing: %+v", data, a)
		}
		if a.do != closeSocket && (!json.Valid(data) || !utf8.Valid(data)) {
			t.Errorf("%q is taken, and is no JSON in UTF-8", data)
		}
	})
}

func TestTokenIsFoundWhereClientsPutIt(t *testing.T) {
	t.Parallel()
	for payload, want := range map[string]string{
		`{}`:                                         "none",
		`{"authorization":null}`:                     "none",
		`{"headers":{}}`:                             "none",
		`{"authorization":"Bearer a.b"}`:             "a.b",
		`{"authorization":"bearer a.b"}`:             "a.b",
		`{"authorization":"a.b"}`:                    "a.b",
		`{"Authorization":"a.b"}`:                    "a.b",
		`{"authorization":""}`:                       "",
		`{"token":"a.b"}`:                            "a.b",
		`{"headers":{"Authorization":"Bearer a.b"}}`: "a.b",
		`{"headers":{"authorization":"Bearer a.b"}}`: "a.b",
		`{"token":"second","authorization":"first"}`: "first",
		`{"authorization":7}`:                        "error",
		`{"headers":7}`:                              "error",
		`{"Authorization":"a","authorization":"b"}`:  "error",
	} {
		o, err := readObject([]byte(payload))
		if err != nil {
			t.Fatalf("read %s: %v", payload, err)
		}
		got := "none"
		switch token, err := o.token(); {
		case err != nil:
			got = "error"
		case token != nil:
			got = *token
		}
		if got != want {
			t.Errorf("%s: token %q, want %q", payload, got, want)
		}
	}
}

// Covers S08.
func TestReasonOfALongIDFitsItsFrame(t *testing.T) {
	t.Parallel()
	p := newProtocol(10)
	p.accept()
	id := strings.Repeat("é", maxID/2)
	m := []byte(`{"type":"subscribe","id":"` + id + `","payload":{"query":"x"}}`)
	if a := p.receive(m); a.do != start {
		t.Fatalf("first: %+v", a)
	}
	a := p.receive(m)
	if a.do != closeSocket || a.closing.code != codeDuplicate || len(a.closing.reason) > maxReason || !strings.HasPrefix(a.closing.reason, "Subscriber for é") {
		t.Errorf("second: %+v", a)
	}
	if a := p.receive([]byte(`{"type":"complete","id":"` + id + `"}`)); a.do != stop {
		t.Errorf("complete: %+v", a)
	}
	if a := p.receive(m); a.do != start {
		t.Errorf("the id is not free after complete: %+v", a)
	}
}
