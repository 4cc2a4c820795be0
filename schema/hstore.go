package schema

import "strings"

// hstoreScalar is the extension's type: an object whose values are strings or null. Keys are
// unique, so nothing is lost.
var hstoreScalar = &scalar{name: "JSON", filter: presence, write: writeHstore}

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
