package schema

import "strings"

// writeArray writes an array as a list, and one of several dimensions as lists of lists. Lower
// bounds other than 1 ("[0:2]={…}") have no place in JSON and are left out.
func writeArray(elem writeFunc, delimiter byte) writeFunc {
	return func(dst []byte, text string) ([]byte, bool) {
		start := len(dst)
		if strings.HasPrefix(text, "[") {
			at := strings.IndexByte(text, '=')
			if at < 0 {
				return dst, false
			}
			text = text[at+1:]
		}
		r := arrayReader{rest: text, elem: elem, delimiter: delimiter}
		dst, ok := r.list(dst, 0)
		if !ok || r.rest != "" {
			return dst[:start], false
		}
		return dst, true
	}
}

// maxArrayDimensions is MAXDIM of PostgreSQL.
const maxArrayDimensions = 6

type arrayReader struct {
	rest      string
	elem      writeFunc
	delimiter byte
	// null takes the place of elem for NULL; nil writes JSON's null.
	null func(dst []byte) []byte
}

func (r *arrayReader) list(dst []byte, depth int) ([]byte, bool) {
	if !strings.HasPrefix(r.rest, "{") || depth >= maxArrayDimensions {
		return dst, false
	}
	r.rest = r.rest[1:]
	dst = append(dst, '[')
	for first := true; ; first = false {
		if first && strings.HasPrefix(r.rest, "}") {
			r.rest = r.rest[1:]
			return append(dst, ']'), true
		}
		var ok bool
		if strings.HasPrefix(r.rest, "{") {
			dst, ok = r.list(dst, depth+1)
		} else {
			dst, ok = r.element(dst)
		}
		if !ok || r.rest == "" {
			return dst, false
		}
		c := r.rest[0]
		r.rest = r.rest[1:]
		switch c {
		case '}':
			return append(dst, ']'), true
		case r.delimiter:
			dst = append(dst, ',')
		default:
			return dst, false
		}
	}
}

func (r *arrayReader) element(dst []byte) ([]byte, bool) {
	if strings.HasPrefix(r.rest, `"`) {
		text, ok := r.quoted()
		if !ok {
			return dst, false
		}
		return r.elem(dst, text)
	}
	n := 0
	for n < len(r.rest) && r.rest[n] != r.delimiter && r.rest[n] != '}' {
		n++
	}
	text := r.rest[:n]
	r.rest = r.rest[n:]
	switch {
	case text == "":
		return dst, false
	// array_out quotes the string NULL and nothing else that reads like it.
	case strings.EqualFold(text, "NULL"):
		if r.null != nil {
			return r.null(dst), true
		}
		return append(dst, "null"...), true
	}
	return r.elem(dst, text)
}

// quoted reads an element in quotation marks. It copies only where a backslash stands.
func (r *arrayReader) quoted() (string, bool) {
	s, ok := strings.CutPrefix(r.rest, `"`)
	if !ok {
		return "", false
	}
	end := strings.IndexAny(s, `"\`)
	if end < 0 {
		return "", false
	}
	if s[end] == '"' {
		r.rest = s[end+1:]
		return s[:end], true
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			r.rest = s[i+1:]
			return b.String(), true
		case '\\':
			if i++; i == len(s) {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", false
}
