package replication

import (
	"bytes"
	"io"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

// A trickle gives what it has in pieces of these sizes.
type trickle struct {
	data  []byte
	sizes []int
}

func (t *trickle) Read(p []byte) (int, error) {
	if len(t.sizes) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.data[:min(t.sizes[0], len(t.data))])
	t.data, t.sizes = t.data[n:], t.sizes[1:]
	return n, nil
}

func TestNothingIsLostOrChangedOnTheWay(t *testing.T) {
	t.Parallel()
	data := make([]byte, 100_000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	got, err := io.ReadAll(iotest.OneByteReader(newGulp(&trickle{data, slices.Repeat([]int{333}, 301)})))
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}

// read lets the server give pieces, each a time after the one before, and counts the rests.
func read(t *testing.T, g *gulp, now *time.Time, apart time.Duration, sizes ...int) int {
	t.Helper()
	g.r = &trickle{make([]byte, 10<<20), sizes}
	rests := 0
	for range sizes {
		if !g.empty() {
			t.Fatal("something is left")
		}
		if g.rests(*now) {
			rests++
			*now = now.Add(restTime)
		}
		if n, err := g.Read(make([]byte, gulpBytes)); n == 0 || err != nil {
			t.Fatalf("read %d bytes, %v", n, err)
		}
		*now = now.Add(apart)
	}
	return rests
}

func TestOnlyABacklogIsRestedIn(t *testing.T) {
	t.Parallel()
	g, now := newGulp(nil), time.Unix(0, 0)
	if n := read(t, g, &now, 100*time.Microsecond, slices.Repeat([]int{200}, 1000)...); n != 0 {
		t.Errorf("rested %d times where messages come one by one", n)
	}
	if n := read(t, g, &now, 20*time.Microsecond, slices.Repeat([]int{200}, 30)...); n != 0 {
		t.Errorf("rested %d times in one transaction", n)
	}
	now = now.Add(time.Second)
	if n := read(t, g, &now, 20*time.Microsecond, slices.Repeat([]int{leastGulp}, 3*streakReads)...); n < streakReads {
		t.Errorf("rested %d times in a backlog", n)
	}
	read(t, g, &now, time.Millisecond, 100, 100)
	if n := read(t, g, &now, time.Millisecond, slices.Repeat([]int{200}, 100)...); n != 0 {
		t.Errorf("rested %d times behind the backlog", n)
	}
}
