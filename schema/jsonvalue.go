package schema

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A jsonValue is a value of jsonb, ready to compare as PostgreSQL does: numbers by value, objects
// without order, strings by bytes.
type jsonValue struct {
	kind byte // 'n' null, 'b' boolean, '0' number, 's' string, '[' array, '{' object
	// text is a string, the key of a number (decimalKey), or a boolean as "t" or "f".
	text  string
	items []jsonValue
	keys  []string // of an object, sorted; items are its values
}

// readJSON reads jsonb's text, or that of an operand: json.Marshal has no other form of it.
func readJSON(text string) (jsonValue, bool) {
	r := jsonReader{rest: text}
	v, ok := r.value()
	return v, ok && r.space() == ""
}

type jsonReader struct{ rest string }

func (r *jsonReader) space() string {
	r.rest = strings.TrimLeft(r.rest, " \t\r\n")
	return r.rest
}

// take cuts a prefix off.
func (r *jsonReader) take(s string) bool {
	rest, ok := strings.CutPrefix(r.space(), s)
	r.rest = rest
	return ok
}

func (r *jsonReader) value() (v jsonValue, ok bool) {
	switch {
	case r.take("null"):
		return jsonValue{kind: 'n'}, true
	case r.take("true"):
		return jsonValue{kind: 'b', text: "t"}, true
	case r.take("false"):
		return jsonValue{kind: 'b', text: "f"}, true
	case r.take("["):
		return r.array()
	case r.take("{"):
		return r.object()
	case strings.HasPrefix(r.rest, `"`):
		s, ok := r.text()
		return jsonValue{kind: 's', text: s}, ok
	}
	n := strings.IndexAny(r.rest, ",]} \t\r\n")
	if n < 0 {
		n = len(r.rest)
	}
	key, err := decimalKey(r.rest[:n])
	r.rest = r.rest[n:]
	return jsonValue{kind: '0', text: key}, err == nil
}

// text reads a string. Only those with escapes are decoded at a cost.
func (r *jsonReader) text() (string, bool) {
	for i := 1; i < len(r.rest); i++ {
		switch r.rest[i] {
		case '\\':
			i++
		case '"':
			raw := r.rest[:i+1]
			r.rest = r.rest[i+1:]
			if !strings.Contains(raw, `\`) {
				return raw[1:i], true
			}
			var s string
			err := json.Unmarshal([]byte(raw), &s)
			return s, err == nil
		}
	}
	return "", false
}

func (r *jsonReader) array() (v jsonValue, ok bool) {
	v.kind = '['
	if r.take("]") {
		return v, true
	}
	for {
		item, ok := r.value()
		if !ok {
			return v, false
		}
		v.items = append(v.items, item)
		if r.take("]") {
			return v, true
		}
		if !r.take(",") {
			return v, false
		}
	}
}

// object reads the members. Of those of one key the last counts, as jsonb has it.
func (r *jsonReader) object() (v jsonValue, ok bool) {
	v.kind = '{'
	members := map[string]jsonValue{}
	for !r.take("}") {
		if len(members) > 0 && !r.take(",") || !strings.HasPrefix(r.space(), `"`) {
			return v, false
		}
		key, ok := r.text()
		if !ok || !r.take(":") {
			return v, false
		}
		if members[key], ok = r.value(); !ok {
			return v, false
		}
	}
	v.keys = slices.Sorted(maps.Keys(members))
	for _, k := range v.keys {
		v.items = append(v.items, members[k])
	}
	return v, true
}

// jsonOperand makes an operand a value of jsonb.
func jsonOperand(v any) (jsonValue, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return jsonValue{}, errors.New("want a JSON value")
	}
	out, ok := readJSON(string(text))
	if !ok {
		return out, errors.New("a number is out of range")
	}
	if out.holdsNul() {
		return out, errors.New("jsonb has no text with the character U+0000")
	}
	return out, nil
}

func (v *jsonValue) holdsNul() bool {
	if v.kind == 's' && strings.Contains(v.text, "\x00") {
		return true
	}
	for i := range v.items {
		if i < len(v.keys) && strings.Contains(v.keys[i], "\x00") || v.items[i].holdsNul() {
			return true
		}
	}
	return false
}

// append writes the value in a form that equal values share, and no others.
func (v *jsonValue) append(dst []byte) []byte {
	dst = append(dst, v.kind)
	dst = append(strconv.AppendInt(dst, int64(len(v.text)), 10), ':')
	dst = append(dst, v.text...)
	dst = append(strconv.AppendInt(dst, int64(len(v.items)), 10), ':')
	for i := range v.items {
		if v.kind == '{' {
			dst = append(strconv.AppendInt(dst, int64(len(v.keys[i])), 10), ':')
			dst = append(dst, v.keys[i]...)
		}
		dst = v.items[i].append(dst)
	}
	return dst
}

// jsonComparison compares jsonb. Its order is not that of people, so there are no operators of
// it.
var jsonComparison = &comparison{
	parse: func(text string) (value, bool) {
		v, ok := readJSON(text)
		return value{s: string(v.append(nil))}, ok
	},
	operand: func(v any) (value, error) {
		j, err := jsonOperand(v)
		return value{s: string(j.append(nil))}, err
	},
	contains: func(v any) (func(string) (bool, bool), error) {
		want, err := jsonOperand(v)
		return func(text string) (bool, bool) {
			have, ok := readJSON(text)
			return ok && have.containsRoot(&want), ok
		}, err
	},
}

// containsRoot is jsonb_contains: at the root, an array contains a scalar that is in it.
func (v *jsonValue) containsRoot(want *jsonValue) bool {
	switch {
	case v.kind == '{' || want.kind == '{' || want.kind == '[':
		return v.contains(want)
	case v.kind == '[':
		return v.hasItem(want)
	}
	return v.kind == want.kind && v.text == want.text
}

// contains is JsonbDeepContains.
func (v *jsonValue) contains(want *jsonValue) bool {
	if v.kind != want.kind {
		return false
	}
	switch v.kind {
	case '{':
		for i, key := range want.keys {
			at, ok := slices.BinarySearch(v.keys, key)
			if !ok || !v.items[at].contains(&want.items[i]) {
				return false
			}
		}
		return true
	case '[':
		for i := range want.items {
			if !v.hasItem(&want.items[i]) {
				return false
			}
		}
		return true
	}
	return v.text == want.text
}

func (v *jsonValue) hasItem(want *jsonValue) bool {
	return slices.ContainsFunc(v.items, func(x jsonValue) bool { return x.contains(want) })
}
