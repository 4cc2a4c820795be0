package progress

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
)

func TestABarIsDrawnOnATerminal(t *testing.T) {
	t.Parallel()
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	b := New(theirs, "Downloading", 4<<20)
	now := time.Unix(0, 0)
	b.now = func() time.Time { return now }
	for range 2 {
		now = now.Add(time.Second)
		if _, err := b.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		_, _ = b.Write(nil) // too soon to be drawn
	}
	b.Done()
	if _, err := io.WriteString(theirs, "end"); err != nil {
		t.Fatal(err)
	}
	var said []byte
	buf := make([]byte, 1024)
	for !bytes.HasSuffix(said, []byte("end")) {
		n, err := ours.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		said = append(said, buf[:n]...)
	}
	want := "\rDownloading [#######.......................] 1.0 of 4.0 MB" +
		"\rDownloading [###############...............] 2.0 of 4.0 MB\r\x1b[Kend"
	if string(said) != want {
		t.Errorf("it drew %q, want %q", said, want)
	}
	_ = theirs.Close()
}

func TestABarIsDrawnNowhereElse(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	b := New(&out, "Downloading", 0)
	if n, err := b.Write([]byte("abc")); n != 3 || err != nil {
		t.Error(n, err)
	}
	b.Done()
	if out.Len() > 0 {
		t.Errorf("it drew %q", &out)
	}
	if got := b.line(); got != "Downloading 0.0 MB" {
		t.Errorf("without a total it is %q", got)
	}
}
