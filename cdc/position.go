package cdc

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// An LSN is a byte address in the write-ahead log. It is unsigned over its whole 64 bits.
type LSN uint64

// ParseLSN reads PostgreSQL's notation, two hexadecimal numbers with a slash between.
func ParseLSN(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse LSN %q: want two hexadecimal numbers with a slash between", s)
	}
	h, err := strconv.ParseUint(hi, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, err)
	}
	l, err := strconv.ParseUint(lo, 16, 32)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: %w", s, err)
	}
	return LSN(h<<32 | l), nil
}

// String gives PostgreSQL's notation.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// EndOfTransaction is the Seq of the position behind all changes of a transaction. Events have
// smaller ones.
const EndOfTransaction uint32 = math.MaxUint32

// A Position is a place in the stream of folded changes: commit order first, then the sequence
// within the transaction. It is a function of the WAL alone, so every node gives one change
// the same position. Record LSNs are not monotone across transactions and have no part in it.
type Position struct {
	Commit LSN
	Seq    uint32
}

// Compare is -1, 0 or 1 as p lies before, at or behind q.
func (p Position) Compare(q Position) int {
	if c := cmp.Compare(p.Commit, q.Commit); c != 0 {
		return c
	}
	return cmp.Compare(p.Seq, q.Seq)
}

// IsZero tells the position before every change.
func (p Position) IsZero() bool { return p == Position{} }

// String is for logs: the LSN and the sequence.
func (p Position) String() string {
	if p.Seq == EndOfTransaction {
		return p.Commit.String() + ":end"
	}
	return p.Commit.String() + ":" + strconv.FormatUint(uint64(p.Seq), 10)
}
