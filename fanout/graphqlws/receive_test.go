package graphqlws

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// clientFrame is a client's frame, masked with zeros.
func clientFrame(first byte, payload int) []byte {
	f := []byte{first, bitMasked | byte(payload)}
	if payload >= length16 {
		f = []byte{first, bitMasked | length16, byte(payload >> 8), byte(payload)}
	}
	return append(f, make([]byte, maskBytes+payload)...)
}

// Whoever reads may rest between messages, and nowhere else: in the middle of one the library
// would forget what it has.
func TestOnlyBetweenMessagesIsThereNothingToRead(t *testing.T) {
	t.Parallel()
	const text, more, ping = 0x1, 0x0, 0x9
	var stream []byte
	rest := map[int]bool{0: true} // offsets
	for _, f := range []struct {
		first   byte
		payload int
		rest    bool
	}{
		{bitFinal | text, 20, true},
		{bitFinal | ping, 0, true},
		{text, 0, false},
		{bitFinal | ping, 3, false},
		{more, 130, false},
		{bitFinal | ping, 125, false},
		{bitFinal | more, 70_000 & 0xFFFF, true},
		{bitFinal | text, 0, true},
	} {
		stream = append(stream, clientFrame(f.first, f.payload)...)
		rest[len(stream)] = f.rest
	}
	for _, size := range []int{1, 2, 3, 5, 64, 512, len(stream)} {
		var at place
		for i := 0; i < len(stream); i += size {
			end := min(i+size, len(stream))
			if at.pass(stream[i:end]); at.between() != rest[end] {
				t.Fatalf("%d bytes at a time: between messages at %d is %v", size, end, at.between())
			}
		}
	}
}

// pair gives both ends of a connection.
func pair(t *testing.T) (server, client net.Conn) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close(); _ = client.Close() })
	return server, client
}

func resting(t *testing.T) (*below, net.Conn) {
	t.Helper()
	server, client := pair(t)
	b := &below{Conn: server, gone: make(chan struct{}), inbound: inbound{over: new(atomic.Bool), raw: rests(server)}}
	if b.raw == nil {
		t.Fatal("there is nowhere to rest")
	}
	return b, client
}

func TestReadingEndsBetweenMessagesUntilThereIsMore(t *testing.T) {
	t.Parallel()
	b, client := resting(t)
	read := make([]byte, 1000)
	for range 3 {
		if _, err := b.Read(read); !errors.Is(err, errNothing) {
			t.Fatalf("between messages: %v", err)
		}
		message := clientFrame(bitFinal|1, 30)
		_, _ = client.Write(message[:7])
		b.rest()
		if n, err := b.Read(read); n != 7 || err != nil {
			t.Fatalf("the beginning: %d bytes, %v", n, err)
		}
		_, _ = client.Write(message[7:])
		if _, err := io.ReadFull(b, read[:len(message)-7]); err != nil {
			t.Fatalf("the rest of it: %v", err)
		}
	}
	b.over.Store(true) // whoever closes waits for the client's close frame
	_, _ = client.Write([]byte{bitFinal | 8})
	if n, err := b.Read(read); n != 1 || err != nil {
		t.Errorf("when it is over: %d bytes, %v", n, err)
	}
}

func TestRestEndsWithTheConnection(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(b *below, client net.Conn){
		"the service": func(b *below, _ net.Conn) { _ = b.Close() },
		"the client":  func(_ *below, client net.Conn) { _ = client.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, client := resting(t)
			go end(b, client)
			b.rest()
			if _, err := b.Read(make([]byte, 1)); err == nil || errors.Is(err, errNothing) {
				t.Errorf("read: %v", err)
			}
		})
	}
}
