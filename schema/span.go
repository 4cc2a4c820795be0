package schema

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"
)

// durationComparison compares intervals as interval_cmp_value does: months of 30 days, days of 24
// hours.
var durationComparison = &comparison{
	parse: func(text string) (value, bool) {
		i, ok := parseInterval(text)
		return i.value(), ok
	},
	operand: func(v any) (value, error) {
		s, _ := v.(string)
		i, ok := parseDuration(s)
		if !ok {
			return value{}, errors.New(`want a duration such as "P1Y2M-3DT4H5M6.789S"`)
		}
		return i.value(), nil
	},
	order: bySpan,
}

// A span is an interval as PostgreSQL holds it.
type span struct {
	months, days int64 // 32 bits
	micros       int64
}

// value is the sum of all parts: whole days, and microseconds below one as text that sorts.
func (p span) value() value {
	for _, name := range []string{"infinity", "-infinity"} {
		if q, _ := infiniteSpan(name); p == q {
			return value{i: p.micros}
		}
	}
	days := p.months*30 + p.days + p.micros/microsPerDay
	rest := p.micros % microsPerDay
	if rest < 0 {
		rest += microsPerDay
		days--
	}
	return value{i: days, s: string(binary.BigEndian.AppendUint64(nil, uint64(rest)))}
}

func bySpan(a, b value) int {
	if c := byInt(a, b); c != 0 {
		return c
	}
	return byString(a, b)
}

func infiniteSpan(s string) (span, bool) {
	switch s {
	case "infinity":
		return span{math.MaxInt32, math.MaxInt32, math.MaxInt64}, true
	case "-infinity":
		return span{math.MinInt32, math.MinInt32, math.MinInt64}, true
	}
	return span{}, false
}

// parseInterval reads the style "postgres", or ISO 8601.
func parseInterval(text string) (span, bool) {
	if p, ok := infiniteSpan(text); ok {
		return p, true
	}
	if strings.HasPrefix(text, "P") {
		return parseDuration(text)
	}
	var p span
	for rest := text; rest != ""; {
		word, after, _ := strings.Cut(rest, " ")
		if strings.Contains(word, ":") {
			var ok bool
			p.micros, ok = parseSpanClock(word)
			return p, ok && after == ""
		}
		unit, next, _ := strings.Cut(after, " ")
		n, err := strconv.ParseInt(word, 10, 32)
		if err != nil || !p.add(n, durationUnit(unit)) {
			return p, false
		}
		rest = next
	}
	return p, text != ""
}

// add adds whole years, months, weeks or days; it is false where the sum is no interval.
func (p *span) add(n int64, unit byte) bool {
	switch unit {
	case 'Y':
		p.months += 12 * n
	case 'M':
		p.months += n
	case 'W':
		p.days += 7 * n
	case 'D':
		p.days += n
	default:
		return false
	}
	return is32(p.months) && is32(p.days)
}

func is32(n int64) bool { return n >= math.MinInt32 && n <= math.MaxInt32 }

// parseSpanClock reads "-04:05:06.789": the sign is of all parts, and hours have no end.
func parseSpanClock(s string) (int64, bool) {
	negative := strings.HasPrefix(s, "-")
	parts := strings.Split(strings.TrimLeft(s, "+-"), ":")
	if len(parts) != 3 {
		return 0, false
	}
	hours, ok1 := unitMicros(parts[0], 3600)
	minutes, ok2 := unitMicros(parts[1], 60)
	seconds, ok3 := unitMicros(parts[2], 1)
	return signed(hours+minutes+seconds, negative, ok1 && ok2 && ok3)
}

// signed gives a sum its sign where it fits into 64 bits.
func signed(sum uint64, negative, ok bool) (int64, bool) {
	switch {
	case negative:
		return -int64(sum), ok && sum <= 1<<63
	default:
		return int64(sum), ok && sum < 1<<63
	}
}

// unitMicros reads a number of units of so many seconds. Only seconds have a fraction.
func unitMicros(s string, unit uint64) (uint64, bool) {
	whole, fraction, broken := strings.Cut(s, ".")
	if whole == "" || whole[0] < '0' || whole[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseUint(whole, 10, 64)
	if err != nil || n > (1<<63)/(unit*microsPerSecond) {
		return 0, false
	}
	out := n * unit * microsPerSecond
	if !broken {
		return out, true
	}
	micros, rest, ok := parseFraction(fraction)
	return out + uint64(micros), ok && rest == "" && unit == 1
}

// parseDuration reads ISO 8601, each part with a sign of its own; only seconds have a fraction.
func parseDuration(s string) (span, bool) {
	if p, ok := infiniteSpan(s); ok {
		return p, true
	}
	rest, ok := strings.CutPrefix(s, "P")
	if !ok || rest == "" || strings.HasSuffix(rest, "T") {
		return span{}, false
	}
	var p span
	day, clock, _ := strings.Cut(rest, "T")
	for day != "" {
		n := strings.IndexAny(day, "YMWD")
		if n < 0 {
			return p, false
		}
		count, err := strconv.ParseInt(day[:n], 10, 32)
		if err != nil || !p.add(count, day[n]) {
			return p, false
		}
		day = day[n+1:]
	}
	for clock != "" {
		n := strings.IndexAny(clock, "HMS")
		if n < 0 {
			return p, false
		}
		micros, ok := signedUnit(clock[:n], map[byte]uint64{'H': 3600, 'M': 60, 'S': 1}[clock[n]])
		sum := p.micros + micros
		if !ok || (sum > p.micros) != (micros > 0) && micros != 0 {
			return p, false
		}
		p.micros, clock = sum, clock[n+1:]
	}
	return p, true
}

func signedUnit(s string, unit uint64) (int64, bool) {
	rest, negative := strings.CutPrefix(s, "-")
	if !negative {
		rest = strings.TrimPrefix(rest, "+")
	}
	micros, ok := unitMicros(rest, unit)
	return signed(micros, negative, ok)
}

// offsetTimeComparison compares timetz as timetz_cmp_internal does: by the moment in UTC, then by
// the zone, the western one being the greater.
var offsetTimeComparison = &comparison{
	parse: parseOffsetTime,
	operand: func(v any) (value, error) {
		s, _ := v.(string)
		out, ok := parseOffsetTime(s)
		if !ok {
			return value{}, errors.New(`want a time with its offset, such as "15:04:05+02:00"`)
		}
		return out, nil
	},
	order: bySpan,
}

func parseOffsetTime(text string) (value, bool) {
	clock, rest, ok := parseClock(text)
	if !ok || rest == "" {
		return value{}, false
	}
	offset, ok := parseOffset(rest)
	// The greatest offset is below 16 hours, so this is positive and sorts as text.
	west := uint32(16*3600 - offset)
	return value{i: clock - offset*microsPerSecond, s: string(binary.BigEndian.AppendUint32(nil, west))}, ok
}
