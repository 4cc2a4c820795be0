package graphqlws

import (
	"bytes"
	"errors"
	"net"
	"os"
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

func (*recorder) SetWriteDeadline(time.Time) error { return nil }

func TestWhatIsHeldIsWrittenTogether(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	g := &gatherer{Conn: r}
	write := func(s string) {
		if n, err := g.Write([]byte(s)); n != len(s) || err != nil {
			t.Fatal(n, err)
		}
	}
	write("a")
	g.hold()
	for range 10 {
		write("b")
	}
	if len(r.writes) != 1 {
		t.Errorf("%d writes while held, want none but the first", len(r.writes))
	}
	if err := g.release(time.Second); err != nil {
		t.Fatal(err)
	}
	write("c")
	if got := string(bytes.Join(r.writes, []byte("|"))); got != "a|bbbbbbbbbb|c" {
		t.Errorf("wrote %s", got)
	}
	g.hold()
	big := bytes.Repeat([]byte("x"), gatherBytes)
	if _, err := g.Write(big); err != nil {
		t.Fatal(err)
	}
	if len(r.writes) != 4 || g.buf != nil {
		t.Errorf("%d writes and %d bytes kept: what is held is not bounded", len(r.writes), cap(g.buf))
	}
}

func TestAReaderThatStandsStillEndsTheWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		g := &gatherer{Conn: ours}
		g.hold()
		if _, err := g.Write([]byte("nobody reads this")); err != nil {
			t.Fatal(err)
		}
		if err := g.release(time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}
