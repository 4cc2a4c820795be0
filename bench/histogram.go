package bench

import "math/bits"

// A histogram counts times in microseconds, each to three percent.
type histogram struct {
	counts []uint32 // nil while there are none: thousands of sockets have one
	most   int64
}

// subBuckets is how many buckets there are between a power of two and the next.
const subBuckets = 32

func (h *histogram) add(us int64) {
	if h.counts == nil {
		h.counts = make([]uint32, 40*subBuckets)
	}
	us = max(us, 0)
	h.most = max(h.most, us)
	h.counts[min(bucket(us), len(h.counts)-1)]++
}

func bucket(us int64) int {
	if us < subBuckets {
		return int(us)
	}
	shift := bits.Len64(uint64(us)) - 6 //nolint:gosec // it is not negative
	return shift*subBuckets + int(us>>shift)
}

// floor is the smallest time of a bucket.
func floor(b int) float64 {
	if b < 2*subBuckets {
		return float64(b)
	}
	shift := b/subBuckets - 1
	return float64(int64(b-shift*subBuckets) << shift)
}

func (h *histogram) take(o *histogram) {
	h.most = max(h.most, o.most)
	if o.counts == nil {
		return
	}
	if h.counts == nil {
		h.counts = make([]uint32, len(o.counts))
	}
	for i, n := range o.counts {
		h.counts[i] += n
	}
	clear(o.counts)
	o.most = 0
}

// at gives a quantile; 1 is the maximum. It is 0 where nothing was counted.
func (h *histogram) at(q float64) float64 {
	if q >= 1 {
		return float64(h.most)
	}
	total := uint64(0)
	for _, n := range h.counts {
		total += uint64(n)
	}
	seen := uint64(0)
	for i, n := range h.counts {
		if seen += uint64(n); n > 0 && float64(seen) >= q*float64(total) {
			return floor(i)
		}
	}
	return 0
}
