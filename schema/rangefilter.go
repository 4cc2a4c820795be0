package schema

import "strings"

// rangeComparison compares ranges and multiranges with their elements. Ranges are not compared with
// each other.
func rangeComparison(elem *comparison) *comparison {
	return &comparison{
		parse: func(string) (value, bool) { return value{}, false },
		contains: func(v any) (func(text string) (holds, ok bool), error) {
			want, err := elem.operand(v)
			return func(text string) (bool, bool) { return rangesHold(elem, text, want) }, err
		},
	}
}

// rangesHold tells whether the text of a range, or one of those in a multirange, holds an element.
func rangesHold(elem *comparison, text string, want value) (holds, ok bool) {
	rest, many := strings.CutPrefix(text, "{")
	if many && rest == "}" {
		return false, true
	}
	for {
		var r rangeText
		if r, rest, ok = readRange(rest); !ok {
			return false, false
		}
		in, ok := r.holds(elem, want)
		if !ok {
			return false, false
		}
		holds = holds || in
		if !many || rest == "}" {
			return holds, many || rest == ""
		}
		if rest, ok = strings.CutPrefix(rest, ","); !ok {
			return false, false
		}
	}
}

// holds is range_contains_elem_internal: where there is no bound everything is within, infinity too.
func (r *rangeText) holds(elem *comparison, want value) (holds, ok bool) {
	if r.empty {
		return false, true
	}
	holds = true
	for _, b := range []struct {
		attribute
		inclusive bool
		sign      int // of the bound compared with what is within
	}{{r.lower, r.lowerIn, -1}, {r.upper, r.upperIn, 1}} {
		if b.null {
			continue
		}
		bound, ok := elem.parse(b.text)
		if !ok {
			return false, false
		}
		sign := elem.order(bound, want)
		holds = holds && (sign == b.sign || sign == 0 && b.inclusive)
	}
	return holds, true
}
