package graphqlws

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// An object is a JSON object, read strictly: no key stands in it twice. It is read by hand, since
// a json.Decoder for each message was half of all that subscribing allocated.
type object []member

// A member's value is a part of the message.
type member struct {
	key   string
	value json.RawMessage
}

// readObject reads one object, and nothing behind it.
func readObject(data []byte) (object, error) {
	if !json.Valid(data) {
		return nil, errors.New("is not JSON")
	}
	return members(data)
}

// members reads an object of what is JSON already.
func members(data []byte) (object, error) {
	i := space(data, 0)
	if data[i] != '{' {
		return nil, errors.New("is not a JSON object")
	}
	o := make(object, 0, 4)
	for i = space(data, i+1); data[i] != '}'; {
		end := valueEnd(data, i)
		key, _ := text(data[i:end]) // JSON has nothing else for a key
		i = space(data, end)        // the colon
		i = space(data, i+1)
		end = valueEnd(data, i)
		o = append(o, member{key, data[i:end:end]})
		if i = space(data, end); data[i] == ',' {
			i = space(data, i+1)
		}
	}
	if o.twice() {
		return nil, errors.New("has a key twice")
	}
	return o, nil
}

// few is how many keys are compared with each other: a map of so many costs more.
const few = 16

// twice tells whether a key stands there twice.
func (o object) twice() bool {
	if len(o) <= few {
		for i, m := range o {
			if _, ok := o[:i].get(m.key); ok {
				return true
			}
		}
		return false
	}
	known := make(map[string]struct{}, len(o))
	for _, m := range o {
		known[m.key] = struct{}{}
	}
	return len(known) < len(o)
}

// space gives where white space from i on ends.
func space(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\r' || data[i] == '\n') {
		i++
	}
	return i
}

// valueEnd gives where the value that begins at i ends.
func valueEnd(data []byte, i int) int {
	for depth := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			for i++; data[i] != '"'; i++ {
				if data[i] == '\\' {
					i++
				}
			}
		case '{', '[':
			depth++
			continue
		case '}', ']':
			depth--
		case ',', ':', ' ', '\t', '\r', '\n':
			continue
		default: // a number, true, false or null
			for i+1 < len(data) && bytes.IndexByte([]byte(",:]} \t\r\n"), data[i+1]) < 0 {
				i++
			}
		}
		if depth == 0 {
			return i + 1
		}
	}
	return i
}

// text gives the string that a JSON value is.
func text(v json.RawMessage) (string, bool) {
	if len(v) < 2 || v[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(v, '\\') < 0 {
		return string(v[1 : len(v)-1]), true
	}
	var s string
	err := json.Unmarshal(v, &s)
	return s, err == nil
}

func (m member) null() bool { return string(m.value) == "null" }

func (o object) get(key string) (json.RawMessage, bool) {
	for _, m := range o {
		if m.key == key {
			return m.value, true
		}
	}
	return nil, false
}

// null tells that a key is not there, or null.
func (o object) null(key string) bool {
	v, ok := o.get(key)
	return !ok || string(v) == "null"
}

func (o object) text(key string) (string, error) {
	v, _ := o.get(key)
	s, ok := text(v)
	if !ok {
		return "", fmt.Errorf("message expects %q to be a string", key)
	}
	return s, nil
}

// object gives nil for a key that is not there, or null.
func (o object) object(key string) (object, error) {
	if o.null(key) {
		return nil, nil
	}
	v, _ := o.get(key)
	inner, err := members(v)
	if err != nil {
		return nil, fmt.Errorf("message expects %q to be an object: it %w", key, err)
	}
	return inner, nil
}
