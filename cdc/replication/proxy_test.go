package replication

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// A proxy passes connections on, until it is told to keep them and pass nothing: what a router
// that forgot a connection does.
type proxy struct {
	url string

	mu     sync.Mutex
	frozen chan struct{} // closed when the connections of now are frozen
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := u.Host
	u.Host = l.Addr().String()
	p := &proxy{url: u.String(), frozen: make(chan struct{})}
	var all sync.WaitGroup
	ended := make(chan struct{})
	t.Cleanup(func() {
		close(ended)
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(t, &all, client, server, ended) })
		}
	})
	return p
}

func (p *proxy) serve(t *testing.T, all *sync.WaitGroup, client net.Conn, address string, ended <-chan struct{}) {
	t.Helper()
	p.mu.Lock()
	frozen := p.frozen
	p.mu.Unlock()
	var d net.Dialer
	server, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		client.Close()
		return
	}
	all.Go(func() {
		<-ended
		client.Close()
		server.Close()
	})
	pass := func(to, from net.Conn) {
		buf := make([]byte, 64<<10)
		for {
			n, err := from.Read(buf)
			select {
			case <-frozen:
				_, _ = io.Copy(io.Discard, from) // neither passed on nor refused
				return
			default:
			}
			if err != nil {
				to.Close()
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	all.Go(func() { pass(server, client) })
	pass(client, server)
}

// freeze stops the connections there are; new ones are passed on.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.frozen)
	p.frozen = make(chan struct{})
}
