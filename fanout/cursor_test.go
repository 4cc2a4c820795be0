package fanout_test

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
	"github.com/rowtide/rowtide/fanout"
)

func codec(t testing.TB, c fanout.CursorConfig) *fanout.CursorCodec {
	t.Helper()
	if c.Secret == nil {
		c.Secret = []byte("0123456789abcdef0123456789abcdef")
	}
	out, err := fanout.NewCursorCodec(c)
	if err != nil {
		t.Fatalf("make codec: %v", err)
	}
	return out
}

// Covers C17.
func TestCursorsComeBackAsTheirPosition(t *testing.T) {
	t.Parallel()
	c := codec(t, fanout.CursorConfig{System: 1, Timeline: 3})
	rapid.Check(t, func(t *rapid.T) {
		p := cdc.Position{Commit: cdc.LSN(rapid.Uint64().Draw(t, "commit")), Seq: rapid.Uint32().Draw(t, "seq")}
		s := c.Encode(p)
		if len(s) != 32 {
			t.Fatalf("cursor %q has %d characters, want 32", s, len(s))
		}
		got, err := c.Decode(s)
		if err != nil || got != p {
			t.Fatalf("%v came back as %v, %v", p, got, err)
		}
	})
	for _, commit := range []cdc.LSN{0, 0x7FFFFFFF_FFFFFFFF, 0x80000000_00000000, math.MaxUint64} {
		if got, err := c.Decode(c.Encode(cdc.Position{Commit: commit})); err != nil || got.Commit != commit {
			t.Errorf("%s came back as %v, %v", commit, got, err)
		}
	}
}

// Covers S36, C20.
func TestForgedAndForeignCursorsAreRefused(t *testing.T) {
	t.Parallel()
	c := codec(t, fanout.CursorConfig{System: 1, Timeline: 3})
	p := cdc.Position{Commit: 77, Seq: 5}
	good := c.Encode(p)
	bad := []string{
		"", "x", good[:31], good + "A", good[:31] + "=", "!" + good[1:], good[:16] + "\n" + good[16:],
		codec(t, fanout.CursorConfig{System: 2, Timeline: 3}).Encode(p),
		codec(t, fanout.CursorConfig{System: 1, Timeline: 4}).Encode(p),
		codec(t, fanout.CursorConfig{System: 1, Timeline: 3, Secret: []byte("another secret, long enough")}).Encode(p),
		c.TransactionID(77) + c.TransactionID(77),
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range good { // every edit of one character
		for _, a := range alphabet {
			if byte(a) != good[i] {
				bad = append(bad, good[:i]+string(a)+good[i+1:])
			}
		}
	}
	for _, s := range bad {
		if got, err := c.Decode(s); !errors.Is(err, fanout.ErrCursor) {
			t.Errorf("cursor %q is %v, %v, want ErrCursor", s, got, err)
		}
	}
}

// Covers C116, S37.
func TestCursorsAreTheSameOnEveryNodeAndTellNothing(t *testing.T) {
	t.Parallel()
	a, b := codec(t, fanout.CursorConfig{System: 1, Timeline: 3}), codec(t, fanout.CursorConfig{System: 1, Timeline: 3})
	first, second := cdc.Position{Commit: 1000, Seq: 1}, cdc.Position{Commit: 1000, Seq: 2}
	if a.Encode(first) != b.Encode(first) {
		t.Error("two nodes give one position two cursors")
	}
	x, y := a.Encode(first), a.Encode(second)
	same := 0
	for i := range x {
		if x[i] == y[i] {
			same++
		}
	}
	if same > 8 { // half a character of 64 is expected
		t.Errorf("cursors of neighbours share %d of 32 characters: %s %s", same, x, y)
	}
}

// Covers C33, C34.
func TestCursorsBeyondTheForkOfALaterTimelineAreRefused(t *testing.T) {
	t.Parallel()
	old := codec(t, fanout.CursorConfig{System: 1, Timeline: 1})
	now := codec(t, fanout.CursorConfig{System: 1, Timeline: 3, Forks: map[uint32]cdc.LSN{1: 500, 2: 700}})
	before := cdc.Position{Commit: 499, Seq: 1}
	if got, err := now.Decode(old.Encode(before)); err != nil || got != before {
		t.Errorf("a cursor from before the fork is %v, %v", got, err)
	}
	if _, err := now.Decode(old.Encode(cdc.Position{Commit: 500})); !errors.Is(err, fanout.ErrCursor) {
		t.Errorf("a cursor from behind the fork: %v, want ErrCursor", err)
	}
}

func TestCursorCodecWantsASecret(t *testing.T) {
	t.Parallel()
	if _, err := fanout.NewCursorCodec(fanout.CursorConfig{Secret: []byte("short")}); err == nil {
		t.Error("a short secret was taken")
	}
}
