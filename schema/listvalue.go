package schema

import (
	"errors"
	"strconv"
	"strings"
)

// listComparison compares arrays by their elements.
func listComparison(elem *comparison, delimiter byte) *comparison {
	l := listReader{elem, delimiter}
	return &comparison{parse: l.parse, operand: l.operand, contains: l.contains}
}

type listReader struct {
	elem      *comparison
	delimiter byte
}

// each reads the elements of an array's text, of all dimensions in a row. plain tells that it has
// one dimension that begins at 1, or no element: array_eq compares dimensions too.
func (l listReader) each(text string, f func(v value, null bool) bool) (plain, ok bool) {
	plain = true
	if strings.HasPrefix(text, "[") {
		at := strings.IndexByte(text, '=')
		if at < 0 {
			return false, false
		}
		text, plain = text[at+1:], false
	}
	plain = plain && !strings.HasPrefix(text, "{{")
	r := arrayReader{rest: text, delimiter: l.delimiter}
	r.null = func(dst []byte) []byte { f(value{}, true); return dst }
	r.elem = func(dst []byte, text string) ([]byte, bool) {
		v, ok := l.elem.parse(text)
		return dst, ok && f(v, false)
	}
	_, ok = r.list(nil, 0)
	return plain, ok && r.rest == ""
}

// parse gives arrays of one dimension that begins at 1 the form of operands; all others, which
// no operand equals, are marked.
func (l listReader) parse(text string) (value, bool) {
	var b []byte
	plain, ok := l.each(text, func(v value, null bool) bool {
		b = appendElement(b, v, null)
		return true
	})
	if !plain {
		b = append([]byte("other "), text...)
	}
	return value{s: string(b)}, ok
}

func appendElement(b []byte, v value, null bool) []byte {
	if null {
		return append(b, 'n')
	}
	b = append(strconv.AppendInt(append(b, 'v'), v.i, 10), ':')
	b = append(strconv.AppendInt(b, int64(len(v.s)), 10), ':')
	return append(b, v.s...)
}

// items reads a list; a single value is a list of one (specification, 3.11).
func (l listReader) items(v any) []any {
	if list, ok := v.([]any); ok {
		return list
	}
	return []any{v}
}

func (l listReader) operand(v any) (value, error) {
	var b []byte
	for _, item := range l.items(v) {
		if item == nil {
			b = appendElement(b, value{}, true)
			continue
		}
		o, err := l.elem.operand(item)
		if err != nil {
			return value{}, err
		}
		b = appendElement(b, o, false)
	}
	return value{s: string(b)}, nil
}

// contains is array_contain_all: each wanted element is in the array, in whatever dimension.
func (l listReader) contains(v any) (func(string) (bool, bool), error) {
	want := map[value]struct{}{}
	for _, item := range l.items(v) {
		if item == nil {
			return nil, errors.New("null is in no array")
		}
		o, err := l.elem.operand(item)
		if err != nil {
			return nil, err
		}
		want[o] = struct{}{}
	}
	return func(text string) (bool, bool) {
		have := make(map[value]struct{}, len(want))
		_, ok := l.each(text, func(v value, null bool) bool {
			if _, wanted := want[v]; wanted && !null {
				have[v] = struct{}{}
			}
			return true
		})
		return len(have) == len(want), ok
	}, nil
}
