package graphqlws

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A recorder is a connection that remembers each write.
type recorder struct {
	net.Conn
	writes [][]byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.writes = append(r.writes, bytes.Clone(p))
	return len(p), nil
}

func (r *recorder) Read(p []byte) (int, error) { return copy(p, "later"), io.EOF }

func (*recorder) SetWriteDeadline(time.Time) error { return nil }

func TestFramesSayHowLongTheyAre(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 1 << 20} {
		text := bytes.Repeat([]byte("x"), n)
		b := appendFrame([]byte("before"), text[:n/3], text[n/3:])[len("before"):]
		if b[0] != 0x81 {
			t.Fatalf("%d bytes: begins with %x", n, b[0])
		}
		head, size := 2, uint64(b[1])
		switch b[1] {
		case 126:
			head, size = 4, uint64(binary.BigEndian.Uint16(b[2:]))
		case 127:
			head, size = 10, binary.BigEndian.Uint64(b[2:])
		}
		if size != uint64(n) || !bytes.Equal(b[head:], text) {
			t.Errorf("%d bytes: the frame says %d, and has %d", n, size, len(b)-head)
		}
	}
}

// RFC 6455, 5.5.1.
func TestNothingFollowsTheCloseFrame(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	b := &below{Conn: r, within: time.Second}
	if err := b.frames([]byte("frames")); err != nil {
		t.Fatal(err)
	}
	for _, control := range [][]byte{{0x8A, 0}, {0x88, 0}} {
		if _, err := b.Write(control); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.frames([]byte("more")); !errors.Is(err, errShut) {
		t.Errorf("got %v", err)
	}
	if len(r.writes) != 3 || string(r.writes[0]) != "frames" {
		t.Errorf("wrote %q", r.writes)
	}
}

// The library's buffer is smaller than the longest control frame.
func TestAControlFrameThatComesInPartsIsWrittenWhole(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	b := &below{Conn: r, within: time.Second}
	w := bufio.NewWriterSize(b, writeBuffer)
	var frames [][]byte
	for _, n := range []int{0, 5, 13, 14, 15, 30, 125} {
		frame := append([]byte{0x8A, byte(n)}, bytes.Repeat([]byte("x"), n)...)
		_ = w.WriteByte(frame[0])
		_ = w.WriteByte(frame[1])
		_, _ = w.Write(frame[2:])
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, frame)
	}
	if !slices.EqualFunc(r.writes, frames, bytes.Equal) {
		t.Errorf("wrote %q", r.writes)
	}
}

func TestWhatCameWithTheRequestIsReadFirst(t *testing.T) {
	t.Parallel()
	b := &below{Conn: &recorder{}, inbound: inbound{early: []byte("early")}}
	got, err := io.ReadAll(io.MultiReader(io.LimitReader(b, 3), b))
	if err != nil || string(got) != "earlylater" {
		t.Errorf("read %q, %v", got, err)
	}
}

func TestAReaderThatStandsStillEndsTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		b := &below{Conn: ours, within: time.Second}
		if err := b.frames([]byte("nobody reads this")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

// An unusually large message is not remembered.
func TestBuffersDoNotGrowForEver(t *testing.T) {
	t.Parallel()
	var b buffers
	p := b.get()
	p.frames = append(p.frames, make([]byte, 3*sendBytes)...)
	b.put(p)
	if q := b.get(); cap(q.frames) > 2*sendBytes {
		t.Errorf("a buffer of %d bytes is kept", cap(q.frames))
	}
}
