package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// A size is a number of bytes, written as PostgreSQL writes them: 256MB is 256 times 1024 times
// 1024.
type size int64

// units are those of PostgreSQL's settings, without its pages.
func units() map[string]int64 {
	return map[string]int64{"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
}

// UnmarshalText reads a number with its unit.
func (s *size) UnmarshalText(b []byte) error {
	text := string(b)
	digits := strings.TrimRight(text, "kMGTB")
	unit, ok := units()[strings.TrimPrefix(text, digits)]
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || !ok || n < 0 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size, write it like 256MB or 16GB", text)
	}
	*s = size(n * unit)
	return nil
}
