package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/rowtide/rowtide/cdc"
)

// A reader takes a message apart from left to right. The first thing that does not fit is
// kept in reason; from then on every method gives zero and moves no further, so that callers
// need to look only once, and before they allocate.
type reader struct {
	data   []byte
	pos    int
	reason string
}

func (r *reader) failf(format string, args ...any) {
	if r.reason == "" {
		r.reason = fmt.Sprintf(format, args...)
	}
}

// fits tells whether n things of at least size bytes each can still follow.
func (r *reader) fits(n, size int) bool {
	if r.reason != "" {
		return false
	}
	if n < 0 || n > (len(r.data)-r.pos)/size {
		r.failf("%d entries announced, %d bytes left", n, len(r.data)-r.pos)
		return false
	}
	return true
}

// bytes gives the next n bytes, a part of the message.
func (r *reader) bytes(n uint32) []byte {
	if r.reason != "" {
		return nil
	}
	if uint64(n) > uint64(len(r.data)-r.pos) {
		r.failf("%d bytes wanted, %d left", n, len(r.data)-r.pos)
		return nil
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

func (r *reader) byte() byte {
	if b := r.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.bytes(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.bytes(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) lsn() cdc.LSN { return cdc.LSN(r.uint64()) }

func (r *reader) time() time.Time { return pgTime(int64(r.uint64())) }

// string gives a copy of the text up to the next zero byte.
func (r *reader) string() string {
	if r.reason != "" {
		return ""
	}
	n := bytes.IndexByte(r.data[r.pos:], 0)
	if n < 0 {
		r.failf("name without an end")
		return ""
	}
	s := string(r.data[r.pos : r.pos+n])
	r.pos += n + 1
	return s
}
