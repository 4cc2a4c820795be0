package replication

import (
	"bytes"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rowtide/rowtide/cdc"
)

func TestQueueKeepsOrderWithinItsBound(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		q := newQueue(limit)
		var pushed, taken []string
		var held *slab
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				m := rapid.SliceOfN(rapid.ByteRange('0', '9'), 0, 80).Draw(t, "message")
				before := size(q)
				if ok := q.push(m); !ok {
					if before+len(m) <= limit || before == 0 {
						t.Fatalf("no place for %d bytes beside %d of %d", len(m), before, limit)
					}
					return
				}
				if n := size(q); n > limit && before > 0 {
					t.Fatalf("%d bytes in a queue of %d", n, limit)
				}
				pushed = append(pushed, string(m))
			},
			"keepalive": func(t *rapid.T) {
				end := rapid.Uint64Range(1, 1000).Draw(t, "end")
				q.pushKeepalive(cdc.LSN(end))
				pushed = append(pushed, "k")
			},
			"take": func(*rapid.T) {
				if held = q.take(held); held == nil {
					return
				}
				from := 0
				for _, it := range held.items {
					if it.serverEnd != 0 {
						taken = append(taken, "k")
						continue
					}
					taken = append(taken, string(held.data[from:it.end]))
					from = it.end
				}
			},
			"": func(t *rapid.T) {
				if !begins(pushed, taken) {
					t.Fatalf("taken %q of %q", taken, pushed)
				}
			},
		})
	})
}

// begins tells whether pushed begins with taken. Keepalives that follow each other may have
// become one.
func begins(pushed, taken []string) bool {
	sameKeepalive := func(a, b string) bool { return a == "k" && b == "k" }
	pushed = slices.CompactFunc(slices.Clone(pushed), sameKeepalive)
	taken = slices.CompactFunc(slices.Clone(taken), sameKeepalive)
	return len(taken) <= len(pushed) && slices.Equal(taken, pushed[:len(taken)])
}

// Covers C08.
func TestStormOfKeepalivesTakesNoMemory(t *testing.T) {
	q := newQueue(1 << 20)
	q.push([]byte("B"))
	end := cdc.LSN(1)
	q.pushKeepalive(end)
	allocs := testing.AllocsPerRun(100_000, func() {
		end++
		q.pushKeepalive(end)
	})
	s := q.take(nil)
	if allocs != 0 || len(s.items) != 2 || s.items[1].serverEnd != end {
		t.Errorf("%v allocations a keepalive; %d items, the last at %s, want 2 and %s", allocs, len(s.items), s.items[len(s.items)-1].serverEnd, end)
	}
}

func TestQueueAllocatesNothingForAMessage(t *testing.T) {
	q := newQueue(1 << 20)
	message := bytes.Repeat([]byte("x"), 200)
	var held *slab
	for range 2 { // both slabs grow once
		for range 100 {
			q.push(message)
		}
		held = q.take(held)
	}
	if allocs := testing.AllocsPerRun(100, func() {
		for range 100 {
			q.push(message)
		}
		held = q.take(held)
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

func TestHugeMessageDoesNotStayInMemory(t *testing.T) {
	t.Parallel()
	q := newQueue(100)
	if !q.push(make([]byte, 10_000)) {
		t.Fatal("a message larger than the queue finds no place in an empty one")
	}
	if q.push([]byte("x")) {
		t.Error("a message beside one that fills the queue")
	}
	s := q.take(nil)
	if q.take(s); cap(s.data) > 200 {
		t.Errorf("%d bytes are kept by a queue of 100", cap(s.data))
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			q, message := newQueue(1<<20), make([]byte, size)
			var held *slab
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if !q.push(message) {
					held = q.take(held)
					q.push(message)
				}
			}
		})
	}
}

func size(q *queue) int {
	n, _ := q.depth()
	return n
}
