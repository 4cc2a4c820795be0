package schema

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// Times are compared as PostgreSQL holds them: microseconds, or days for dates, counted from
// 2000-01-01. The infinities are the ends of int64.
const (
	microsPerSecond = 1_000_000
	microsPerDay    = 86400 * microsPerSecond
	// minTimestamp and endTimestamp bound timestamps (datatype/timestamp.h).
	minTimestamp = -211_813_488_000_000_000
	endTimestamp = 9_223_371_331_200_000_000
)

var (
	timestamptzComparison = timeComparison(parseTimestamp, `a time such as "2006-01-02T15:04:05Z"`, true)
	timestampComparison   = timeComparison(parseTimestamp, `a local time such as "2006-01-02T15:04:05"`, false)
	dateComparison        = &comparison{
		parse: func(text string) (value, bool) {
			i, ok := parseDate(text)
			return value{i: i}, ok
		},
		operand: func(v any) (value, error) {
			s, _ := v.(string)
			i, ok := parseDate(s)
			if !ok {
				return value{}, errors.New(`want a date such as "2006-01-02"`)
			}
			return value{i: i}, nil
		},
		order: byInt,
	}
	timeOfDayComparison = &comparison{
		parse: func(text string) (value, bool) {
			i, rest, ok := parseClock(text)
			return value{i: i}, ok && rest == ""
		},
		operand: func(v any) (value, error) {
			s, _ := v.(string)
			i, rest, ok := parseClock(s)
			if !ok || rest != "" {
				return value{}, errors.New(`want a time of day such as "15:04:05"`)
			}
			return value{i: i}, nil
		},
		order: byInt,
	}
)

func timeComparison(parse func(string, bool) (int64, bool), want string, zoned bool) *comparison {
	return &comparison{
		parse: func(text string) (value, bool) {
			i, ok := parse(text, zoned)
			return value{i: i}, ok
		},
		operand: func(v any) (value, error) {
			s, _ := v.(string)
			i, ok := parse(s, zoned)
			if !ok {
				return value{}, errors.New("want " + want)
			}
			return value{i: i}, nil
		},
		order: byInt,
	}
}

func parseInfinity(s string) (int64, bool) {
	switch s {
	case "infinity":
		return math.MaxInt64, true
	case "-infinity":
		return math.MinInt64, true
	}
	return 0, false
}

// parseTimestamp reads PostgreSQL's ISO text and the API's: "2006-01-02 15:04:05.9+00 BC",
// "-000043-03-15T00:00:00Z". zoned wants an offset and its absence is an error; without zoned
// its presence is.
func parseTimestamp(s string, zoned bool) (int64, bool) {
	if i, ok := parseInfinity(s); ok {
		return i, true
	}
	s, bc := strings.CutSuffix(s, " BC")
	at := strings.IndexAny(s, " T")
	if at < 0 {
		return 0, false
	}
	days, ok := parseDay(s[:at], bc)
	if !ok {
		return 0, false
	}
	clock, rest, ok := parseClock(s[at+1:])
	if !ok || clock >= microsPerDay {
		return 0, false
	}
	offset, ok := parseOffset(rest)
	if !ok || zoned != (rest != "") {
		return 0, false
	}
	if days < minTimestamp/microsPerDay-1 || days > endTimestamp/microsPerDay {
		return 0, false // the product would overflow
	}
	micros := days*microsPerDay + clock - offset*microsPerSecond
	return micros, micros >= minTimestamp && micros < endTimestamp
}

func parseDate(s string) (int64, bool) {
	if i, ok := parseInfinity(s); ok {
		return i, true
	}
	s, bc := strings.CutSuffix(s, " BC")
	return parseDay(s, bc)
}

// parseDay reads year, month and day into days since 2000. With bc the year counts before Christ;
// without it a signed year is ISO 8601's, where 1 BC is 0.
func parseDay(s string, bc bool) (int64, bool) {
	negative := strings.HasPrefix(s, "-")
	if negative || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	ys, rest, ok := strings.Cut(s, "-")
	if !ok || len(ys) < 4 || len(ys) > 7 || len(rest) != 5 || rest[2] != '-' {
		return 0, false
	}
	y, ok1 := digitsOf(ys)
	m, ok2 := digitsOf(rest[:2])
	d, ok3 := digitsOf(rest[3:])
	if !ok1 || !ok2 || !ok3 || m < 1 || m > 12 {
		return 0, false
	}
	switch {
	case bc && (negative || y == 0):
		return 0, false
	case bc:
		y = 1 - y
	case negative:
		y = -y
	}
	if d < 1 || d > daysIn(y, m) {
		return 0, false
	}
	return daysFromCivil(y, m, d), true
}

func daysIn(y, m int64) int64 {
	switch m {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if y%4 == 0 && (y%100 != 0 || y%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysFromCivil counts days from 2000-01-01 in the proleptic Gregorian calendar, whose year 0 is
// 1 BC (the algorithm of Howard Hinnant's days_from_civil).
func daysFromCivil(y, m, d int64) int64 {
	if m <= 2 {
		y--
	}
	era := y / 400
	if y < 0 {
		era = (y - 399) / 400
	}
	yoe := y - era*400
	mp := (m + 9) % 12
	doy := (153*mp+2)/5 + d - 1
	doe := yoe*365 + yoe/4 - yoe/100 + doy
	return era*146097 + doe - 730425
}

// parseClock reads "15:04:05.123456" into microseconds and gives what follows. More than six
// digits are refused unless they are zeros: PostgreSQL would round them away.
func parseClock(s string) (micros int64, rest string, ok bool) {
	if len(s) < 5 || s[2] != ':' {
		return 0, "", false
	}
	h, ok1 := digitsOf(s[:2])
	m, ok2 := digitsOf(s[3:5])
	if !ok1 || !ok2 || h > 24 || m > 59 {
		return 0, "", false
	}
	micros, rest = (h*3600+m*60)*microsPerSecond, s[5:]
	if len(rest) >= 3 && rest[0] == ':' {
		sec, ok := digitsOf(rest[1:3])
		if !ok || sec > 59 {
			return 0, "", false
		}
		micros, rest = micros+sec*microsPerSecond, rest[3:]
		if strings.HasPrefix(rest, ".") {
			f, after, ok := parseFraction(rest[1:])
			if !ok {
				return 0, "", false
			}
			micros, rest = micros+f, after
		}
	}
	return micros, rest, micros <= microsPerDay
}

func parseFraction(s string) (micros int64, rest string, ok bool) {
	n := 0
	for n < len(s) && s[n] >= '0' && s[n] <= '9' {
		if n >= 6 && s[n] != '0' {
			return 0, "", false
		}
		if n < 6 {
			micros = micros*10 + int64(s[n]-'0')
		}
		n++
	}
	for i := n; i < 6; i++ {
		micros *= 10
	}
	return micros, s[n:], n > 0
}

// parseOffset reads "", "Z", "+02", "+02:30" and "+02:30:15" into seconds.
func parseOffset(s string) (int64, bool) {
	if s == "" || s == "Z" {
		return 0, true
	}
	if s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	var total int64
	parts := strings.Split(s[1:], ":")
	if len(parts) > 3 {
		return 0, false
	}
	for i, unit := range []int64{3600, 60, 1} {
		if i >= len(parts) {
			break
		}
		n, ok := digitsOf(parts[i])
		if !ok || len(parts[i]) != 2 || i > 0 && n > 59 || n > 15 && i == 0 {
			return 0, false
		}
		total += n * unit
	}
	if s[0] == '-' {
		total = -total
	}
	return total, true
}

func digitsOf(s string) (int64, bool) {
	if s == "" || s[0] < '0' || s[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 31)
	return int64(n), err == nil
}
