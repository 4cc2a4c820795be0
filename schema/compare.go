package schema

import (
	"cmp"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

// A value is a column's value, ready to compare: equal values of a type are equal structs. Only
// one of the fields is in use, by type.
type value struct {
	i int64
	s string
}

// A comparison compares the values of one type exactly as PostgreSQL does.
type comparison struct {
	// parse reads a value from its output text.
	parse func(text string) (value, bool)
	// operand reads a filter's operand: a string, json.Number or bool.
	operand func(v any) (value, error)
	// order is nil where the type is not ordered, or not in process: see collation.
	order func(a, b value) int
	// contains reads the operand of contains and gives what judges values' text by it.
	contains func(v any) (func(text string) (holds, ok bool), error)
	// collation is of columns of text.
	collation *collation
	// like is the text that pattern operators work on; nil where there are none.
	like func(text string) string
	// prefix is the text that startsWith works on.
	prefix func(text string) string
}

func byInt(a, b value) int    { return cmp.Compare(a.i, b.i) }
func byString(a, b value) int { return strings.Compare(a.s, b.s) }

var boolComparison = &comparison{
	parse: func(text string) (value, bool) {
		switch text {
		case "t":
			return value{i: 1}, true
		case "f":
			return value{}, true
		}
		return value{}, false
	},
	operand: func(v any) (value, error) {
		switch v {
		case true:
			return value{i: 1}, nil
		case false:
			return value{}, nil
		}
		return value{}, errors.New("want true or false")
	},
}

var (
	int2Comparison = intComparison(16, "a whole number from -32768 to 32767")
	int4Comparison = intComparison(32, "a whole number from -2147483648 to 2147483647")
	int8Comparison = intComparison(64, "a whole number of 64 bits, as a string of digits")
)

func intComparison(bits int, want string) *comparison {
	return &comparison{
		parse: func(text string) (value, bool) {
			i, err := strconv.ParseInt(text, 10, bits)
			return value{i: i}, err == nil
		},
		operand: func(v any) (value, error) {
			text, ok := numberText(v, bits == 64)
			if !ok {
				return value{}, errors.New("want " + want)
			}
			i, err := strconv.ParseInt(text, 10, bits)
			if err != nil || strings.HasPrefix(text, "+") {
				return value{}, errors.New("want " + want)
			}
			return value{i: i}, nil
		},
		order: byInt,
	}
}

// numberText is the text of a number operand; strings count where the scalar is one.
func numberText(v any, strs bool) (string, bool) {
	switch v := v.(type) {
	case json.Number:
		return v.String(), true
	case string:
		return v, strs
	}
	return "", false
}

var (
	float4Comparison = floatComparison(32)
	float8Comparison = floatComparison(64)
)

// floatComparison orders as float8_cmp_internal does: NaN equals itself and is greater than all
// else, and the two zeros are one.
func floatComparison(bits int) *comparison {
	return &comparison{
		parse: func(text string) (value, bool) {
			f, err := strconv.ParseFloat(text, bits)
			return value{i: floatOrder(f)}, err == nil
		},
		operand: func(v any) (value, error) {
			switch v := v.(type) {
			case json.Number:
				f, err := strconv.ParseFloat(v.String(), bits)
				if err != nil {
					return value{}, errors.New("the number is out of range")
				}
				return value{i: floatOrder(f)}, nil
			case string:
				switch v {
				case "NaN":
					return value{i: floatOrder(math.NaN())}, nil
				case "Infinity":
					return value{i: floatOrder(math.Inf(1))}, nil
				case "-Infinity":
					return value{i: floatOrder(math.Inf(-1))}, nil
				}
			}
			return value{}, errors.New(`want a number, "NaN", "Infinity" or "-Infinity"`)
		},
		order: byInt,
	}
}

// floatOrder maps a float to an integer of the same order; both zeros give 0.
func floatOrder(f float64) int64 {
	if f != f {
		return math.MaxInt64
	}
	bits := int64(math.Float64bits(f))
	if bits < 0 {
		return -(bits & math.MaxInt64)
	}
	return bits
}

// uuidComparison compares text: PostgreSQL prints UUIDs in one form, whose order is that of the
// bytes (uuid_internal_cmp).
var uuidComparison = &comparison{
	parse: func(text string) (value, bool) { return value{s: text}, len(text) == 36 },
	operand: func(v any) (value, error) {
		s, err := stringOperand(v)
		if err != nil || !isUUID(s) {
			return value{}, errors.New(`want a UUID such as "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"`)
		}
		return value{s: strings.ToLower(s)}, nil
	},
	order: byString,
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if s[i] != '-' {
				return false
			}
			continue
		}
		if _, ok := unhex(s[i]); !ok {
			return false
		}
	}
	return true
}

// bytesComparison compares the hexadecimal text.
var bytesComparison = &comparison{
	parse: func(text string) (value, bool) { return value{s: text}, strings.HasPrefix(text, `\x`) },
	operand: func(v any) (value, error) {
		s, ok := v.(string)
		if !ok {
			return value{}, errors.New("want bytes in base64")
		}
		b, err := base64.StdEncoding.DecodeString(s)
		if err != nil {
			return value{}, errors.New("want bytes in base64")
		}
		return value{s: `\x` + hex.EncodeToString(b)}, nil
	},
	order: byString, // hexadecimal digits sort as the bytes do
}

// comparison orders by the labels' places. A label that the catalog does not know cannot be
// compared: the catalog is older than the row.
func (e *enumType) comparison() *comparison {
	return &comparison{
		parse: func(text string) (value, bool) {
			i, ok := e.order[text]
			return value{i: i}, ok
		},
		operand: func(v any) (value, error) {
			s, _ := v.(string)
			label, ok := e.byValue[s]
			if !ok {
				return value{}, errors.New("want a value of " + e.name)
			}
			return value{i: e.order[label]}, nil
		},
		order: byInt,
	}
}
