//go:build !linux

package graphqlws

import (
	"net"
	"time"
)

// boundUnanswered does nothing: the system ends such a connection when it sees fit.
func boundUnanswered(net.Conn, time.Duration) {}
