package graphqlws

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT of tcp(7).
const tcpUserTimeout = 18

// boundUnanswered has the system end a connection on which what was sent is not acknowledged in time:
// a quarter of an hour otherwise, where the other end has vanished.
func boundUnanswered(n net.Conn, d time.Duration) {
	for {
		below, ok := n.(interface{ NetConn() net.Conn }) // TLS
		if !ok {
			break
		}
		n = below.NetConn()
	}
	c, ok := n.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	// What is not there is only noticed later.
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(d.Milliseconds())) //nolint:gosec // a descriptor
	})
}
