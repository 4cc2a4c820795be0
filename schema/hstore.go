package schema

import (
	"errors"
	"strings"
)

// hstoreScalar is the extension's type: an object whose values are strings or null. Keys are
// unique, so nothing is lost.
var hstoreScalar = &scalar{name: "JSON", filter: inputOf("JSON", withEqual|withContains), write: writeHstore, compare: hstoreComparison}

// hstoreComparison compares what is written: equal objects of text are equal hstores, and one contains
// another as jsonb does.
var hstoreComparison = &comparison{
	parse: func(text string) (value, bool) {
		out, ok := writeHstore(nil, text)
		if !ok {
			return value{}, false
		}
		return jsonComparison.parse(string(out))
	},
	operand: func(v any) (value, error) {
		if err := hstoreOperand(v); err != nil {
			return value{}, err
		}
		return jsonComparison.operand(v)
	},
	contains: func(v any) (func(string) (bool, bool), error) {
		if err := hstoreOperand(v); err != nil {
			return nil, err
		}
		holds, err := jsonComparison.contains(v)
		return func(text string) (bool, bool) {
			out, ok := writeHstore(nil, text)
			if !ok {
				return false, false
			}
			return holds(string(out))
		}, err
	},
}

func hstoreOperand(v any) error {
	o, ok := v.(map[string]any)
	for _, item := range o {
		_, text := item.(string)
		ok = ok && (text || item == nil)
	}
	if !ok {
		return errors.New("want an object of strings and nulls")
	}
	return nil
}

// writeHstore writes the text of hstore_out: "a"=>"1", "b"=>NULL.
func writeHstore(dst []byte, text string) ([]byte, bool) {
	start := len(dst)
	dst = append(dst, '{')
	for rest := text; rest != ""; {
		r := arrayReader{rest: rest}
		key, ok := r.key()
		if !ok {
			return dst[:start], false
		}
		dst, _ = writeString(dst, key)
		dst = append(dst, ':')
		if after, null := strings.CutPrefix(r.rest, "NULL"); null {
			dst, r.rest = append(dst, "null"...), after
		} else {
			value, ok := r.quoted()
			if !ok {
				return dst[:start], false
			}
			dst, _ = writeString(dst, value)
		}
		if rest = r.rest; rest == "" {
			break
		}
		if rest, ok = strings.CutPrefix(rest, ", "); !ok || rest == "" {
			return dst[:start], false
		}
		dst = append(dst, ',')
	}
	return append(dst, '}'), true
}

// key reads a key and the arrow behind it.
func (r *arrayReader) key() (string, bool) {
	key, ok := r.quoted()
	if !ok {
		return "", false
	}
	r.rest, ok = strings.CutPrefix(r.rest, "=>")
	return key, ok
}
