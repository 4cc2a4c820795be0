package schema

import (
	"errors"
	"strconv"
	"strings"
)

// numericComparison compares numbers of any length by value. A value is held as a key: see
// decimalKey.
var numericComparison = &comparison{
	parse: func(text string) (value, bool) {
		k, err := decimalKey(text)
		return value{s: k}, err == nil
	},
	operand: func(v any) (value, error) {
		text, ok := numberText(v, true)
		if !ok {
			return value{}, errors.New(`want a number as a string, such as "1.10"`)
		}
		k, err := decimalKey(text)
		return value{s: k}, err
	},
	order: func(a, b value) int { return compareDecimals(a.s, b.s) },
}

// The limits of numeric: digits before and behind the decimal point (numeric.h).
const (
	maxDecimalWeight = 131072
	maxDecimalScale  = 16383
)

// decimalKey gives numbers of the same value the same string: a sign, the exponent of the first
// digit that is not 0, and the digits from there, without zeros at the end. NaN equals itself
// and is greater than Infinity, as in cmp_numerics.
func decimalKey(text string) (string, error) {
	switch text {
	case "NaN":
		return "N", nil
	case "Infinity":
		return "I", nil
	case "-Infinity":
		return "-I", nil
	}
	bad := errors.New(`want a number, such as "1.10"`)
	if !isDecimal(text) {
		return "", bad
	}
	sign, rest := "+", text
	if s, ok := strings.CutPrefix(rest, "-"); ok {
		sign, rest = "-", s
	}
	exponent := 0
	if at := strings.IndexAny(rest, "eE"); at >= 0 {
		e, err := strconv.Atoi(rest[at+1:])
		if err != nil || e > maxDecimalWeight || e < -maxDecimalScale {
			return "", errors.New("the number is out of range")
		}
		rest, exponent = rest[:at], e
	}
	whole, fraction, _ := strings.Cut(rest, ".")
	exponent += len(whole)
	digits := whole + fraction
	trimmed := strings.TrimLeft(digits, "0")
	exponent -= len(digits) - len(trimmed)
	trimmed = strings.TrimRight(trimmed, "0")
	if trimmed == "" {
		return "0", nil
	}
	return sign + strconv.Itoa(exponent) + ":" + trimmed, nil
}

// isDecimal is JSON's grammar of numbers, but for leading zeros.
func isDecimal(s string) bool {
	s = strings.TrimPrefix(s, "-")
	for len(s) > 1 && s[0] == '0' && s[1] >= '0' && s[1] <= '9' {
		s = s[1:]
	}
	return !strings.HasPrefix(s, "-") && isJSONNumber(s)
}

func compareDecimals(a, b string) int {
	if a == b {
		return 0
	}
	ra, rb := decimalRank(a), decimalRank(b)
	if ra != rb {
		if ra < rb {
			return -1
		}
		return 1
	}
	if ra < 0 {
		a, b = b, a
	}
	return compareMagnitudes(a[1:], b[1:])
}

// decimalRank sorts -Infinity, the negative, zero, the positive, Infinity and NaN.
func decimalRank(k string) int {
	switch {
	case k == "-I":
		return -2
	case k[0] == '-':
		return -1
	case k[0] == '+':
		return 1
	case k == "I":
		return 2
	case k == "N":
		return 3
	}
	return 0
}

// compareMagnitudes compares exponents, then digits. Two keys of one rank without digits are
// equal, and do not come here.
func compareMagnitudes(a, b string) int {
	ea, da, _ := strings.Cut(a, ":")
	eb, db, _ := strings.Cut(b, ":")
	if ea != eb {
		x, _ := strconv.Atoi(ea)
		y, _ := strconv.Atoi(eb)
		if x < y {
			return -1
		}
		return 1
	}
	return strings.Compare(da, db)
}
